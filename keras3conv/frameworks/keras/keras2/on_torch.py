"""Define the layers of an old model that Keras' torch backend computes differently from Keras 2, or not at all.

In Keras 2, an average pooling with padding="same" leaves the padding out of the average. Keras' torch backend repeats
the last value along an axis with more padding at its end than at its start, and counts it. A layer normalisation over
axes that are not the last ones raises an exception on this backend, and a bicubic resize has another kernel.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import keras
import numpy as np
from keras import ops

from keras3conv.frameworks.keras.view import STANDS_FOR_ITS_BASE
from keras3conv.rules.helpers.padding import same_padding
from keras3conv.transforms import Array


def average_without_padding(
    inputs: Any, window: Sequence[int], strides: Sequence[int], data_format: str = "channels_last"
) -> Any:
    """Return the averages of windows with padding="same", each over those of its values that are not padding.

    Args:
        inputs: The tensor; the sizes of its axes between batch and channels must be known.
        window: The size of the window along each of these axes.
        strides: The strides of the window.
        data_format: "channels_last" or "channels_first".
    """
    first = 1 if data_format == "channels_last" else 2
    sizes = tuple(inputs.shape[first : first + len(window)])
    axes = [same_padding(*axis) for axis in zip(sizes, window, strides, strict=True)]
    widths = [(0, 0)] * len(inputs.shape)
    widths[first : first + len(window)] = axes
    padded = ops.pad(inputs, tuple(widths)) if any(map(any, axes)) else inputs
    found = ops.average_pool(padded, tuple(window), tuple(strides), "valid", data_format=data_format)
    if padded is inputs:
        return found
    counts = np.ones((), "float32")
    for size, pads, length, step in zip(sizes, axes, window, strides, strict=True):
        counts = np.multiply.outer(counts, _counts(size, pads, length, step))
    counts = counts[..., None] if first == 1 else counts
    return ops.divide(ops.multiply(found, float(prod(window))), counts)


def _counts(size: int, pads: tuple[int, int], length: int, step: int) -> Array:
    """Return, for each pooling window along one axis, how many of its values are not padding.

    Args:
        size: The size of the axis.
        pads: The padding before and after it.
        length: The size of the window.
        step: The stride of the window.
    """
    is_value = np.pad(np.ones(size, "float32"), pads)
    return np.array([is_value[start : start + length].sum() for start in range(0, len(is_value) - length + 1, step)])


def enlarged_bicubic(images: Any, sizes: tuple[int, ...], data_format: str = "channels_last") -> Any:
    """Enlarge images with the cubic kernel of TensorFlow, without antialiasing.

    On all backends, Keras has this kernel with antialias=True, which changes only images that become smaller.

    Args:
        images: The images; their height and width must be known.
        sizes: The new height and width, each 1, 2, 4, 8, 16 or 32 times the old one: for others, TensorFlow rounds the
            positions of the pixels.
        data_format: "channels_last" or "channels_first".

    Raises:
        ValueError: A new size is no such multiple.
    """
    olds = images.shape[1:3] if data_format == "channels_last" else images.shape[2:4]
    if any(
        old is None or new % old or new // old not in (1, 2, 4, 8, 16, 32) for old, new in zip(olds, sizes, strict=True)
    ):
        raise ValueError(
            f"a bicubic resize from {tuple(olds)} to {sizes} is not supported without antialias, only to a size that "
            "is 2, 4, 8, 16 or 32 times as large"
        )
    return ops.image.resize(images, sizes, interpolation="bicubic", antialias=True, data_format=data_format)


class _Cubic:
    """A mixin for `UpSampling2D`, which enlarges images with the cubic kernel of TensorFlow."""

    interpolation: str
    size: tuple[int, int]
    data_format: str

    def call(self, inputs: Any) -> Any:
        """Return the enlarged images."""
        if self.interpolation != "bicubic":
            return super().call(inputs)  # type: ignore[misc]  # the other base of the class is the layer
        olds = inputs.shape[1:3] if self.data_format == "channels_last" else inputs.shape[2:4]
        sizes = tuple(int(old) * factor for old, factor in zip(olds, self.size, strict=True))
        return enlarged_bicubic(inputs, sizes, self.data_format)


class _WithoutPadding:
    """A mixin for average pooling layers of Keras, which leaves the padding out of the average."""

    padding: str
    pool_size: tuple[int, ...]
    strides: tuple[int, ...]
    data_format: str

    def call(self, inputs: Any) -> Any:
        """Return the averages of the windows."""
        if self.padding != "same":
            return super().call(inputs)  # type: ignore[misc]  # the other base of the class is the layer
        return average_without_padding(inputs, self.pool_size, self.strides, self.data_format)


class _OverAnyAxes:
    """A mixin for `LayerNormalization`, which normalises over any axes, also if they are not the last ones."""

    axis: int | list[int]
    epsilon: float
    gamma: Any
    beta: Any

    def call(self, inputs: Any) -> Any:
        """Return the normalised inputs."""
        rank = len(inputs.shape)
        axes = sorted(axis % rank for axis in (self.axis if isinstance(self.axis, list | tuple) else [self.axis]))
        if axes == list(range(rank - len(axes), rank)):
            return super().call(inputs)  # type: ignore[misc]  # the other base of the class is the layer
        centred = ops.subtract(inputs, ops.mean(inputs, axis=axes, keepdims=True))
        variance = ops.mean(ops.square(centred), axis=axes, keepdims=True)
        found = ops.multiply(centred, ops.rsqrt(ops.add(variance, self.epsilon)))
        shape = [inputs.shape[axis] if axis in axes else 1 for axis in range(rank)]
        found = found if self.gamma is None else ops.multiply(found, ops.reshape(self.gamma, shape))
        return found if self.beta is None else ops.add(found, ops.reshape(self.beta, shape))


def _made(name: str, other: type) -> Any:
    base = getattr(keras.layers, name)
    made = type(f"{name}OfKeras2", (other, base), {"__module__": __name__, STANDS_FOR_ITS_BASE: True})
    return keras.saving.register_keras_serializable("keras3conv")(made)


_LAYERS: Mapping[str, Any] = {
    **{name: _made(name, _WithoutPadding) for name in (f"AveragePooling{rank}D" for rank in (1, 2, 3))},
    "LayerNormalization": _made("LayerNormalization", _OverAnyAxes),
    "UpSampling2D": _made("UpSampling2D", _Cubic),
}


def layers_on_torch() -> Mapping[str, Any]:
    """Return the layers of this module, by the Keras class that each replaces: {"AveragePooling2D": ...}.

    The result is empty on backends other than torch.
    """
    return _LAYERS if keras.backend.backend() == "torch" else {}
