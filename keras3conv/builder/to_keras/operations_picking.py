"""Convert operators that pick elements by computed indices, or by several index tensors."""

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from keras3conv.builder.program.program import Value, identity
from keras3conv.builder.to_keras.broadcasting import sign
from keras3conv.builder.to_keras.call import HANDLERS, Call, Result, handles, ops
from keras3conv.builder.to_keras.forms import Constant
from keras3conv.builder.to_keras.operations_axes import for_each_example, permuted, reshaped
from keras3conv.builder.to_keras.operations_indexing import as_int32, picked, sliced, taken
from keras3conv.errors import RuleError
from keras3conv.model.graph import Shape, Size
from keras3conv.transforms import Array


@handles("index", "_unsafe_index")
def _index(call: Call) -> Result:
    given, indices = call.arguments["self"], call.arguments["indices"]
    used = [axis for axis, index in enumerate(indices) if index is not None]
    if len(used) == 1 and indices[used[0]].dtype not in ("bool", "uint8"):
        return taken(call, given, used[0], indices[used[0]], call.shape)
    if used == [0, 1] and _are_example_numbers(call, indices[0], given) and isinstance(indices[1], Constant):
        return _taken_of_each_example(call, given, indices[1])
    if used == [0, 1] and _are_example_numbers(call, indices[0], given) and len(indices[1].shape) == 1:
        return _one_of_each_example(call, given, indices[1])
    if any(indices[axis].dtype in ("bool", "uint8") for axis in used):
        raise RuleError(
            "a boolean mask chooses elements, but their number depends on the data; use torch.where instead"
        )
    if all(isinstance(indices[axis], Constant) for axis in used) and used == list(range(used[0], used[-1] + 1)):
        return _taken_at_fixed_places(call, given, used, [indices[axis].array for axis in used])
    if used == list(range(len(used))) and (
        _are_example_numbers(call, indices[0], given) or _numbers_rows(given, indices)
    ):
        return _taken_of_examples(call, given, [indices[axis] for axis in used[1:]])
    raise RuleError("several computed index tensors are supported only if the first one is torch.arange(batch size)")


def _numbers_rows(tensor: Any, indices: list[Any]) -> bool:
    """Return True if an indexing `x[i, j]` selects elements in each row of `x`: the first index is `arange(rows)`.

    No other index may vary along the axis of the first index.

    Args:
        tensor: The indexed tensor.
        indices: The index for each axis of the tensor; None for an axis that is not indexed.
    """
    index, rank = indices[0], max(len(one.shape) for one in indices if one is not None)
    is_constant = isinstance(index, Constant) and index.array.ndim == rank and index.array.size == index.array.shape[0]
    return (
        is_constant
        and tensor.shape[0] == index.array.size
        and np.array_equal(index.array.ravel(), np.arange(index.array.size))
    )


def _taken_at_fixed_places(call: Call, tensor: Any, axes: list[int], arrays: list[Array]) -> Value:
    """Return the elements that constant indices select along adjacent axes, which are first merged into one axis."""
    value = call.ordered(tensor, identity(len(tensor.shape)))
    sizes = tuple(value.shape[axis] for axis in axes)
    if not all(isinstance(size, int) for size in sizes):
        raise RuleError(
            "several index tensors pick along an axis of dynamic size, but each of these axes needs a fixed size"
        )
    numbers = np.ravel_multi_index(tuple(np.broadcast_arrays(*arrays)), sizes, mode="wrap")
    flat = reshaped(call, value, (*value.shape[: axes[0]], prod(sizes), *value.shape[axes[-1] + 1 :]))
    index = Constant(name=f"{call.node.outputs[0].name} places", array=numbers, shape=numbers.shape)
    return taken(call, flat, axes[0], index, call.shape)


