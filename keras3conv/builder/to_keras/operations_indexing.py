"""Convert operators that concatenate, split, slice or index tensors."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from keras3conv.builder.program.program import Order, Value, identity
from keras3conv.builder.to_keras.broadcasting import elementwise
from keras3conv.builder.to_keras.call import Call, Constant, Result, handles, ops
from keras3conv.builder.to_keras.operations_axes import for_each_example, reshaped
from keras3conv.errors import RuleError
from keras3conv.model.graph import Shape, Size

_LAST = 1 << 62
"""A larger end of a slice means the end of the axis."""


def common_order(values: Sequence[Any], rank: int) -> Order:
    """Return the axis order in which to join several values: the first that is not torch's order."""
    orders = [value.order for value in values if isinstance(value, Value)]
    return next((order for order in orders if order != identity(rank)), identity(rank))


@handles("cat", "concat")
def _concatenate(call: Call) -> Result:
    rank = len(call.shape)
    given = [one for one in call.arguments["tensors"] if not (isinstance(one, Constant) and one.array.size == 0)]
    order = common_order(given, rank)
    values = [_with_batch(call, one, call.get("dim", 0) % rank, order) for one in given]
    if len(values) == 1:
        return values[0]
    axis = order.index(call.get("dim", 0) % rank)
    return call.step(ops.concatenate(values, axis=axis - rank if axis == rank - 1 else axis), order=order)


def _with_batch(call: Call, given: Any, axis: int, order: Order) -> Value:
    """Return an operand of a concatenation; a constant is repeated along the batch axis."""
    value = call.ordered(given, order)
    grown = [place for place, size in enumerate(value.shape) if place != axis and size != call.shape[place]]
    return for_each_example(call, value, grown)


@handles("stack")
def _stack(call: Call) -> Result:
    rank, dim = len(call.shape) - 1, call.get("dim", 0) % len(call.shape)
    order = common_order(call.arguments["tensors"], rank)
    values = [call.ordered(one, order) for one in call.arguments["tensors"]]
    moved = [axis + (axis >= dim) for axis in order]
    place = moved.index(dim - 1) + 1 if dim else 0
    return call.step(ops.stack(values, axis=place), order=(*moved[:place], dim, *moved[place:]))


def _without(order: Order, axis: int) -> Order:
    return tuple(one - (one > axis) for one in order if one != axis)


def picked(call: Call, value: Value, axis: int, key: Any, shape: Shape) -> Value:
    """Index a value along one axis with an integer or a slice."""
    place = value.order.index(axis)
    order = value.order if len(shape) == value.rank else _without(value.order, axis)
    before = (slice(None),) * place
    # Keras accepts a slice only inside a tuple.
    index = (*before, key) if before or not isinstance(key, slice) else (key, Ellipsis)
    return call.step(value[index], shape, order, value.dtype)


@handles("select")
def _select(call: Call) -> Result:
    value, index = call.value("self"), call.arguments["index"]
    if not isinstance(index, int):
        raise RuleError("select at a computed index")
    return picked(call, value, call.get("dim", 0) % value.rank, index, call.shape)


@handles("slice")
def _slice(call: Call) -> Result:
    value, axis = call.value("self"), call.get("dim", 0)
    return sliced(
        call, value, axis % value.rank, call.get("start", 0), call.get("end"), call.get("step", 1), call.shape
    )


@handles("narrow")
def _narrow(call: Call) -> Result:
    value, axis, start = call.value("self"), call.arguments["dim"], call.arguments["start"]
    return sliced(call, value, axis % value.rank, start, start + call.arguments["length"], 1, call.shape)


def sliced(call: Call, value: Value, axis: int, start: Any, end: Any, step: int, shape: Shape) -> Value:
    """Slice a value along one axis."""
    size = value.shape[axis]
    end = None if end == size or (isinstance(end, int) and end > _LAST) else end
    end = None if isinstance(end, int) and isinstance(size, int) and end >= size else end
    if isinstance(end, Size) and start == 0 and step == 1 and shape[axis] == end:
        places = call.writer.numbers(end)
        return call.step(ops.take(value, places, axis=value.order.index(axis)), shape, value.order, value.dtype)
    if any(isinstance(bound, Size) for bound in (start, end)):
        raise RuleError("a slice that ends at a dynamic size")
    if not start and end is None and step == 1:
        return value
    return picked(call, value, axis, slice(start or None, end, step), shape)


