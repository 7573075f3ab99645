"""Convert operators that concatenate, split, slice or index tensors."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from keras3conv.builder.program.operation import Dtype
from keras3conv.builder.program.program import Order, Value, identity
from keras3conv.builder.to_keras.broadcasting import elementwise, repeated, stored
from keras3conv.builder.to_keras.call import Call, Result, handles, ops
from keras3conv.builder.to_keras.forms import Constant, Held, Parts
from keras3conv.builder.to_keras.operations_axes import for_each_example
from keras3conv.builder.to_keras.uses import puts_last_axis_first
from keras3conv.errors import RuleError
from keras3conv.model.graph import Shape, Size

_LAST = 1 << 62
"""The largest end of a slice that is taken literally; torch uses a larger number for the end of the axis."""


def common_order(values: Sequence[Any], rank: int) -> Order:
    """Return the axis order for a concatenation of values: the first of their orders that is not torch's, else torch's.

    Args:
        values: The operands; only values have an axis order.
        rank: The number of axes.
    """
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
    made = call.step(ops.concatenate(values, axis=axis - rank if axis == rank - 1 else axis), order=order)
    if len({value.target_shape for value in values}) == 1:
        call.writer.parts[made.name] = Parts(values=tuple(values), place=axis)
    return made


def _with_batch(call: Call, tensor: Any, axis: int, order: Order) -> Value:
    """Return an operand of a concatenation in an axis order; a constant is repeated for each sample of the batch.

    Args:
        call: The call.
        tensor: The operand.
        axis: The axis along which the operands are joined.
        order: The axis order.
    """
    value = call.ordered(tensor, order)
    grown = [place for place, size in enumerate(value.shape) if place != axis and size != call.shape[place]]
    return for_each_example(call, value, grown)


@handles("stack")
def _stack(call: Call) -> Result:
    rank, dim = len(call.shape) - 1, call.get("dim", 0) % len(call.shape)
    order = common_order(call.arguments["tensors"], rank)
    shape = call.shape[:dim] + call.shape[dim + 1 :]
    values = [for_the_batch(call, call.ordered(one, order), shape) for one in call.arguments["tensors"]]
    moved = [axis + (axis >= dim) for axis in order]
    place = moved.index(dim - 1) + 1 if dim else 0
    return call.step(ops.stack(values, axis=place), order=(*moved[:place], dim, *moved[place:]))


def _without(order: Order, axis: int) -> Order:
    return tuple(one - (one > axis) for one in order if one != axis)


def picked(call: Call, value: Value, axis: int, key: Any, shape: Shape) -> Value:
    """Return the elements of a value that an integer or a slice selects along one axis.

    Args:
        call: The call.
        value: The value.
        axis: The axis.
        key: The integer, which removes the axis, or the slice.
        shape: The shape of the result.
    """
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
        raise RuleError(
            "the index is computed by the model, but must be a constant integer; use torch.index_select with a tensor"
        )
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
    """Return the elements of a value that a slice selects along one axis."""
    size = value.shape[axis]
    end = None if end == size or (isinstance(end, int) and end > _LAST) else end
    end = None if isinstance(end, int) and isinstance(size, int) and end >= size else end
    if isinstance(end, Size) and start == 0 and step == 1 and shape[axis] == end:
        places = call.writer.numbers(end)
        return call.step(ops.take(value, places, axis=value.order.index(axis)), shape, value.order, value.dtype)
    if any(isinstance(bound, Size) for bound in (start, end)):
        raise RuleError(
            "a slice that starts or ends at a dynamic size is supported only from 0 to that size, with step 1"
        )
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
    is_equal = len({*sizes}) == 1
    if not is_equal and any(not isinstance(size, int) for size in sizes):
        raise RuleError(f"axis {axis} has a dynamic size, but {call.name} needs equal parts, or parts of fixed sizes")
    made = [call.writer.new(output.shape, value.order, value.dtype) for output in call.node.outputs]
    parts = len(sizes) if is_equal else np.cumsum(sizes)[:-1].tolist()
    call.writer.write(ops.split(value, parts, axis=value.position(axis)), made)
    return made


def for_the_batch(call: Call, value: Value, shape: Shape | None = None) -> Value:
    """Return a value repeated along the axes where it has one element for all samples, as a constant has.

    Args:
        call: The call.
        value: The value.
        shape: The shape of the result; by default that of the call's result.
    """
    wanted = call.shape if shape is None else shape
    return for_each_example(call, value, [axis for axis, size in enumerate(value.shape) if size != wanted[axis]])


@handles("fill")
def _fill(call: Call) -> Result:
    number = call.arguments["value"]
    number = number.array.item() if isinstance(number, Constant) else number
    return elementwise(call, [call.arguments["self"]], lambda value: ops.full_like(value, number))


@handles("zero")
def _zero(call: Call) -> Result:
    return elementwise(call, [call.arguments["self"]], ops.zeros_like)


@handles("zeros_like", "ones_like", "full_like", "empty_like")
def _like(call: Call) -> Result:
    """Convert `full_like`, if the sizes of the tensor are not those of a constant; `empty_like` gives zeros."""
    given, number = call.arguments["self"], call.get("fill_value", int(call.name == "ones_like"))
    if not isinstance(number, int | float):
        raise RuleError(f"{call.name} is supported only with a constant fill value, but this one is computed")
    options = {} if call.dtype == given.dtype else {"dtype": Dtype(call.dtype)}
    return elementwise(call, [given], lambda value: ops.full_like(value, number, **options))


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
        raise RuleError("roll is supported only with axes: give it the argument dims")
    for shift, dim in zip(call.arguments["shifts"], dims, strict=True):
        value = call.step(ops.roll(value, shift, axis=value.position(dim)), order=value.order)
    return value


@handles("fft_fftshift", "fft_ifftshift")
def _centred(call: Call) -> Result:
    """Convert `fftshift`, which rolls each axis so that its first position moves to the middle, and `ifftshift`."""
    value, dims = call.value("self"), call.get("dim")
    for dim in range(value.rank) if dims is None else [dims] if isinstance(dims, int) else dims:
        size = value.shape[dim]
        if not isinstance(size, int):
            raise RuleError(f"axis {dim} has a dynamic size, but {call.name} needs axes of fixed size")
        shift = size // 2 if call.name == "fft_fftshift" else -(size // 2)
        value = call.step(ops.roll(value, shift, axis=value.position(dim)), order=value.order)
    return value


def taken(call: Call, tensor: Any, axis: int, index: Any, shape: Shape) -> Value:
    """Return the elements that an array of indices selects along one axis of a tensor, as `numpy.take` does.

    Args:
        call: The call.
        tensor: The tensor.
        axis: The axis; the axes of the index array replace it.
        index: The indices.
        shape: The shape of the result.
    """
    rank = len(index.shape)
    places = index if isinstance(index, Value) else call.writer.value(as_int32(index))
    places = call.ordered(places, identity(rank))
    if axis == 0 and _is_own_table(call, tensor) and puts_last_axis_first(call):
        value = call.writer.held(tensor, (1, 0))
    else:
        value = call.writer.value(tensor)
    order: list[int] = []
    for one in value.order:
        order += range(axis, axis + rank) if one == axis else [one if one < axis else one + rank - 1]
    found = (*value.shape[:axis], *places.shape, *value.shape[axis + 1 :])
    made = ops.take(value, places, axis=value.order.index(axis))
    return repeated(call, call.step(made, stored(call, shape, found), tuple(order), value.dtype), shape)


def _is_own_table(call: Call, tensor: Any) -> bool:
    """Return whether a tensor is a parameter with two axes (a table) that only this call uses."""
    is_table = isinstance(tensor, Held) and len(tensor.shape) == 2 and not tensor.is_shared
    return is_table and len(call.writer.users(tensor.parameter.tensor.name)) == 1


def taken_along(call: Call, value: Value, axis: int, index: Constant) -> Value:
    """Return the elements that constant indices select along one axis of a value, as `numpy.take_along_axis` does."""
    shape = tuple(index.shape[0] if one == axis else size for one, size in enumerate(value.shape))
    places = call.writer.value(as_int32(index))
    return call.step(ops.take(value, places, axis=value.order.index(axis)), shape, value.order, value.dtype)


def as_int32(index: Any) -> Any:
    """Return indices converted to int32 if they are constant; computed indices are returned unchanged."""
    return replace(index, array=index.array.astype("int32")) if isinstance(index, Constant) else index


@handles("index_select")
def _index_select(call: Call) -> Result:
    given = call.arguments["self"]
    return taken(call, given, call.arguments["dim"] % len(given.shape), call.arguments["index"], call.shape)