def _taken_of_examples(call: Call, tensor: Any, indices: list[Any]) -> Value:
    """Return the elements that computed indices select in each sample, along axes after the batch axis.

    All elements along an axis are selected if its index is `arange(size)` and varies along an axis of its own.

    Args:
        call: The call.
        tensor: The tensor.
        indices: An array of indices for each of the first axes after the batch axis.
    """
    value = call.ordered(tensor, identity(len(tensor.shape)))
    rank = max(len(index.shape) for index in indices)
    whole = {
        axis: place
        for axis, index in enumerate(indices, 1)
        if index.shape and value.shape[axis] in index.shape and (place := _own_axis(index, indices, rank))
    }
    if any(not isinstance(value.shape[axis], int) for axis in range(1, len(indices) + 1)):
        raise RuleError(
            "several index tensors pick along an axis of dynamic size, but each axis except the batch needs a fixed "
            "size"
        )
    picking = [axis for axis in range(1, len(indices) + 1) if axis not in whole]
    rest = [*sorted(whole), *range(len(indices) + 1, value.rank)]
    value = call.ordered(value, (0, *picking, *rest))
    strides = [prod(int(value.shape[one]) for one in picking[place + 1 :]) for place in range(len(picking))]
    parts = [
        _with_axes(call, _scaled(call, indices[axis - 1], stride), rank)
        for axis, stride in sorted(zip(picking, strides, strict=True), key=lambda pair: _is_fixed(indices[pair[0] - 1]))
    ]
    places = tuple(
        next((size for size in sizes if size != 1), 1) for sizes in zip(*(one.shape for one in parts), strict=True)
    )
    places = (value.shape[0], *places[1:])
    number: Any = None
    for part in parts:
        number = part if number is None else sign(call, "+", number, part)
    linear = call.step(number, places, dtype="int32") if len(parts) > 1 else parts[0]
    if linear.shape != places:
        linear = for_each_example(call, linear, [0])
    sizes = tuple(value.shape[axis] for axis in rest)
    flat_shape = (value.shape[0], prod(int(value.shape[one]) for one in picking), *sizes)
    flat = call.step(ops.reshape(value, _with_batch_open(flat_shape)), flat_shape, dtype=value.dtype)
    count = prod(int(size) for size in places[1:])
    index = call.step(
        ops.reshape(linear, (-1, count, *(1,) * len(rest))), (places[0], count, *(1,) * len(rest)), dtype="int32"
    )
    found = call.step(ops.take_along_axis(flat, index, axis=1), (places[0], count, *sizes), dtype=value.dtype)
    apart = (*places, *sizes)
    made = call.step(ops.reshape(found, _with_batch_open(apart)), apart, dtype=value.dtype)
    return _with_whole_axes(call, made, rank, [whole[axis] for axis in sorted(whole)])


def _is_fixed(index: Any) -> bool:
    return isinstance(index, Constant)


def _scaled(call: Call, index: Any, stride: int) -> Any:
    """Return the indices along one axis, multiplied by a stride, to compute indices along several merged axes.

    Args:
        call: The call.
        index: The indices, constant or computed.
        stride: The distance along the merged axis of two neighbours along this axis.
    """
    if isinstance(index, Constant):
        return replace(index, name=f"{index.name} {stride}", array=index.array * stride)
    return index if stride == 1 else call.step(index * stride, index.shape, index.order, index.dtype)


def _with_batch_open(shape: Shape) -> tuple[int, ...]:
    if not all(isinstance(size, int) for size in shape[1:]):
        raise RuleError(
            "several index tensors are used for a tensor with a dynamic size, but every size except the batch must "
            "be fixed"
        )
    return (-1, *(int(size) for size in shape[1:]))


def _own_axis(index: Any, indices: list[Any], rank: int) -> int:
    """Return the axis along which only `index` varies, as an `arange`, after all indices are broadcast; 0 for none.

    Args:
        index: This index array.
        indices: All index arrays of the call.
        rank: The number of axes of the arrays after broadcasting.
    """
    if not isinstance(index, Constant):
        return 0
    sizes = (1,) * (rank - index.array.ndim) + index.array.shape
    long = [axis for axis, size in enumerate(sizes) if size != 1]
    if len(long) != 1 or not long[0] or not np.array_equal(index.array.ravel(), np.arange(index.array.size)):
        return 0
    place = long[0] - rank
    others = [one for one in indices if one is not index and len(one.shape) >= -place and one.shape[place] != 1]
    return 0 if others or len(indices) == 1 else long[0]


