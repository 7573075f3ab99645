"""Handlers of operators that move, merge, split or pick axes and elements.

A permutation only renames the axes of a value. A reshape moves data only where the axes that it merges do not stand
together in Keras.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from keras3conv.builder.program.operation import Dtype
from keras3conv.builder.program.program import Order, Value, identity
from keras3conv.builder.to_keras.broadcasting import elementwise
from keras3conv.builder.to_keras.call import Call, Constant, Held, Result, handles, ops
from keras3conv.builder.to_keras.layouts import channels_last
from keras3conv.builder.to_keras.sizes import common_factors, order_after_reshape, written
from keras3conv.errors import RuleError
from keras3conv.model.graph import Shape, Size

_LAST = 1 << 62
"""An end of a slice that means the end of the axis."""

_POINTWISE_NAMES = ("relu", "dropout", "gelu", "silu", "sigmoid", "tanh", "hardswish", "contiguous", "clone", "detach")


def permuted(value: Value, dims: Sequence[int]) -> Value:
    """Return the value with its axes renamed as torch.permute does; nothing is moved."""
    dims = [dim % value.rank for dim in dims]
    place = {dim: axis for axis, dim in enumerate(dims)}
    shape = tuple(value.shape[dim] for dim in dims)
    return replace(value, shape=shape, order=tuple(place[axis] for axis in value.order))


def renamed(call: Call, value: Value, dims: Sequence[int]) -> Value:
    """Return the value with its axes permuted, and remember how it was before the reshape that merged some of them.

    A later reshape that splits the same axes again then starts from there.
    """
    made = permuted(value, dims)
    before = call.writer.before_reshape(value)
    found = None if before is None else common_factors(before.shape, value.shape)
    if before is None or found is None:
        return made
    factors, _, groups = found
    if order_after_reshape(before.shape, tuple(factors), before.order) is not None:
        parts = reshaped(call, before, tuple(factors))
        moved = [factor for dim in dims for factor in groups[dim]]
        call.writer.note_reshape(made, permuted(parts, moved))
    return made


@handles("permute")
def _permute(call: Call) -> Result:
    return renamed(call, call.value("self"), call.arguments["dims"])


@handles("transpose", "swapaxes", "t", "numpy_T", "mT")
def _transpose(call: Call) -> Result:
    value = call.value("self")
    first, second = (call.get(name, default) for name, default in (("dim0", -2), ("dim1", -1)))
    if value.rank < 2:
        return value
    dims = list(range(value.rank))
    dims[first], dims[second] = dims[second], dims[first]
    return renamed(call, value, dims)


@handles("movedim")
def _movedim(call: Call) -> Result:
    value = call.value("self")
    ends = [[one] if isinstance(one, int) else one for one in (call.arguments["source"], call.arguments["destination"])]
    source, destination = ([dim % value.rank for dim in end] for end in ends)
    dims = [dim for dim in range(value.rank) if dim not in source]
    for target, dim in sorted(zip(destination, source, strict=True)):
        dims.insert(target, dim)
    return permuted(value, dims)


def reshaped(call: Call, value: Value, shape: Shape) -> Value:
    """Return the value in another shape; of two reshapes in a row the second alone is written."""
    if value.shape == tuple(shape):
        return value
    before = call.writer.before_reshape(value)
    if before is not None and order_after_reshape(before.shape, shape, before.order) is not None:
        return reshaped(call, before, shape)
    order = order_after_reshape(value.shape, shape, value.order)
    if order is None and _is_flattened_for_dense(call, value, shape):
        made = call.writer.new(shape, (0, 1), value.dtype, _sizes(value.shape[1:]))
        call.writer.write(ops.reshape(value, _written(shape)), [made])
        return made
    origin = value
    if order is None:
        value, order = _moved_for_reshape(call, value, shape)
    target = tuple(shape[axis] for axis in order)
    if value.target_shape == target:
        return replace(value, shape=tuple(shape), order=order, flattened=())
    made = call.step(ops.reshape(value, _written(target)), shape, order, value.dtype)
    call.writer.note_reshape(made, origin)
    return made


def _moved_for_reshape(call: Call, value: Value, shape: Shape) -> tuple[Value, Order]:
    """Return the value with its data moved so that a reshape gives the new shape, and the axis order of the result.

    An image that is not in torch's order stays one: its channels are moved, not its rows and columns.
    """
    is_image = len(shape) > 3 and value.order[-1] != value.rank - 1
    order = call.writer.image_order(len(shape)) if is_image else identity(len(shape))
    found = common_factors(value.shape, shape)
    if found is not None and order_after_reshape(value.shape, tuple(found[0]), value.order) is not None:
        parts = reshaped(call, value, tuple(found[0]))
        return call.ordered(parts, tuple(factor for axis in order for factor in found[2][axis])), order
    return call.ordered(value, identity(value.rank)), identity(len(shape))


def unmerged(call: Call, value: Value) -> Value:
    """Return a value of two axes with the first one split as it was before a reshape merged it, if nothing moves."""
    before = call.writer.before_reshape(value)
    found = None if before is None or value.rank != 2 else common_factors(before.shape, value.shape)
    if before is None or found is None:
        return value
    factors, _, groups = found
    shape = (*(factors[factor] for factor in groups[0]), value.shape[1])
    is_free = order_after_reshape(before.shape, shape, before.order) is not None
    return reshaped(call, before, shape) if is_free else value


def _sizes(shape: Shape) -> tuple[int, ...]:
    return tuple(size for size in shape if isinstance(size, int))


def _written(shape: Shape) -> tuple[int, ...]:
    found = written(shape)
    if found is None:
        raise RuleError(f"a reshape to several free sizes: ({', '.join(map(str, shape))})")
    return found


def _is_flattened_for_dense(call: Call, value: Value, shape: Shape) -> bool:
    """Return whether an image in channels-last order is flattened for Dense layers only: their rows are permuted."""
    fixed = all(isinstance(size, int) for size in value.shape[1:])
    is_flat = len(shape) == 2 and shape[0] == value.shape[0] and value.order == channels_last(value.rank)
    return fixed and is_flat and value.rank > 2 and _only_dense_uses(call, call.node.outputs[0].name)


def _only_dense_uses(call: Call, name: str) -> bool:
    users = call.writer.users(name)
    for node in users:
        kind = node.kind.split(".")[1]
        is_dense = kind == "linear" and node.inputs[0] == name
        if not is_dense and not (kind in _POINTWISE_NAMES and _only_dense_uses(call, node.outputs[0].name)):
            return False
    return bool(users)


@handles("view", "reshape", "_unsafe_view", "flatten", "unflatten", "unsqueeze", "squeeze", "view_as", "reshape_as")
def _reshape(call: Call) -> Result:
    value = call.value("self")
    if len([size for size in call.shape if not isinstance(size, int)]) > 1 and call.name in ("unsqueeze", "squeeze"):
        raise RuleError(f"{call.name} of a tensor with several free sizes")
    return reshaped(call, value, call.shape)


@handles("expand", "broadcast_to", "expand_as")
def _expand(call: Call) -> Result:
    given, shape = call.arguments["self"], call.shape
    if tuple(given.shape) == tuple(shape):
        return given  # type: ignore[no-any-return]
    lacks = len(shape) - len(given.shape)
    old = (1,) * lacks + tuple(given.shape)
    grown = [axis for axis, (before, after) in enumerate(zip(old, shape, strict=True)) if before != after]
    if isinstance(given, Held) and grown == [0] and not lacks and isinstance(shape[0], Size):
        return call.writer.held(given, for_each_example=True)
    value = reshaped(call, call.value("self"), old)
    fixed = {axis: shape[axis] for axis in grown if isinstance(shape[axis], int)}
    if fixed:
        sizes = tuple(fixed.get(axis, size) for axis, size in enumerate(value.shape))
        value = call.step(
            ops.tile(value, tuple(fixed.get(axis, 1) for axis in value.order)), sizes, value.order, value.dtype
        )
    return _for_each_example(call, value, [axis for axis in grown if axis not in fixed])


def _for_each_example(call: Call, value: Value, free: list[int]) -> Value:
    """Return a value repeated along the axis of the batch: multiplied with ones."""
    if not free:
        return value
    if len(free) > 1 or isinstance(call.shape[free[0]], int):
        raise RuleError("an expansion to several free sizes")
    if call.shape[free[0]] != call.writer.example_ones().shape[0]:
        raise RuleError(f"an expansion to the free size {call.shape[free[0]]}, which is not that of the batch")
    sizes = tuple(-1 if axis == free[0] else 1 for axis in value.order)
    ones = ops.reshape(call.writer.example_ones(), sizes)
    shape = tuple(call.shape[axis] if axis == free[0] else size for axis, size in enumerate(value.shape))
    if value.dtype.startswith("float"):
        return call.step(value * ones, shape, value.order, value.dtype)
    if value.dtype == "bool":
        return call.step(ops.logical_and(value, ops.cast(ones, Dtype("bool"))), shape, value.order, value.dtype)
    return call.step(value * ops.cast(ones, Dtype(value.dtype)), shape, value.order, value.dtype)


@handles("repeat", "tile")
def _repeat(call: Call) -> Result:
    value, times = call.value("self"), call.get("repeats", call.get("dims"))
    if any(not isinstance(number, int) for number in times):
        if all(number == 1 for number in times[1:]) and len(times) == value.rank and value.shape[0] == 1:
            return _for_each_example(call, value, [0])
        raise RuleError("repeat with a free number of times")
    value = reshaped(call, value, (1,) * (len(times) - value.rank) + value.shape)
    return call.step(ops.tile(value, tuple(times[axis] for axis in value.order)), order=value.order)


@handles("repeat_interleave.self_int")
def _repeat_interleave(call: Call) -> Result:
    value, axis = call.value("self"), call.get("dim")
    if axis is None:
        raise RuleError("repeat_interleave without an axis")
    times = call.arguments["repeats"]
    return call.step(ops.repeat(value, times, axis=value.position(axis)), order=value.order)


def common_order(values: Sequence[Any], rank: int) -> Order:
    """Return the axis order in which several values are joined: the first that is not torch's."""
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
    """Return a tensor to be joined; a constant is repeated for each example."""
    value = call.ordered(given, order)
    grown = [place for place, size in enumerate(value.shape) if place != axis and size != call.shape[place]]
    return _for_each_example(call, value, grown)


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
    """Return what an index along one axis picks."""
    place = value.order.index(axis)
    order = value.order if len(shape) == value.rank else _without(value.order, axis)
    return call.step(value[(*(slice(None),) * place, key)], shape, order, value.dtype)


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
    """Return a slice along one axis."""
    size = value.shape[axis]
    end = None if end == size or (isinstance(end, int) and end > _LAST) else end
    end = None if isinstance(end, int) and isinstance(size, int) and end >= size else end
    if any(isinstance(bound, Size) for bound in (start, end)):
        raise RuleError("a slice that ends at a free size")
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
        raise RuleError("a split of a free size")
    made = [call.writer.new(output.shape, value.order, value.dtype) for output in call.node.outputs]
    ends = np.cumsum(sizes)[:-1].tolist()
    parts = len(sizes) if len(set(sizes)) == 1 else ends
    call.writer.write(ops.split(value, parts, axis=value.position(axis)), made)
    return made


