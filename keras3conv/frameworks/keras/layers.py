"""Define Keras layers for torch functions that no layer or function of Keras computes exactly.

Converted models contain these layers, so they are ordinary Keras layers: they use slices, gathers and matrix products,
work on every backend, are channels-last, and are registered under the package name "keras3conv". The sizes of the axes
that they change must be known when they are called.
"""

from functools import reduce
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras3conv.frameworks.keras.layer_bases import Configured, Windows, known_size
from keras3conv.transforms.resize import interpolation_weights

Sizes = int | tuple[int, ...]

_serializable = keras.saving.register_keras_serializable(package="keras3conv")


@_serializable
class Softplus(Configured):
    """Compute `log(1 + exp(beta * x)) / beta`, and `x` itself where `beta * x` is above the threshold.

    Args:
        beta: The sharpness of the bend.
        threshold: The value of `beta * x` above which the function is linear.
        **keywords: Arguments of `keras.layers.Layer`, such as `name`.
    """

    def __init__(self, beta: float = 1.0, threshold: float = 20.0, **keywords: Any) -> None:
        super().__init__({"beta": beta, "threshold": threshold}, **keywords)

    def call(self, inputs: Any) -> Any:
        """Return the softplus of every element."""
        scaled = inputs * self.beta
        return keras.ops.where(scaled > self.threshold, inputs, keras.ops.softplus(scaled) / self.beta)


@_serializable
class Pad(Configured):
    """Pad all axes except the first and the last with values of the input.

    Args:
        padding: The number of values before and after, for each of these axes.
        mode: The values to pad with: "edge" (the outermost value), "reflect" (mirrored at the outermost value) or
            "wrap" (from the other end).
        **keywords: Arguments of `keras.layers.Layer`, such as `name`.
    """

    def __init__(self, padding: tuple[tuple[int, int], ...], mode: str, **keywords: Any) -> None:
        super().__init__({"padding": padding, "mode": mode}, **keywords)

    def call(self, inputs: Any) -> Any:
        """Return the padded input, by gathering the values along one axis after the other."""
        for axis, (before, after) in enumerate(self.padding, 1):
            places = np.pad(np.arange(known_size(inputs, axis)), (before, after), mode=self.mode)
            inputs = keras.ops.take(inputs, places, axis=axis)
        return inputs


@_serializable
class WindowMaximum(Windows):
    """Maximum pooling with the padding, dilation and rounding of torch.

    Args:
        pool_size: The size of a window, for each axis.
        strides: The distance between windows.
        padding: The number of positions added at both ends; they are never the maximum.
        dilation_rate: The distance between the values of a window.
        ceil_mode: Whether to include a last, partial window.
        **keywords: Arguments of `keras.layers.Layer`, such as `name`.
    """

    def __init__(
        self,
        pool_size: tuple[int, ...],
        strides: Sizes,
        padding: Sizes = 0,
        dilation_rate: Sizes = 1,
        ceil_mode: bool = False,
        **keywords: Any,
    ) -> None:
        settings = {"pool_size": pool_size, "strides": strides, "padding": padding, "dilation_rate": dilation_rate}
        super().__init__(settings | {"ceil_mode": ceil_mode}, **keywords)

    def call(self, inputs: Any) -> Any:
        """Return the maximum of each window, computed along one axis after the other."""
        for axis in range(1, len(self.axes) + 1):
            inputs = reduce(keras.ops.maximum, self.windows(inputs, axis, float("-inf")))
        return inputs


