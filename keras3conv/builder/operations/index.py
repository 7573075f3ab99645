"""Convert operations that select or write values by index: slices, gather, scatter, one-hot, embeddings, diagonals."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.operations.expressions import (
    along,
    axes_of,
    device_of,
    fixed,
    is_float,
    torch,
    torch_dtype,
    without,
)
from keras3conv.builder.operations.indexing import ALL, full_key, indexed, is_all, sliced
from keras3conv.builder.program.operation import Dtype, Expression, Operation, operator
from keras3conv.builder.program.program import Value, identity
from keras3conv.model.graph import Size

_INT32 = Dtype("int32")


@handles("keras.ops.get_item")
def _get_item(call: Call) -> None:
    given, key = call["x"], call["key"]
    if isinstance(key, list):
        key = tuple(key)  # a saved Keras model has lists instead of tuples
    entries = full_key(call, key, given.rank)
    arrays = [axis for axis, entry in enumerate(entries) if isinstance(entry, Value)]
    if len(arrays) == 1 and all(axis in arrays or is_all(entry) for axis, entry in enumerate(entries)):
        _picked(call, given, entries[arrays[0]], arrays[0])
        return
    if arrays:
        call.returns(indexed(call, given, entries))
        return
    expression, order = sliced(call, given, entries)
    if expression == given:
        call.passes(given, order)
    else:
        call.returns(expression, order)


def _picked(call: Call, tensor: Value, indices: Any, axis: int) -> None:
    """Convert the selection of elements by index along one axis, as in `take`.

    Args:
        call: The call.
        tensor: The tensor from which elements are selected.
        indices: A number, or an array of indices; in the result, the axes of the array replace the selected axis.
        axis: The Keras axis along which elements are selected.
    """
    position = tensor.position(axis)
    if isinstance(indices, int):
        call.returns(tensor[along(position, indices)], without(tensor.order, (axis,)))
        return
    count: int
    if isinstance(indices, Value):
        count, inner = indices.rank, indices.order
        is_index = not is_float(indices) and indices.dtype != "bool"
        index: Any = indices if is_index else indices.method("long")
    else:
        count, inner, index = _rank(indices), identity(_rank(indices)), _plain(call, indices)
    moved = [old + (count - 1) * (old > axis) for old in tensor.order]
    order = (*moved[:position], *(axis + one for one in inner), *moved[position + 1 :])
    call.returns(tensor[along(position, index)], order)


def _rank(indices: Any) -> int:
    return 1 + _rank(indices[0]) if isinstance(indices, tuple | list) else 0


def _plain(call: Call, indices: Any) -> Any:
    """Return indices in nested lists unchanged; raise `RuleError` if one of them is not an integer."""
    if isinstance(indices, tuple | list):
        return [_plain(call, one) for one in indices]
    if not isinstance(indices, int):
        raise call.refuse(f"indices must be integers or a tensor, found {type(indices).__name__}")
    return indices


@handles("keras.ops.take")
def _take(call: Call) -> None:
    given, axis = call["x"], call["axis"]
    if axis is None:
        given, axis = call.flat(given), 0
    _picked(call, given, call["indices"], axis % given.rank)


@handles("keras.ops.take_along_axis")
def _take_along_axis(call: Call) -> None:
    """Convert `take_along_axis`; negative indices, which torch does not accept, are taken modulo the axis size."""
    given, indices, axis = call["x"], call["indices"], call["axis"]
    if not isinstance(indices, Value):
        raise call.refuse(f"the indices of take_along_axis must be a tensor, found {type(indices).__name__}")
    if axis is None:
        given, indices, axis = call.flat(given), call.flat(indices), 0
    (given, indices), order = call.aligned([given, indices])
    position = given.position(axis)
    index = indices.method("long") % given.attribute("shape")[position]
    call.returns(torch.take_along_dim(given, index, dim=position), order)


@handles("keras.ops.slice")
def _slice(call: Call) -> None:
    given = call["inputs"]
    key = [
        slice(start, None if size == -1 else _shifted(size, start))
        for start, size in zip(_starts(call), call["shape"], strict=True)
    ]
    expression, order = sliced(call, given, [_whole(one, size) for one, size in zip(key, given.shape, strict=True)])
    if expression == given:
        call.passes(given)
    else:
        call.returns(expression, order)


def _shifted(size: int | Size, start: int) -> int | Size:
    return size + start if isinstance(size, int) else replace(size, offset=size.offset + start)


def _whole(one: slice, size: int | Size) -> slice:
    return ALL if one.start == 0 and one.stop in (None, size) else one


def _starts(call: Call) -> list[int]:
    starts = call["start_indices"]
    if not isinstance(starts, tuple | list) or not all(isinstance(start, int) for start in starts):
        raise call.refuse(
            "start_indices must be a list of integers; indices that depend on the inputs are not supported"
        )
    return list(starts)


@handles("keras.ops.slice_update")
def _slice_update(call: Call) -> None:
    starts = _starts(call)
    (given, updates), order = call.aligned([call["inputs"], call["updates"]])
    partial = [axis for axis in range(given.rank) if updates.shape[axis] != given.shape[axis]]
    if not partial:
        call.passes(updates)
        return
    ranges = []
    for axis in partial:
        size = fixed(call, updates.shape[axis], "the size of the update")
        ranges.append((given.position(axis), starts[axis], starts[axis] + size))
    call.returns(_scattered(given, updates, ranges), order)


def _scattered(whole: Expression, updates: Value, ranges: Sequence[tuple[int, int, int]]) -> Operation:
    """Return the operation that writes new values into a rectangular part of a tensor, as `x[:, 1:3] = updates`.

    Args:
        whole: The tensor.
        updates: The new values.
        ranges: (torch position of an axis, start, end) for each axis that is not replaced as a whole: [(1, 1, 3)].
    """
    (position, start, end), *others = ranges
    part: Expression = updates
    if others:
        part = _scattered(whole[along(position, slice(start, end))], updates, others)
    return whole.method("slice_scatter", part, position, start, end)


@handles("keras.ops.scatter")
def _scatter(call: Call) -> None:
    indices, values = call.keras_order(call["indices"]), call.keras_order(call["values"])
    zeros = values.method("new_zeros", *call.sizes(call.shape))
    call.returns(zeros.method("index_put", _by_axis(indices), values, accumulate=True))


def _by_axis(indices: Value) -> Operation:
    """Return the expression that unstacks indices: Keras stacks them along a last axis, torch takes one per axis."""
    return indices.method("long").method("unbind", -1)


@handles("keras.ops.scatter_update")
def _scatter_update(call: Call) -> None:
    if call["reduction"] is not None:
        raise call.refuse(f"scatter_update is supported only with reduction=None, not {call['reduction']!r}")
    given, indices, updates = (call.keras_order(call[name]) for name in ("inputs", "indices", "updates"))
    call.returns(given.method("index_put", _by_axis(indices), updates))


def _is_class(call: Call, tensor: Value) -> Operation:
    """Return the expression of a boolean one-hot tensor, in which a new last axis has one position per class.

    `torch.nn.functional.one_hot` is not used, because it raises for values that are not a class index.

    Args:
        call: The call, whose `num_classes` is the size of the new axis.
        tensor: The class indices.
    """
    classes = torch.arange(call["num_classes"], device=device_of(tensor))
    return operator("==", tensor.method("unsqueeze", -1), classes)


@handles("keras.ops.one_hot")
def _one_hot(call: Call) -> None:
    given = call["x"]
    axis = call["axis"] % (given.rank + 1)
    order = (*(old + (old >= axis) for old in given.order), axis)
    rows = _is_class(call, given)
    call.returns(rows if call.dtype == "bool" else rows.method("to", torch_dtype(call, call.dtype)), order)


@handles("keras.ops.multi_hot")
def _multi_hot(call: Call) -> None:
    """Convert `multi_hot`: a sample gets a 1 for each class whose index is among its values."""
    given, axis = call.keras_order(call["inputs"]), call["axis"]
    if axis not in (-1, given.rank):
        raise call.refuse(f"multi_hot is supported only with axis=-1 or axis={given.rank}, not axis={axis}")
    rows = _is_class(call, given).method("any", 1 if given.rank > 1 else 0)
    call.returns(rows.method("to", torch_dtype(call, call["dtype"] or "float32")))


@handles("keras.ops.tril", "keras.ops.triu")
def _triangle(call: Call) -> None:
    """Convert `tril` and `triu`. If the last two axes of the tensor are swapped in torch, `tril` becomes `triu`."""
    given, name, offset = call["x"], call.node.kind.rpartition(".")[2], call["k"]
    rank = given.rank
    if given.order[-2:] == (rank - 1, rank - 2):
        name, offset = ("triu" if name == "tril" else "tril"), -offset
    elif given.order[-2:] != (rank - 2, rank - 1):
        given = call.keras_order(given)
    call.returns(given.method(name, *_unless_zero(offset)), given.order)


def _unless_zero(offset: int) -> list[int]:
    return [offset] if offset else []


@handles("keras.ops.diagonal", "keras.ops.trace")
def _diagonal(call: Call) -> None:
    given = call["x"]
    axes = axes_of((call["axis1"], call["axis2"]), given.rank)
    kept = without(given.order, axes)
    diagonal = given.method("diagonal", call["offset"], *(given.position(axis) for axis in axes))
    if call.node.kind.endswith("diagonal"):
        call.returns(diagonal, (*kept, len(kept)))
        return
    settings = {} if is_float(given) else {"dtype": Dtype(call.dtype)}
    call.returns(diagonal.method("sum", -1, **settings), kept)


@handles("keras.ops.diag")
def _diag(call: Call) -> None:
    call.returns(call.keras_order(call["x"]).method("diag", *_unless_zero(call["k"])))


@handles("keras.ops.diagflat")
def _diagflat(call: Call) -> None:
    call.returns(torch.diagflat(call.keras_order(call["x"]), call["k"]))


@handles("keras.ops.digitize")
def _digitize(call: Call) -> None:
    given, bins = call["x"], call["bins"]
    if not isinstance(bins, Value):
        bins = torch.tensor(list(bins), device=device_of(given))
    call.returns(torch.bucketize(given, bins, right=True).method("to", _INT32), given.order)


@handles("keras.ops.searchsorted")
def _searchsorted(call: Call) -> None:
    line, given = call["sorted_sequence"], call["values"]
    if not isinstance(line, Value) or not isinstance(given, Value):
        raise call.refuse("searchsorted is supported only if sorted_sequence and values are tensors, not numbers")
    call.returns(torch.searchsorted(line, given, side=call["side"]).method("to", _INT32), given.order)


@handles("keras.ops.isin")
def _isin(call: Call) -> None:
    given, others = call["x1"], call["x2"]
    if not isinstance(others, Value):
        others = torch.tensor(_plain(call, others), device=device_of(given))
    settings = {"invert": True} if call["invert"] else {}
    call.returns(torch.isin(given, others, **settings), given.order)


@handles("keras.layers.Embedding")
def _embedding(call: Call) -> None:
    """Convert an Embedding; as in Keras, indices in floating-point numbers are rounded towards zero."""
    given = call.tensor
    if not given.dtype.startswith(("float", "bfloat")):
        call.builder.by_rule(call)
        return
    table = call.builder.rule_module(call, "torch.nn.")
    call.returns(table(call.keras_order(given).method("int")))