@handles("select_scatter", "slice_scatter")
def _scatter(call: Call) -> Result:
    """Return a tensor with a slice replaced: what stands before it, the new part, what stands after it."""
    value, source = call.value("self"), call.arguments["src"]
    axis = call.get("dim", 0) % value.rank
    size = value.shape[axis]
    start, end, step = call.get("start", 0), call.get("end"), call.get("step", 1)
    if call.name == "select_scatter":
        start = call.arguments["index"]
    if not isinstance(size, int):
        if start == 0 and step == 1 and (end is None or end == size or end > _LAST):
            return source  # type: ignore[no-any-return]
        raise RuleError("writing into a part of a free size")
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
    """Return the new part of a tensor in its shape and axis order."""
    value = call.writer.value(source)
    value = reshaped(call, value, shape) if len(value.shape) != len(shape) else value
    value = call.ordered(value, order)
    return _for_each_example(call, value, [axis for axis, size in enumerate(value.shape) if size != shape[axis]])


@handles("fill")
def _fill(call: Call) -> Result:
    number = call.arguments["value"]
    number = number.array.item() if isinstance(number, Constant) else number
    return elementwise(call, [call.arguments["self"]], lambda value: ops.full_like(value, number))


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
    """Return what indices pick along one axis."""
    value = call.ordered(given, identity(len(given.shape)))
    rank = len(index.shape)
    places = index if isinstance(index, Value) else call.writer.value(_as_int32(index))
    places = call.ordered(places, identity(rank))
    return call.step(ops.take(value, places, axis=axis), shape, dtype=value.dtype)


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
    if len(used) == 1 and indices[used[0]].dtype != "bool":
        return taken(call, given, used[0], indices[used[0]], call.shape)
    if used == [0, 1] and _are_example_numbers(call, indices[0]) and isinstance(indices[1], Constant):
        return _taken_of_each_example(call, given, indices[1])
    raise RuleError("an index with several tensors, or with a mask: the number of elements depends on the data")