@_serializable
class WindowAverage(Windows):
    """Average pooling with the padding, rounding and divisors of torch.

    Args:
        pool_size: The size of a window, for each axis.
        strides: The distance between windows.
        padding: The number of zeros added at both ends.
        ceil_mode: Whether to include a last, partial window.
        count_include_pad: Whether the added zeros count for the divisor.
        divisor_override: The divisor of every sum; None for the number of values that count.
        **keywords: Arguments of `keras.layers.Layer`, such as `name`.
    """

    def __init__(
        self,
        pool_size: tuple[int, ...],
        strides: Sizes,
        padding: Sizes = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
        **keywords: Any,
    ) -> None:
        settings: dict[str, Any] = {"pool_size": pool_size, "strides": strides, "padding": padding}
        settings |= {"ceil_mode": ceil_mode, "count_include_pad": count_include_pad}
        super().__init__(settings | {"divisor_override": divisor_override}, **keywords)

    def call(self, inputs: Any) -> Any:
        """Return the average of each window: sum along one axis after the other, then divide once."""
        divisor: Any = self.divisor_override or 1
        for axis in range(1, len(self.axes) + 1):
            if self.divisor_override is None:
                shape = [-1 if place == axis else 1 for place in range(len(inputs.shape))]
                divisor = divisor * self._counted(known_size(inputs, axis), axis).reshape(shape)
            inputs = reduce(keras.ops.add, self.windows(inputs, axis, 0.0))
        return inputs / keras.ops.convert_to_tensor(divisor, dtype=inputs.dtype)

    def _counted(self, size: int, axis: int) -> NDArray[np.int64]:
        """Return the number of values by which the sum of each window along an axis is divided, in a vector."""
        window, stride, padding, _ = self.axes[axis - 1]
        start = np.arange(self.count(size, axis)) * stride - padding
        end = np.minimum(start + window, size + padding)
        counted = end - start if self.count_include_pad else np.minimum(end, size) - np.maximum(start, 0)
        return np.asarray(counted, np.int64)


@_serializable
class Resample(Configured):
    """Resize all axes except the first and the last, as `torch.nn.functional.interpolate`.

    Args:
        size: The new size of each axis, or one size for all axes; None to use `scale_factor`.
        scale_factor: The factor for each axis, or one factor for all axes.
        mode: "nearest", "nearest-exact", "linear", "bilinear", "trilinear" or "bicubic".
        align_corners: Whether the centers of the outermost pixels stay in place; if False, their outer edges do.
        recompute_scale_factor: Whether to compute the scale from the rounded sizes instead of using the given one.
        **keywords: Arguments of `keras.layers.Layer`, such as `name`.
    """

    def __init__(
        self,
        size: Sizes | None = None,
        scale_factor: float | tuple[float, ...] | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
        **keywords: Any,
    ) -> None:
        settings = {"size": size, "scale_factor": scale_factor, "mode": mode, "align_corners": align_corners}
        super().__init__(settings | {"recompute_scale_factor": recompute_scale_factor}, **keywords)

    def call(self, inputs: Any) -> Any:
        """Return the resized input, computed along one axis after the other."""
        for axis in range(1, len(inputs.shape) - 1):
            before = known_size(inputs, axis)
            after, scale = self._target(before, axis)
            if self.mode.startswith("nearest"):
                inputs = keras.ops.take(inputs, _nearest(before, after, scale, self.mode), axis=axis)
            else:
                cubic, align = "cubic" in self.mode, bool(self.align_corners)
                weights = interpolation_weights(before, after, scale, cubic=cubic, align=align)
                matrix = keras.ops.convert_to_tensor(weights.T, dtype=inputs.dtype)
                inputs = keras.ops.moveaxis(keras.ops.matmul(keras.ops.moveaxis(inputs, axis, -1), matrix), -1, axis)
        return inputs

    def _target(self, before: int, axis: int) -> tuple[int, float]:
        """Return the new size of an axis, and the scale: old size / new size, or 1 / the given `scale_factor`."""
        if self.size is not None:
            after = self.size if isinstance(self.size, int) else self.size[axis - 1]
            return after, before / after
        factor = self.scale_factor if isinstance(self.scale_factor, int | float) else self.scale_factor[axis - 1]
        after = int(before * factor)
        return after, before / after if self.recompute_scale_factor else 1 / factor


@_serializable
class PixelShuffle(Configured):
    """Move channels to spatial positions of larger images, as `torch.nn.PixelShuffle`.

    Args:
        upscale_factor: The factor of height and width.
        **keywords: Arguments of `keras.layers.Layer`, such as `name`.
    """

    def __init__(self, upscale_factor: int, **keywords: Any) -> None:
        super().__init__({"upscale_factor": upscale_factor}, **keywords)

    def call(self, inputs: Any) -> Any:
        """Return the images with channels moved to spatial positions, by a reshape, a transpose and a reshape."""
        (_, height, width, _), factor = keras.ops.shape(inputs), self.upscale_factor
        channels = known_size(inputs, 3) // factor**2
        cells = keras.ops.reshape(inputs, (-1, height, width, channels, factor, factor))
        cells = keras.ops.transpose(cells, (0, 1, 4, 2, 5, 3))
        return keras.ops.reshape(cells, (-1, height * factor, width * factor, channels))


