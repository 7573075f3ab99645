"""Convert operators that write into a part of a tensor, at the positions of a slice, of index tensors or of a mask."""

from math import prod
from typing import Any

import numpy as np

from keras3conv.builder.program.program import Order, Value, identity
from keras3conv.builder.to_keras.broadcasting import elementwise
from keras3conv.builder.to_keras.call import Call, Result, handles, ops
from keras3conv.builder.to_keras.forms import Constant
from keras3conv.builder.to_keras.operations_axes import for_each_example, reshaped
from keras3conv.builder.to_keras.operations_indexing import _LAST, for_the_batch, sliced
from keras3conv.errors import RuleError
from keras3conv.model.graph import Shape
from keras3conv.transforms import Array

_DEPENDS_ON_DATA = (
    "values are written where a boolean mask is True, and their number depends on the data; only a single number can "
    "be written"
)


@handles("index_put", "_unsafe_index_put", "_index_put_impl")
def _index_put(call: Call) -> Result:
    indices, values = call.arguments["indices"], call.arguments["values"]
    used = [axis for axis, index in enumerate(indices) if index is not None]
    given = [indices[axis] for axis in used]
    if any(index.dtype in ("bool", "uint8") for index in given):
        return _where_masked(call, used, given, values)
    if used != list(range(used[0], used[-1] + 1)) or not all(isinstance(index, Constant) for index in given):
        raise RuleError(
            "an assignment to indexed elements is supported only with constant indices of adjacent axes, not with "
            "computed indices"
        )
    value = call.ordered(call.arguments["self"], identity(len(call.shape)))
    sizes = [value.shape[axis] for axis in used]
    if not all(isinstance(size, int) for size in sizes):
        raise RuleError("an assignment to indexed elements needs axes of fixed size, but an indexed axis is dynamic")
    arrays = np.broadcast_arrays(*(index.array for index in given))
    numbers = np.ravel_multi_index(tuple(arrays), tuple(sizes), mode="wrap")
    part = (*value.shape[: used[0]], *numbers.shape, *value.shape[used[-1] + 1 :])
    source = grown(call, call.writer.value(values), part)
    return _written_at(call, value, used, numbers.ravel(), source, adds=call.get("accumulate", False))


def _where_masked(call: Call, axes: list[int], indices: list[Any], values: Any) -> Value:
    """Convert the assignment of one value at every position where a mask is True, and return the new tensor.

    Args:
        call: The call.
        axes: The axes that are indexed: [0] for a mask.
        indices: The indices: a list with only the mask.
        values: The value, a tensor of one element.
    """
    shape = values.array.shape if isinstance(values, Constant) else values.shape
    if (
        len(indices) > 1
        or axes != [0]
        or prod(size for size in shape if isinstance(size, int)) != 1
        or not all(isinstance(size, int) for size in shape)
    ):
        raise RuleError(_DEPENDS_ON_DATA)
    mask = indices[0]
    rank = len(mask.shape)
    if rank < len(call.shape):
        value = call.writer.value(mask)
        mask = reshaped(call, value, (*value.shape, *(1,) * (len(call.shape) - rank)))
    single = values if isinstance(values, Constant) else reshaped(call, call.writer.value(values), ())
    if call.get("accumulate", False):
        raise RuleError("index_put with a boolean mask is supported only with accumulate=False")
    return elementwise(call, [mask, single, call.arguments["self"]], ops.where)


def grown(call: Call, value: Value, shape: tuple[Any, ...]) -> Value:
    """Return a value broadcast to a shape, in torch's axis order.

    Args:
        call: The call.
        value: The value.
        shape: The shape, in torch's axis order.

    Raises:
        RuleError: The value must be repeated along a dynamic axis that is not the batch.
    """
    value = call.ordered(reshaped(call, value, (1,) * (len(shape) - value.rank) + value.shape), identity(len(shape)))
    fixed = [size if isinstance(size, int) and value.shape[axis] == 1 else 1 for axis, size in enumerate(shape)]
    if {*fixed} != {1}:
        sizes = tuple(one if one > 1 else old for one, old in zip(fixed, value.shape, strict=True))
        value = call.step(ops.tile(value, tuple(fixed)), sizes, identity(len(shape)), value.dtype)
    repeated = [axis for axis, size in enumerate(shape) if value.shape[axis] != size]
    if repeated and (repeated != [0] or shape[0] != call.shape[0]):
        raise RuleError(
            "the assigned values must be repeated along an axis of dynamic size, which is supported only for the "
            "batch axis"
        )
    return for_each_example(call, value, repeated)