def _are_example_numbers(call: Call, index: Any) -> bool:
    """Return whether an index is the number of each example, with axes of size one after it."""
    value = index if isinstance(index, Value) else None
    while value is not None and (before := call.writer.before_reshape(value)) is not None:
        value = before
    numbers = value is not None and value.name in call.writer.example_numbers
    return numbers and isinstance(index.shape[0], Size) and all(size == 1 for size in index.shape[1:])


def _taken_of_each_example(call: Call, given: Any, index: Constant) -> Value:
    """Return what the same indices pick of every example along the second axis."""
    value, array = call.writer.value(given), index.array
    if value.rank != 2 or array.ndim != len(call.shape) or array.shape[0] != 1:
        raise RuleError("an index of each example with a tensor that is not the same for all of them")
    value = call.ordered(value, (0, 1))
    if array.ravel().tolist() != list(range(value.shape[1] if isinstance(value.shape[1], int) else 0)):
        flat = replace(index, name=f"{index.name} flat", array=array.ravel(), shape=(array.size,))
        value = taken(call, value, 1, flat, (value.shape[0], array.size))
    return reshaped(call, value, call.shape)


@handles("arange")
def _numbers(call: Call) -> Result:
    """Number the examples of a batch; all other ranges are constants."""
    ones = call.writer.example_ones()
    start, end, step = (call.get(name, default) for name, default in (("start", 0), ("end", None), ("step", 1)))
    if (start, end, step) != (0, ones.shape[0], 1):
        raise RuleError("arange up to a free size")
    made = call.step(ops.cumsum(ops.cast(ones[:, 0], Dtype("int32")), axis=0) - 1, (end,), (0,), "int32")
    call.writer.example_numbers.add(made.name)
    return made


@handles("gather")
def _gather(call: Call) -> Result:
    value, index = call.value("self"), call.arguments["index"]
    axis = call.arguments["dim"] % value.rank
    others = [axis_ for axis_ in range(value.rank) if axis_ != axis]
    if any(value.shape[one] != index.shape[one] for one in others):
        raise RuleError("gather of a part of a tensor")
    places = call.ordered(_as_int32(index), identity(value.rank))
    return call.step(ops.take_along_axis(call.ordered(value, identity(value.rank)), places, axis=axis))


__all__ = ["common_order", "permuted", "picked", "reshaped", "sliced", "taken", "unmerged"]
