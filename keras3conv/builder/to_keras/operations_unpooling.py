"""Convert a max pooling that returns the indices of its maxima, and the unpooling that puts values back there."""

from typing import Any

from keras3conv.builder.program.operation import Dtype
from keras3conv.builder.program.program import Value
from keras3conv.builder.to_keras.call import Call, Result, handles, ops
from keras3conv.builder.to_keras.forms import Maxima
from keras3conv.builder.to_keras.operations_pooling import pooling, spread
from keras3conv.errors import RuleError
from keras3conv.model.graph import Shape

_LAST = (0, 2, 3, 1)
"""The axis order of images with the channels last."""


@handles("max_pool2d_with_indices")
def _pooling_with_indices(call: Call) -> Result:
    pooled = pooling(call)
    assert isinstance(pooled, Value)
    return [pooled, _maxima(call) if call.writer.users(call.node.outputs[1].name) else None]


def _maxima(call: Call) -> Maxima:
    """Return the places of the maxima in the windows of a pooling."""
    given = call.value("self")
    windows = spread(call.arguments["kernel_size"], 2)
    is_apart = spread(call.get("stride") or windows, 2) == windows and not any(spread(call.get("padding", 0), 2))
    is_plain = set(spread(call.get("dilation", 1), 2)) == {1} and not call.get("ceil_mode", False)
    sizes = [size for size in given.shape[2:] if isinstance(size, int)]
    if not (is_apart and is_plain and len(sizes) == 2):
        raise RuleError(
            f"the indices of {call.name} are supported only for images of fixed size and windows that do not overlap "
            "(stride = kernel_size, padding = 0)"
        )
    value = call.ordered(given, _LAST)
    counts = [size // window for size, window in zip(sizes, windows, strict=True)]
    height, width = (count * window for count, window in zip(counts, windows, strict=True))
    if [height, width] != sizes:  # elements after the last whole window are in no window
        index = (slice(None), slice(height), slice(width))
        value = call.step(value[index], (*value.shape[:2], height, width), _LAST, value.dtype)
    batch, channels = value.shape[:2]
    apart: Shape = (batch, counts[0], windows[0], counts[1], windows[1], channels)
    cells = call.step(ops.reshape(value, _with_open_batch(apart)), apart, dtype=value.dtype)
    sorted_axes = (0, 1, 3, 5, 2, 4)
    cells = call.step(ops.transpose(cells, sorted_axes), tuple(apart[axis] for axis in sorted_axes), dtype=value.dtype)
    whole = (batch, *counts, channels, windows[0] * windows[1])
    cells = call.step(ops.reshape(cells, _with_open_batch(whole)), whole, dtype=value.dtype)
    places = call.step(ops.argmax(cells, axis=-1), call.shape, _LAST, "int32")
    return Maxima(places=places, windows=windows, sizes=(sizes[0], sizes[1]))


@handles("max_unpool2d")
def _unpooling(call: Call) -> Result:
    """Convert `max_unpool2d`: put each value at the place of the maximum in its window, and zeros elsewhere."""
    maxima, value = call.arguments["indices"], call.ordered(call.value("self"), _LAST)
    if not isinstance(maxima, Maxima):
        raise RuleError(f"{call.name} is supported only with the indices that a max pooling returns")
    (height, width), (rows, columns) = maxima.windows, maxima.places.shape[2:]
    size = (rows * height, columns * width)
    if (
        value.shape != maxima.places.shape
        or call.shape[3] != maxima.sizes[1]
        or not _is_at_most(size[0], call.shape[2])
    ):
        raise RuleError(
            f"{call.name} to {call.shape[2:]} is supported only for the size {maxima.sizes} of the pooled image "
            "(output_size=...): torch puts the values elsewhere in an image of another width"
        )
    batch, channels = value.shape[:2]
    number = height * width
    marks = call.step(
        ops.one_hot(maxima.places, number, dtype=Dtype("int32")),
        (batch, rows, columns, channels, number),
        dtype="int32",
    )
    spread_out = call.step(ops.where(marks > 0, ops.expand_dims(value, -1), 0), marks.shape, dtype=value.dtype)
    apart: Shape = (batch, rows, columns, channels, height, width)
    cells = call.step(ops.reshape(spread_out, _with_open_batch(apart)), apart, dtype=value.dtype)
    sorted_axes = (0, 1, 4, 2, 5, 3)
    cells = call.step(ops.transpose(cells, sorted_axes), tuple(apart[axis] for axis in sorted_axes), dtype=value.dtype)
    merged = (batch, channels, *size)
    shape = _with_open_batch((batch, *size, channels))
    made = call.step(ops.reshape(cells, shape), merged, _LAST, value.dtype)
    added = tuple(whole - part for whole, part in zip(call.shape[2:], size, strict=True))
    if not any(added):
        return made
    return call.step(ops.pad(made, ((0, 0), (0, added[0]), (0, added[1]), (0, 0))), call.shape, _LAST, value.dtype)


def _is_at_most(size: Any, limit: Any) -> bool:
    return isinstance(limit, int) and size <= limit


def _with_open_batch(shape: Shape) -> tuple[Any, ...]:
    return (-1, *shape[1:])