@_serializable
class PixelUnshuffle(Configured):
    """Move spatial positions of images to channels, as `torch.nn.PixelUnshuffle`.

    Args:
        downscale_factor: The divisor of height and width.
        **keywords: Arguments of `keras.layers.Layer`, such as `name`.
    """

    def __init__(self, downscale_factor: int, **keywords: Any) -> None:
        super().__init__({"downscale_factor": downscale_factor}, **keywords)

    def call(self, inputs: Any) -> Any:
        """Return the images with spatial positions moved to channels, by a reshape, a transpose and a reshape."""
        (_, height, width, _), factor = keras.ops.shape(inputs), self.downscale_factor
        height, width, channels = height // factor, width // factor, known_size(inputs, 3)
        cells = keras.ops.reshape(inputs, (-1, height, factor, width, factor, channels))
        cells = keras.ops.transpose(cells, (0, 1, 3, 5, 2, 4))
        return keras.ops.reshape(cells, (-1, height, width, channels * factor**2))


@_serializable
class ChannelShuffle(Configured):
    """Interleave groups of channels, as `torch.nn.ChannelShuffle`.

    Args:
        groups: The number of groups.
        **keywords: Arguments of `keras.layers.Layer`, such as `name`.
    """

    def __init__(self, groups: int, **keywords: Any) -> None:
        super().__init__({"groups": groups}, **keywords)

    def call(self, inputs: Any) -> Any:
        """Return the images with their channels in the new order, by a gather."""
        order = np.arange(known_size(inputs, -1)).reshape(self.groups, -1).T.ravel()
        return keras.ops.take(inputs, order, axis=-1)


@_serializable
class FlattenAxes(Configured):
    """Merge several adjacent axes into one.

    Args:
        start_axis: The first axis to merge.
        end_axis: The last axis to merge.
        **keywords: Arguments of `keras.layers.Layer`, such as `name`.
    """

    def __init__(self, start_axis: int = 1, end_axis: int = -1, **keywords: Any) -> None:
        super().__init__({"start_axis": start_axis, "end_axis": end_axis}, **keywords)

    def call(self, inputs: Any) -> Any:
        """Return the input, reshaped so that the axes are merged."""
        rank, sizes = len(inputs.shape), keras.ops.shape(inputs)
        start, end = self.start_axis % rank, self.end_axis % rank + 1
        merged = -1 if None in inputs.shape[start:end] else int(np.prod(inputs.shape[start:end]))
        return keras.ops.reshape(inputs, (*sizes[:start], merged, *sizes[end:]))


@_serializable
class UnflattenAxis(Configured):
    """Split one axis into several.

    Args:
        axis: The axis to split.
        shape: The sizes of the new axes; one size may be -1.
        **keywords: Arguments of `keras.layers.Layer`, such as `name`.
    """

    def __init__(self, axis: int, shape: tuple[int, ...], **keywords: Any) -> None:
        super().__init__({"axis": axis, "shape": shape}, **keywords)

    def call(self, inputs: Any) -> Any:
        """Return the input, reshaped so that the axis is split."""
        place, sizes = self.axis % len(inputs.shape), keras.ops.shape(inputs)
        known = int(np.prod([size for size in self.shape if size != -1]))
        target = [known_size(inputs, place) // known if size == -1 else size for size in self.shape]
        return keras.ops.reshape(inputs, (*sizes[:place], *target, *sizes[place + 1 :]))


def _nearest(before: int, after: int, scale: float, mode: str) -> NDArray[np.int64]:
    """Return the old position for each new position of a nearest-neighbour resize, rounded in float32 as in torch."""
    if mode == "nearest" and after in (before, 2 * before):
        return np.arange(after) * before // after
    shift = 0.5 if mode == "nearest-exact" else 0.0
    source = ((np.arange(after) + shift) * np.float64(np.float32(scale))).astype(np.float32)
    return np.minimum(np.floor(source), before - 1).astype(np.int64)