def _written_at(call: Call, value: Value, axes: list[int], numbers: Array, source: Value, *, adds: bool) -> Value:
    """Return a tensor with new elements at constant positions of one axis, or of several merged axes.

    Args:
        call: The call.
        value: The tensor.
        axes: The axes that are indexed; they are merged into one.
        numbers: For each new element, its index along the merged axis.
        source: The new elements.
        adds: Whether the new elements are added to the old ones instead of replacing them.
    """
    axis, shape = axes[0], call.shape
    size = prod(int(shape[one]) for one in axes)
    before, after = shape[:axis], shape[axes[-1] + 1 :]
    flat = reshaped(call, value, (*before, size, *after))
    new = reshaped(call, source, (*before, numbers.size, *after))
    flat, new = (call.ordered(one, identity(flat.rank)) for one in (flat, new))
    if adds:
        matrix = (np.arange(size)[:, None] == numbers[None]).astype("float64")
        placed = call.writer.value(
            Constant(name=f"{call.node.outputs[0].name} places", array=matrix, shape=matrix.shape)
        )
        letters = "abcdefgh"[: flat.rank]
        equation = f"xy,{letters.replace(letters[axis], 'y')}->{letters.replace(letters[axis], 'x')}"
        added = call.step(ops.einsum(equation, placed, new), flat.shape, dtype=value.dtype)
        made = call.step(flat + added, flat.shape, dtype=value.dtype)
    else:
        taken = np.arange(size)
        taken[numbers] = size + np.arange(numbers.size)  # of several at one place, the last
        array = taken.astype("int32")
        places = call.writer.value(Constant(name=f"{call.node.outputs[0].name} places", array=array, shape=array.shape))
        joined = call.step(
            ops.concatenate([flat, new], axis=axis), (*before, size + numbers.size, *after), dtype=value.dtype
        )
        made = call.step(ops.take(joined, places, axis=axis), flat.shape, dtype=value.dtype)
    return reshaped(call, made, shape)


def written_with_steps(call: Call, value: Value, axis: int, places: range, source: Any) -> Value:
    """Return a tensor after `tensor[start:stop:step] = source` along one axis, for a step that is not one.

    Args:
        call: The call.
        value: The tensor.
        axis: The axis of the slice.
        places: The indices that the slice selects.
        source: The tensor with the new values.
    """
    part = tuple(len(places) if one == axis else size for one, size in enumerate(value.shape))
    new = grown(call, call.writer.value(source), part)
    plain = call.ordered(value, identity(value.rank))
    return _written_at(call, plain, [axis], np.array(places), new, adds=False)


@handles("select_scatter", "slice_scatter")
def _scatter(call: Call) -> Result:
    """Convert `slice_scatter`, which replaces a slice: join the values before, the new values and the rest."""
    value, source = for_the_batch(call, call.value("self")), call.arguments["src"]
    axis = call.get("dim", 0) % value.rank
    size = value.shape[axis]
    start, end, step = call.get("start", 0), call.get("end"), call.get("step", 1)
    if call.name == "select_scatter":
        start = call.arguments["index"]
    if not isinstance(size, int):
        if start == 0 and step == 1 and (end is None or end == size or end > _LAST):
            return source  # type: ignore[no-any-return]
        raise RuleError(f"axis {axis} has a dynamic size, but writing into a part of an axis needs a fixed size")
    if call.name == "select_scatter":
        start %= size
        end = start + 1
    start, end, step = slice(start, end, step).indices(size)
    if step != 1:
        return written_with_steps(call, value, axis, range(start, end, step), source)
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
    """Return the new values for a slice of a tensor, as a value with the shape and the axis order of the slice.

    Args:
        call: The call.
        source: The tensor or number that has the new values.
        shape: The shape of the slice.
        order: The axis order of the slice.
    """
    value = call.writer.value(source)
    value = reshaped(call, value, shape) if len(value.shape) != len(shape) else value
    return for_the_batch(call, call.ordered(value, order), shape)