@handles("split", "split_with_sizes", "chunk", "tensor_split", "unbind", "unsafe_split", "unsafe_chunk")
def _split(call: Call) -> Result:
    value = call.value("self")
    axis, used = call.get("dim", 0) % value.rank, call.node.config["used"]
    if call.name == "unbind":
        shape = call.node.outputs[0].shape
        return [picked(call, value, axis, i, shape) if i in used else None for i in range(len(call.node.outputs))]
    sizes = [output.shape[axis] for output in call.node.outputs]
    if any(not isinstance(size, int) for size in sizes):
        raise RuleError("a split of a dynamic size")
    made = [call.writer.new(output.shape, value.order, value.dtype) for output in call.node.outputs]
    ends = np.cumsum(sizes)[:-1].tolist()
    parts = len(sizes) if len(set(sizes)) == 1 else ends
    call.writer.write(ops.split(value, parts, axis=value.position(axis)), made)
    return made


@handles("select_scatter", "slice_scatter")
def _scatter(call: Call) -> Result:
    """Replace a slice of a tensor: concatenate the part before it, the new part and the part after it."""
    value, source = call.value("self"), call.arguments["src"]
    axis = call.get("dim", 0) % value.rank
    size = value.shape[axis]
    start, end, step = call.get("start", 0), call.get("end"), call.get("step", 1)
    if call.name == "select_scatter":
        start = call.arguments["index"]
    if not isinstance(size, int):
        if start == 0 and step == 1 and (end is None or end == size or end > _LAST):
            return source  # type: ignore[no-any-return]
        raise RuleError("writing into a part of a dynamic size")
    if call.name == "select_scatter":
        start %= size
        end = start + 1
    start, end, step = slice(start, end, step).indices(size)
    if step != 1:
        raise RuleError("writing into a slice with steps")
    part = tuple(end - start if one == axis else other for one, other in enumerate(value.shape))
    middle = _as_part(call, source, part, value.order)
    parts = [middle]
    if start:
        shape = tuple(start if one == axis else other for one, other in enumerate(value.shape))
        parts.insert(0, sliced(call, value, axis, 0, start, 1, shape))
    if end < size:
        shape = tuple(size - end if one == axis else other for one, other in enumerate(value.shape))
        parts.append(sliced(call, value, axis, end, None, 1, shape))
    return (
        parts[0] if len(parts) == 1 else call.step(ops.concatenate(parts, axis=value.position(axis)), order=value.order)
    )


def _as_part(call: Call, source: Any, shape: Shape, order: Order) -> Value:
    """Return the new part of a tensor with the shape and axis order of the slice that it replaces."""
    value = call.writer.value(source)
    value = reshaped(call, value, shape) if len(value.shape) != len(shape) else value
    value = call.ordered(value, order)
    return for_each_example(call, value, [axis for axis, size in enumerate(value.shape) if size != shape[axis]])


@handles("fill")
def _fill(call: Call) -> Result:
    number = call.arguments["value"]
    number = number.array.item() if isinstance(number, Constant) else number
    return elementwise(call, [call.arguments["self"]], lambda value: ops.full_like(value, number))


@handles("zero")
def _zero(call: Call) -> Result:
    return elementwise(call, [call.arguments["self"]], ops.zeros_like)


@handles("copy")
def _copy(call: Call) -> Result:
    return call.arguments["src"]  # type: ignore[no-any-return]


@handles("flip")
def _flip(call: Call) -> Result:
    value = call.value("self")
    places = tuple(value.position(dim) for dim in call.arguments["dims"])
    return call.step(ops.flip(value, axis=places), order=value.order)


@handles("roll")
def _roll(call: Call) -> Result:
    value, dims = call.value("self"), call.get("dims", [])
    if not dims:
        raise RuleError("roll without axes")
    for shift, dim in zip(call.arguments["shifts"], dims, strict=True):
        value = call.step(ops.roll(value, shift, axis=value.position(dim)), order=value.order)
    return value


def taken(call: Call, given: Any, axis: int, index: Any, shape: Shape) -> Value:
    """Take elements along one axis by an array of indices."""
    value = call.ordered(given, identity(len(given.shape)))
    rank = len(index.shape)
    places = index if isinstance(index, Value) else call.writer.value(_as_int32(index))
    places = call.ordered(places, identity(rank))
    return call.step(ops.take(value, places, axis=axis), shape, dtype=value.dtype)


