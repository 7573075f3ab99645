"""Convert operators that write or combine elements at computed indices along an axis: scatter, index_add."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras3conv.builder.program.operation import Dtype
from keras3conv.builder.program.program import Value, identity
from keras3conv.builder.to_keras.call import Call, Result, handles, ops
from keras3conv.builder.to_keras.forms import Constant
from keras3conv.builder.to_keras.operations_axes import for_each_example, reshaped
from keras3conv.builder.to_keras.operations_writing import grown
from keras3conv.errors import RuleError
from keras3conv.model.graph import Size

_SUMS = ("sum", "add", "mean")

_REDUCTIONS = {"amax": (ops.max, ops.maximum), "amin": (ops.min, ops.minimum), "prod": (ops.prod, ops.multiply)}
"""For each reduction other than a sum, its functions along an axis, and of two tensors."""


@handles("scatter", "scatter_add", "scatter_reduce")
def _scatter(call: Call) -> Result:
    """Convert `scatter`: write each new element at its own index along an axis, or combine it with the elements there.

    If several elements have the same index and no reduction combines them, the last one stays.
    """
    reduce = "sum" if call.name == "scatter_add" else call.get("reduce")
    plain = identity(len(call.shape))
    value, index = grown(call, call.value("self"), call.shape), call.arguments["index"]
    axis, size = call.arguments["dim"] % value.rank, value.shape[call.arguments["dim"] % value.rank]
    index = replace(index, array=index.array.astype("int32")) if isinstance(index, Constant) else index
    places = call.ordered(index, plain)
    if isinstance(index, Constant) and places.shape[0] == 1 != call.shape[0]:
        index = places = for_each_example(call, places, [0])
    others = [one for one in range(value.rank) if one != axis and places.shape[one] not in (value.shape[one], 1)]
    is_fixed = isinstance(size, int) and isinstance(places.shape[axis], int)
    if others or not (reduce or is_fixed):
        raise RuleError(
            f"{call.name} is supported only if the index has the shape of the tensor except along dim; without a "
            "reduction, both sizes along dim must be fixed"
        )
    source = call.arguments.get("src", call.arguments.get("value"))
    if reduce is None:
        return _last_written(call, value, axis, _marks(call, index, places, size, "int32"), source, places)
    marks = _marks(call, index, places, size, value.dtype)
    return _combined(call, _Target(value, axis, reduce), marks, _source(call, source, places))


@handles("index_add", "index_reduce")
def _index_add(call: Call) -> Result:
    """Convert `index_add`: combine each slice along an axis of one tensor with a slice of another, at an index."""
    value = grown(call, call.value("self"), call.shape)
    axis, index = call.arguments["dim"] % value.rank, call.arguments["index"]
    new = call.ordered(call.arguments["source"], identity(value.rank))
    if (factor := call.get("alpha", 1)) != 1:
        new = call.step(new * factor, new.shape, dtype=new.dtype)
    places = call.writer.value(index)
    marks = _marks(call, index, places, value.shape[axis], value.dtype)
    target = _Target(value, axis, call.get("reduce", "sum"))
    if target.reduce not in _SUMS:  # the other reductions need the mark of every element
        shape = (*(new.shape[one] if one == axis else 1 for one in range(new.rank)), value.shape[axis])
        marks = reshaped(call, marks, shape)
    return _combined(call, target, marks, new)


@dataclass(frozen=True)
class _Target:
    """The tensor with which new elements are combined.

    Attributes:
        value: The tensor, in torch's axis order.
        axis: The axis that the indices are for.
        reduce: The reduction of torch: "sum", "mean", "amax", "amin" or "prod".
    """

    value: Value
    axis: int
    reduce: str


def _combined(call: Call, target: _Target, marks: Value, new: Value) -> Value:
    """Return a tensor whose elements are combined with the new elements that have their index.

    Args:
        call: The call; its argument `include_self` says whether the old elements take part.
        target: The tensor.
        marks: The indices in one-hot form: of shape (index, place), or (*shape of the new elements, place).
        new: The new elements.
    """
    value, is_included = target.value, call.get("include_self", True)
    old = [value] if is_included else []
    if target.reduce in _SUMS:
        total = _added(call, [*old, _summed(call, target, marks, new)])
        if target.reduce != "mean":
            return total if is_included else _where_reached(call, target, marks, new, total)
        ones = call.step(ops.ones_like(new), new.shape, dtype=new.dtype)
        number = call.step(_summed(call, target, marks, ones) + int(is_included), value.shape, dtype=value.dtype)
        number = call.step(ops.maximum(number, 1), value.shape, dtype=value.dtype)
        mean = call.step(total / number, value.shape, dtype=value.dtype)
        return mean if is_included else _where_reached(call, target, marks, new, mean)
    along, both = _REDUCTIONS[target.reduce]
    spread = call.step(ops.expand_dims(new, -1), (*new.shape, 1), dtype=new.dtype)
    shape = (*new.shape, value.shape[target.axis])
    masked = call.step(ops.where(marks > 0, spread, _neutral(target)), shape, dtype=new.dtype)
    order = (*(one for one in range(value.rank) if one != target.axis), target.axis)
    reduced = call.step(along(masked, axis=target.axis), value.shape, order, value.dtype)
    reduced = call.ordered(reduced, identity(value.rank))
    if is_included:
        return call.step(both(value, reduced), value.shape, dtype=value.dtype)
    return _where_reached(call, target, marks, new, reduced)


def _neutral(target: _Target) -> float:
    """Return the value that does not change the result of a reduction other than a sum."""
    if target.reduce == "prod":
        return 1
    is_float = target.value.dtype.startswith(("float", "bfloat"))
    lowest, highest = (-np.inf, np.inf) if is_float else (np.iinfo("int32").min, np.iinfo("int32").max)
    return lowest if target.reduce == "amax" else highest


def _summed(call: Call, target: _Target, marks: Value, new: Value) -> Value:
    """Return for every place of a tensor the sum of the new elements with its index."""
    letters, axis = "abcdefgh"[: new.rank], target.axis
    given = f"{letters[axis]}x" if marks.rank == 2 else f"{letters}x"
    equation = f"{letters},{given}->{letters.replace(letters[axis], 'x')}"
    return call.step(ops.einsum(equation, new, marks), target.value.shape, dtype=target.value.dtype)


def _added(call: Call, values: list[Value]) -> Value:
    first, *rest = values
    return call.step(first + rest[0], first.shape, dtype=first.dtype) if rest else first


def _where_reached(call: Call, target: _Target, marks: Value, new: Value, made: Value) -> Value:
    """Return a new tensor where at least one index points, and the old tensor elsewhere."""
    ones = call.step(ops.ones_like(new), new.shape, dtype=new.dtype)
    if marks.rank != 2 and marks.shape[:-1] != new.shape:
        marks = call.step(marks * ops.expand_dims(ones, -1), (*new.shape, marks.shape[-1]), dtype=marks.dtype)
    number = _summed(call, target, marks, ones)
    return call.step(ops.where(number > 0, made, target.value), made.shape, dtype=made.dtype)


def _marks(call: Call, index: Any, places: Value, size: int | Size, dtype: str) -> Value:
    """Return indices in one-hot form: a new last axis has a one at the index, and zeros elsewhere.

    Args:
        call: The call.
        index: The indices as they are in the call, which may be a constant.
        places: The same indices as a value of the program.
        size: The size of the new axis: the number of possible indices.
        dtype: The dtype of the result.
    """
    if isinstance(size, Size):
        spread = call.step(ops.expand_dims(places, -1), (*places.shape, 1), dtype=places.dtype)
        numbers = call.writer.numbers(size)
        made = ops.cast(ops.equal(spread, numbers), Dtype(dtype))
        return call.step(made, (*places.shape, size), dtype=dtype)
    if isinstance(index, Constant):
        array = (index.array[..., None] == np.arange(size)).astype(dtype)
        return call.writer.value(Constant(name=f"{index.name} marks", array=array, shape=(*index.shape, size)))
    return call.step(ops.one_hot(places, size, dtype=Dtype(dtype)), (*places.shape, size), dtype=dtype)


def _source(call: Call, source: Any, places: Value) -> Value:
    """Return the new elements of a `scatter` as a value that has the shape of the indices.

    Args:
        call: The call.
        source: The new elements: a tensor, or one number for all.
        places: The indices.
    """
    if isinstance(source, int | float):
        array = np.full([size if isinstance(size, int) else 1 for size in places.shape], float(source))
        source = Constant(name=f"{call.node.outputs[0].name} source", array=array, shape=places.shape)
        return call.writer.value(source)
    value = call.ordered(source, identity(places.rank))
    if value.shape != places.shape:
        raise RuleError(
            f"{call.name} is supported only if source and index have the same shape, not {value.shape} and "
            f"{places.shape}"
        )
    return value


def _last_written(call: Call, value: Value, axis: int, marks: Value, source: Any, places: Value) -> Value:
    """Return a tensor after new elements are written into it; where several have the same index, the last one stays.

    Args:
        call: The call of the operator.
        value: The tensor before.
        axis: The axis of the tensor that the indices are for.
        marks: The indices in one-hot form.
        source: The new elements: a tensor, or one number for all.
        places: The indices.
    """
    number, rank, name = places.shape[axis], value.rank, call.node.outputs[0].name
    assert isinstance(number, int)
    shape = tuple(value.shape[axis] if one == axis else size for one, size in enumerate(places.shape))
    counts = np.arange(1, number + 1, dtype="int32").reshape([-1 if one == axis else 1 for one in range(rank + 1)])
    numbers = call.writer.value(Constant(name=f"{name} count", array=counts, shape=counts.shape))
    order = (*(one for one in range(rank) if one != axis), axis)
    last = call.ordered(call.step(ops.max(marks * numbers, axis=axis), shape, order, "int32"), identity(rank))
    if isinstance(source, Constant) and source.array.size == 1:
        source = source.array.item()
    if isinstance(source, int | float):
        return call.step(ops.where(last > 0, source, value), dtype=value.dtype)
    new = _source(call, source, places)
    found = ops.take_along_axis(new, ops.maximum(last - 1, 0), axis=axis)
    return call.step(ops.where(last > 0, found, value), dtype=value.dtype)
