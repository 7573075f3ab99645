"""Convert padding, sampling, windows and shuffling of images and sequences."""

from typing import Any

import numpy as np

from keras3conv.builder.program.program import Value, identity
from keras3conv.builder.program.structure import Argument
from keras3conv.builder.to_keras.call import Call, Result, handles, ops, own
from keras3conv.builder.to_keras.forms import Constant
from keras3conv.builder.to_keras.layouts import channels_last
from keras3conv.builder.to_keras.operations_axes import permuted, reshaped
from keras3conv.builder.to_keras.operations_indexing import picked, sliced, taken_along
from keras3conv.builder.to_keras.sizes import plus
from keras3conv.errors import RuleError
from keras3conv.model.graph import Size

_PADS = tuple(f"{kind}_pad{rank}d" for kind in ("reflection", "replication") for rank in (1, 2, 3))


@handles("pad", "constant_pad_nd", *_PADS)
def _pad(call: Call) -> Result:
    value, pad = call.value("self"), call.get("pad", call.get("padding"))
    mode = {"reflection": "reflect", "replication": "replicate"}.get(call.name.partition("_")[0], "")
    mode = mode or call.get("mode", "constant")
    ends = {value.rank - 1 - place // 2: (pad[place], pad[place + 1]) for place in range(0, len(pad), 2)}
    if any(not isinstance(width, int) for end in ends.values() for width in end):
        raise RuleError("the width of the padding depends on a dynamic size, but Keras pads only by fixed widths")
    for axis, (before, after) in ends.items():
        value = _cut(call, value, axis, before, after)
    widths = tuple(tuple(max(width, 0) for width in ends.get(axis, (0, 0))) for axis in value.order)
    if not any(map(any, widths)):
        return value
    if mode == "reflect" and value.rank > 4:  # Keras on torch pads at most two axes by reflection
        return _reflected(call, value, ends)
    if mode in ("replicate", "circular"):
        for axis, (before, after) in ends.items():
            value = _repeated_border(call, value, axis, before, after, mode)
        return value
    options: dict[str, Any] = {} if mode == "constant" else {"mode": mode}
    if mode == "constant" and call.get("value", 0):
        options["constant_values"] = call.arguments["value"]
    return call.step(ops.pad(value, widths, **options), order=value.order)


def _reflected(call: Call, value: Value, pads: dict[int, tuple[int, int]]) -> Value:
    """Return a value padded by reflection, computed by indexing along each axis: [2, 1, 0, 1, 2, ...].

    Args:
        call: The call.
        value: The value.
        pads: For each axis to pad, the numbers of elements to add at the start and at the end.
    """
    for axis, widths in pads.items():
        size = value.shape[axis]
        if not isinstance(size, int):
            raise RuleError(f"axis {axis} has a dynamic size, but a padding with mode='reflect' needs a fixed size")
        places = np.pad(np.arange(size), [max(width, 0) for width in widths], mode="reflect")
        index = Constant(name=f"{call.node.outputs[0].name} {axis}", array=places, shape=places.shape)
        value = taken_along(call, value, axis, index) if any(widths) else value
    return value


def _cut(call: Call, value: Value, axis: int, before: int, after: int) -> Value:
    """Return a value cropped along one axis: a negative number `before` or `after` removes as many elements there."""
    size = value.shape[axis]
    if before >= 0 and after >= 0:
        return value
    if not isinstance(size, int):
        raise RuleError(
            f"axis {axis} has a dynamic size, but a padding with a negative width, which crops, needs a fixed size"
        )
    start, end = max(-before, 0), size - max(-after, 0)
    shape = tuple(end - start if one == axis else other for one, other in enumerate(value.shape))
    return sliced(call, value, axis, start, end, 1, shape)


def _repeated_border(call: Call, value: Value, axis: int, before: int, after: int, mode: str) -> Value:
    """Return a value padded along an axis, with its border values or with the values at its other end.

    Args:
        call: The call.
        value: The value.
        axis: The axis, in torch's order.
        before: The number of elements to add at the start.
        after: The number of elements to add at the end.
        mode: "replicate" for the border values, "circular" for the values at the other end.
    """
    size = value.shape[axis]
    if not before and not after:
        return value
    if not isinstance(size, int):
        raise RuleError(f"axis {axis} has a dynamic size, but a padding with mode={mode!r} needs a fixed size")

    def part(start: int, stop: int, times: int) -> Value:
        shape = tuple(stop - start if one == axis else other for one, other in enumerate(value.shape))
        found = sliced(call, value, axis, start, stop, 1, shape)
        if times == 1:
            return found
        grown = tuple(times if one == axis else other for one, other in enumerate(value.shape))
        repeated = ops.repeat(found, times, axis=value.order.index(axis))
        return call.step(repeated, grown, value.order, value.dtype)

    if mode == "circular":
        parts = [*([part(size - before, size, 1)] if before else []), value, *([part(0, after, 1)] if after else [])]
    else:
        parts = [*([part(0, 1, before)] if before else []), value, *([part(size - 1, size, after)] if after else [])]
    shape = tuple(size + before + after if one == axis else other for one, other in enumerate(value.shape))
    return call.step(ops.concatenate(parts, axis=value.order.index(axis)), shape, value.order, value.dtype)


@handles("pixel_shuffle")
def _pixel_shuffle(call: Call) -> Result:
    value, factor = call.value("self"), call.arguments["upscale_factor"]
    batch, channels, height, width = value.shape
    parts = (batch, channels // factor**2, factor, factor, height, width)
    moved = permuted(reshaped(call, value, parts), (0, 1, 4, 2, 5, 3))
    return reshaped(call, moved, call.shape)


@handles("pixel_unshuffle")
def _pixel_unshuffle(call: Call) -> Result:
    value, factor = call.value("self"), call.arguments["downscale_factor"]
    batch, channels, height, width = call.shape
    parts = (batch, channels // factor**2, height, factor, width, factor)
    moved = permuted(reshaped(call, value, parts), (0, 1, 3, 5, 2, 4))
    return reshaped(call, moved, call.shape)


@handles("channel_shuffle")
def _channel_shuffle(call: Call) -> Result:
    value, groups = call.value("self"), call.arguments["groups"]
    batch, channels, *spatial = value.shape
    parts = (batch, groups, channels // groups, *spatial)
    moved = permuted(reshaped(call, value, parts), (0, 2, 1, *range(3, value.rank + 1)))
    return reshaped(call, moved, call.shape)


@handles("im2col")
def _unfold(call: Call) -> Result:
    """Convert `im2col`: stack strided slices of the image, one for each position in the window."""
    value = call.ordered(call.arguments["self"], call.writer.image_order(4))
    size, gaps, pads, steps = (call.arguments[name] for name in ("kernel_size", "dilation", "padding", "stride"))
    batch, channels, *space = value.shape
    if any(isinstance(one, Size) for one in space):
        raise RuleError("unfold needs images of a fixed size, but a spatial axis of its input is dynamic")
    numbers = [one for one in space if isinstance(one, int)]
    padded = _zeros_around(call, value, pads)
    made = [
        (one + 2 * pad - gap * (window - 1) - 1) // step + 1
        for one, window, gap, pad, step in zip(numbers, size, gaps, pads, steps, strict=True)
    ]
    parts = []
    for row in range(size[0]):
        for column in range(size[1]):
            found = padded
            for axis, start in enumerate((row * gaps[0], column * gaps[1])):
                step, count = steps[axis], made[axis]
                shape = tuple(count if one == axis + 2 else other for one, other in enumerate(found.shape))
                found = sliced(call, found, axis + 2, start, start + (count - 1) * step + 1, step, shape)
            parts.append(found)
    order = parts[0].order
    place = order.index(1) + 1
    moved = [axis + (axis >= 2) for axis in order]
    stacked = call.step(
        ops.stack(parts, axis=place),
        (batch, channels, len(parts), *made),
        (*moved[:place], 2, *moved[place:]),
        value.dtype,
    )
    return reshaped(call, stacked, call.shape)


def _zeros_around(call: Call, value: Value, pads: list[int]) -> Value:
    if not any(pads):
        return value
    ends = {axis: (pad, pad) for axis, pad in enumerate(pads, 2)}
    sizes = tuple(plus(size, sum(ends[axis])) if axis in ends else size for axis, size in enumerate(value.shape))
    widths = tuple(ends.get(axis, (0, 0)) for axis in value.order)
    return call.step(ops.pad(value, widths), sizes, value.order, value.dtype)


@handles("col2im")
def _fold(call: Call) -> Result:
    """Convert `col2im`, the transpose of `im2col`: add each window to its position in the image."""
    value = call.value("self")
    size, gaps, pads, steps = (call.arguments[name] for name in ("kernel_size", "dilation", "padding", "stride"))
    whole = call.arguments["output_size"]
    batch, channels = call.shape[:2]
    counts = [
        (one + 2 * pad - gap * (window - 1) - 1) // step + 1
        for one, window, gap, pad, step in zip(whole, size, gaps, pads, steps, strict=True)
    ]
    parts = reshaped(call, value, (batch, channels, size[0] * size[1], *counts))
    total: Value | None = None
    for place in range(size[0] * size[1]):
        found = picked(call, parts, 2, place, (batch, channels, *counts))
        for axis, start in enumerate((place // size[1] * gaps[0], place % size[1] * gaps[1]), 2):
            length = whole[axis - 2] + 2 * pads[axis - 2]
            found = _spread_out(call, found, axis, start, steps[axis - 2], length)
        total = found if total is None else call.step(total + found, found.shape, found.order, found.dtype)
    assert total is not None
    for axis, pad in enumerate(pads, 2):
        shape = tuple(whole[axis - 2] if one == axis else other for one, other in enumerate(total.shape))
        total = sliced(call, total, axis, pad, pad + whole[axis - 2], 1, shape)
    return total


def _spread_out(call: Call, value: Value, axis: int, start: int, step: int, length: int) -> Value:
    """Return a value with zeros inserted along an axis: before, between and after its positions.

    Args:
        call: The call.
        value: The value.
        axis: The axis.
        start: The position of the first element in the result.
        step: The distance of two elements in the result that are adjacent in the value.
        length: The size of the axis in the result.
    """
    count, place = value.shape[axis], value.order.index(axis)
    assert isinstance(count, int)

    def padded(tensor: Value, widths: tuple[int, int], size: int) -> Value:
        pads = tuple(widths if one == place else (0, 0) for one in range(tensor.rank))
        shape = tuple(size if one == axis else other for one, other in enumerate(tensor.shape))
        return call.step(ops.pad(tensor, pads), shape, tensor.order, tensor.dtype) if any(widths) else tensor

    if step > 1:
        apart = call.step(
            ops.reshape(
                ops.pad(
                    ops.expand_dims(value, place + 1),
                    tuple((0, step - 1) if one == place + 1 else (0, 0) for one in range(value.rank + 1)),
                ),
                tuple(
                    count * step if one == place else size if isinstance(size, int) else -1
                    for one, size in enumerate(value.target_shape)
                ),
            ),
            tuple(count * step if one == axis else other for one, other in enumerate(value.shape)),
            value.order,
            value.dtype,
        )
        ends = tuple((count - 1) * step + 1 if one == axis else other for one, other in enumerate(value.shape))
        value = sliced(call, apart, axis, 0, (count - 1) * step + 1, 1, ends)
        count = (count - 1) * step + 1
    return padded(value, (start, length - start - count), length)


_FUNCTIONS = ("grid_sample", "grid_sample_nearest", "grid_sample_bicubic")
"""The function for each number of an interpolation mode in torch."""

_PADDINGS = (None, Argument("to_border"), Argument("reflected"))
"""The function that moves positions into an image, for each number of a padding mode in torch."""


@handles("grid_sampler", "grid_sampler_2d", "grid_sampler_3d")
def _grid_sample(call: Call) -> Result:
    order = channels_last(len(call.shape))
    images = call.ordered(call.arguments["input"], order)
    grid = call.ordered(call.arguments["grid"], identity(len(call.shape)))
    if any(isinstance(size, Size) for size in (*images.shape[1:], *grid.shape[1:])):
        raise RuleError("grid_sample needs images and grids of a fixed size, but an axis beside the batch is dynamic")
    options: dict[str, Any] = {}
    if padding := _PADDINGS[call.arguments["padding_mode"]]:
        options["padding"] = padding
    if call.arguments["align_corners"]:
        options["align_corners"] = True
    sample = own.named(_FUNCTIONS[call.arguments["interpolation_mode"]])
    return call.step(sample(images, grid, **options), order=order)