def _with_axes(call: Call, index: Any, rank: int) -> Value:
    value = call.writer.value(as_int32(index))
    value = call.ordered(value, identity(value.rank))
    return reshaped(call, value, (1,) * (rank - value.rank) + value.shape)


def _with_whole_axes(call: Call, selected: Value, rank: int, places: list[int]) -> Value:
    """Move the axes that an index selects as a whole to their position in the result, and return the result.

    Args:
        call: The call.
        selected: The selected elements: first the axes of the index arrays, then the axes to move.
        rank: The number of axes of the index arrays.
        places: For each axis to move, its index in the result; `selected` has an axis of size one there.
    """
    dims = [*range(selected.rank)]
    for number, place in enumerate(places):
        dims[place], dims[rank + number] = dims[rank + number], dims[place]
    selected = permuted(selected, dims)
    return reshaped(call, selected, call.shape)


def _one_of_each_example(call: Call, tensor: Any, index: Any) -> Value:
    """Return one row from every sample of a value, selected by one index per sample."""
    value = call.ordered(tensor, identity(len(tensor.shape)))
    rank, batch = value.rank, value.shape[0]
    rows = call.step(
        ops.reshape(call.writer.value(index), (-1, *(1,) * (rank - 1))), (batch, *(1,) * (rank - 1)), dtype="int32"
    )
    picked_rows = call.step(ops.take_along_axis(value, rows, axis=1), (batch, 1, *value.shape[2:]), dtype=value.dtype)
    return picked(call, picked_rows, 1, 0, call.shape)


def _are_example_numbers(call: Call, index: Any, tensor: Any) -> bool:
    """Return True if an index array selects every sample in turn: `arange(batch)` of shape (batch, 1, ..., 1)."""
    value = index if isinstance(index, Value) else None
    while value is not None and (before := call.writer.before_reshape.get(value)) is not None:
        value = before
    numbers = value is not None and value.name in call.writer.example_numbers
    is_all = isinstance(index.shape[0], Size) and index.shape[0] == tensor.shape[0]
    return numbers and is_all and all(size == 1 for size in index.shape[1:])


def _taken_of_each_example(call: Call, tensor: Any, index: Constant) -> Value:
    """Return the elements along the second axis that the same constant indices select in all samples of a value."""
    value, array = call.writer.value(tensor), index.array
    if value.rank != 2 or array.ndim != len(call.shape) or array.shape[0] != 1:
        raise RuleError(
            "constant indices differ between the samples of a batch, but must be equal for all samples of a tensor "
            "(batch, size)"
        )
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
        raise RuleError(
            f"arange to a dynamic size is supported only with start=0 and step=1, not start={start} and step={step}"
        )
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
    for one in others:
        if value.shape[one] != index.shape[one]:
            value = _first_part(call, value, one, index.shape[one])
    places = call.ordered(as_int32(index), identity(value.rank))
    return call.step(ops.take_along_axis(call.ordered(value, identity(value.rank)), places, axis=axis))


def _taken_along(call: Call) -> Result:
    """Convert `torch.take_along_dim`, which the export replaces by an operator of its own."""
    rank = len(call.shape)
    value = call.ordered(call.arguments["self"], identity(rank))
    places = call.ordered(as_int32(call.arguments["indices"]), identity(rank))
    return call.step(ops.take_along_axis(value, places, axis=call.arguments["dim"] % rank))


HANDLERS["keras3conv.take_along_dim"] = _taken_along


def _first_part(call: Call, value: Value, axis: int, size: int | Size) -> Value:
    """Return the first `size` elements of a value along an axis; torch's gather never reads the later ones."""
    if not isinstance(size, int):
        raise RuleError(
            f"gather reads only a part of axis {axis}, whose size is dynamic: give the index the size of the tensor "
            "along this axis"
        )
    shape = tuple(size if one == axis else old for one, old in enumerate(value.shape))
    return sliced(call, value, axis, 0, size, 1, shape)
