"""Find the layers that one backend of Keras computes differently from the others."""

from collections.abc import Iterator
from typing import Any

import keras

from keras3conv.errors import Problem
from keras3conv.frameworks.keras.keras2.on_torch import is_as_in_keras_2
from keras3conv.frameworks.keras.tree import named_layers

_AVERAGES = (keras.layers.AveragePooling1D, keras.layers.AveragePooling2D, keras.layers.AveragePooling3D)
_RESIZES = (keras.layers.UpSampling2D, keras.layers.Resizing)


def deviations(model: keras.layers.Layer) -> Iterator[Problem]:
    """Yield a problem for each layer that the current backend computes differently from TensorFlow.

    These are layers on the torch backend. In an average pooling with padding="same", along each axis with more padding
    at its end than at its start, Keras repeats the last value there, and counts it; TensorFlow and JAX leave the
    padding out of the average. A window of two values has the same average either way. A bicubic resize without
    antialiasing has another kernel in torch.
    """
    if keras.backend.backend() != "torch":
        return
    for path, layer in named_layers(model):
        if is_as_in_keras_2(layer):
            continue
        if isinstance(layer, _AVERAGES) and layer.padding == "same" and _is_padded_unevenly(layer):
            fact = 'Keras\' torch backend repeats the last value for padding="same", and counts it in the average'
            yield Problem(keras=path, fact=f"{fact}; TensorFlow and JAX leave the padding out, as Keras 2 does")
        is_bicubic = isinstance(layer, _RESIZES) and layer.interpolation == "bicubic"
        if is_bicubic and not getattr(layer, "antialias", False):
            fact = (
                "Keras' torch backend resizes with torch's cubic kernel (-0.75); TensorFlow and JAX, as Keras 2, have"
            )
            yield Problem(keras=path, fact=f"{fact} another one (-0.5)")


def deviation_notes(model: object) -> tuple[str, ...]:
    """Return a note for a report for each layer that the current backend computes differently from the others."""
    if not isinstance(model, keras.layers.Layer):
        return ()
    found = tuple(deviations(model))
    return tuple(f"{problem.keras}: {problem.fact}; KERAS_BACKEND=jax compares with JAX" for problem in found)


def _is_padded_unevenly(layer: Any) -> bool:
    """Return whether a pooling pads an axis more at its end than at its start, or may do so for a dynamic size."""
    for node in layer._inbound_nodes:
        shape = node.input_tensors[0].shape
        sizes = shape[1:-1] if layer.data_format == "channels_last" else shape[2:]
        for size, window, stride in zip(sizes, layer.pool_size, layer.strides, strict=True):
            if window > 2 and size is None and (stride > 1 or window % 2 == 0):
                return True
            if window > 2 and size is not None and max((-(-size // stride) - 1) * stride + window - size, 0) % 2:
                return True
    return False