def taken_along(call: Call, value: Value, axis: int, index: Constant) -> Value:
    """Take elements along one axis by constant indices; the axis order is kept."""
    shape = tuple(index.shape[0] if one == axis else size for one, size in enumerate(value.shape))
    places = call.writer.value(_as_int32(index))
    return call.step(ops.take(value, places, axis=value.order.index(axis)), shape, value.order, value.dtype)


def _as_int32(index: Any) -> Any:
    return replace(index, array=index.array.astype("int32")) if isinstance(index, Constant) else index


@handles("index_select")
def _index_select(call: Call) -> Result:
    given = call.arguments["self"]
    return taken(call, given, call.arguments["dim"] % len(given.shape), call.arguments["index"], call.shape)


@handles("index")
def _index(call: Call) -> Result:
    given, indices = call.arguments["self"], call.arguments["indices"]
    used = [axis for axis, index in enumerate(indices) if index is not None]
    if len(used) == 1 and indices[used[0]].dtype not in ("bool", "uint8"):
        return taken(call, given, used[0], indices[used[0]], call.shape)
    if used == [0, 1] and _are_example_numbers(call, indices[0]) and isinstance(indices[1], Constant):
        return _taken_of_each_example(call, given, indices[1])
    if used == [0, 1] and _are_example_numbers(call, indices[0]) and len(indices[1].shape) == 1:
        return _one_of_each_example(call, given, indices[1])
    raise RuleError("an index with several tensors, or with a mask: the number of elements depends on the data")


def _one_of_each_example(call: Call, given: Any, index: Any) -> Value:
    """Take one row of every sample, by one index per sample."""
    value = call.ordered(given, identity(len(given.shape)))
    rank, batch = value.rank, value.shape[0]
    rows = call.step(
        ops.reshape(call.writer.value(index), (-1, *(1,) * (rank - 1))), (batch, *(1,) * (rank - 1)), dtype="int32"
    )
    picked_rows = call.step(ops.take_along_axis(value, rows, axis=1), (batch, 1, *value.shape[2:]), dtype=value.dtype)
    return picked(call, picked_rows, 1, 0, call.shape)


def _are_example_numbers(call: Call, index: Any) -> bool:
    """Return whether an index array is `arange(batch)`, with any number of axes of size one after it."""
    value = index if isinstance(index, Value) else None
    while value is not None and (before := call.writer.before_reshape(value)) is not None:
        value = before
    numbers = value is not None and value.name in call.writer.example_numbers
    return numbers and isinstance(index.shape[0], Size) and all(size == 1 for size in index.shape[1:])


def _taken_of_each_example(call: Call, given: Any, index: Constant) -> Value:
    """Take elements of every sample along the second axis, by the same constant indices."""
    value, array = call.writer.value(given), index.array
    if value.rank != 2 or array.ndim != len(call.shape) or array.shape[0] != 1:
        raise RuleError("each sample has different indices; they must be the same for all samples")
    value = call.ordered(value, (0, 1))
    if array.ravel().tolist() != list(range(value.shape[1] if isinstance(value.shape[1], int) else 0)):
        flat = replace(index, name=f"{index.name} flat", array=array.ravel(), shape=(array.size,))
        value = taken(call, value, 1, flat, (value.shape[0], array.size))
    return reshaped(call, value, call.shape)


@handles("arange")
def _numbers(call: Call) -> Result:
    """Convert `arange` up to a dynamic size; any other range is a constant of the graph."""
    start, end, step = (call.get(name, default) for name, default in (("start", 0), ("end", None), ("step", 1)))
    if start != 0 or step != 1 or not isinstance(end, Size):
        raise RuleError("arange to a dynamic size with a start other than 0 or a step other than 1")
    return call.writer.numbers(end)


@handles("gather")
def _gather(call: Call) -> Result:
    given, index = call.arguments["self"], call.arguments["index"]
    axis = call.arguments["dim"] % len(given.shape)
    if isinstance(given, Constant) and given.array.size == given.array.shape[axis]:  # the same row for all samples
        row = replace(given, name=f"{given.name} row", array=given.array.ravel(), shape=(given.array.size,))
        return taken(call, row, 0, index, call.shape)
    value = call.writer.value(given)
    others = [axis_ for axis_ in range(value.rank) if axis_ != axis]
    if any(value.shape[one] != index.shape[one] for one in others):
        raise RuleError("gather of a part of a tensor")
    places = call.ordered(_as_int32(index), identity(value.rank))
    return call.step(ops.take_along_axis(call.ordered(value, identity(value.rank)), places, axis=axis))


__all__ = ["sliced", "taken", "taken_along"]
