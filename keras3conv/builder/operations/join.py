"""Convert operations that join or split tensors along an axis."""

from collections.abc import Sequence

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.operations.expressions import converted, torch, with_new, without
from keras3conv.builder.program.program import Value

_AXIS = {"dsplit": 2, "dstack": 2, "hsplit": 1, "hstack": 1, "vsplit": 0, "vstack": 0}
"""For each operation that joins or splits tensors, such as `vstack`, the axis along which it does so."""


def _of_one_dtype(call: Call, values: Sequence[Value]) -> list[Value]:
    """Return the operands of a call, converted to the dtype of its result.

    If that is a floating-point dtype they are unchanged, because then torch promotes them as Keras does.
    """
    return [
        value if "float" in call.dtype or value.dtype == call.dtype else converted(call, value, call.dtype)
        for value in values
    ]


def _joined(call: Call, values: Sequence[Value], axis: int) -> None:
    aligned, order = call.aligned(_of_one_dtype(call, values))
    call.returns(torch.cat(aligned, dim=aligned[0].position(axis)), order)


@handles("keras.ops.concatenate")
def _concatenate(call: Call) -> None:
    _joined(call, call.tensors, call["axis"])


@handles("keras.ops.append")
def _append(call: Call) -> None:
    if call["axis"] is not None:
        _joined(call, call.tensors, call["axis"])
        return
    call.returns(torch.cat([call.flat(value) for value in _of_one_dtype(call, call.tensors)]))


@handles("keras.ops.stack")
def _stack(call: Call) -> None:
    values, order = call.aligned(_of_one_dtype(call, call.tensors))
    order, position = with_new(order, call["axis"] % (len(order) + 1))
    call.returns(torch.stack(values, dim=position), order)


@handles("keras.ops.hstack", "keras.ops.vstack", "keras.ops.dstack")
def _named_stack(call: Call) -> None:
    axis, least = _named_axis(call), min(value.rank for value in call.tensors)
    if least > axis and (least > 1 or axis):
        _joined(call, call.tensors, axis)
    elif call.node.kind.endswith("hstack"):
        _joined(call, call.tensors, 0)
    else:
        function = torch.vstack if call.node.kind.endswith("vstack") else torch.dstack
        call.returns(function([call.keras_order(value) for value in call.tensors]))


def _named_axis(call: Call) -> int:
    return _AXIS[call.node.kind.rpartition(".")[2]]


def _parted(call: Call, tensor: Value, axis: int) -> None:
    parts, position = call["indices_or_sections"], tensor.position(axis)
    count = len(call.node.outputs)
    if count == 1:
        call.passes(tensor)
        return
    if isinstance(parts, int):
        size = tensor.shape[axis]
        is_uneven = isinstance(size, int) and size % parts != 0
        split = tensor.method("tensor_split" if is_uneven else "chunk", parts, dim=position)
    else:
        split = tensor.method("tensor_split", call.sizes(list(parts)), dim=position)
    call.returns(split, [tensor.order] * count)


@handles("keras.ops.split", "keras.ops.array_split")
def _split(call: Call) -> None:
    _parted(call, call.tensor, call["axis"])


@handles("keras.ops.hsplit", "keras.ops.vsplit", "keras.ops.dsplit")
def _named_split(call: Call) -> None:
    given, axis = call.tensor, _named_axis(call)
    _parted(call, given, min(axis, given.rank - 1))


@handles("keras.ops.unstack")
def _unstack(call: Call) -> None:
    given, axis = call.tensor, call["axis"] % call.tensor.rank
    order, position = without(given.order, (axis,)), given.position(axis)
    if len(call.node.outputs) == 1:
        call.returns(given.method("squeeze", position), order)
    else:
        call.returns(given.method("unbind", position), [order] * len(call.node.outputs))


@handles("keras.ops.meshgrid")
def _meshgrid(call: Call) -> None:
    values, rank = call.tensors, len(call.shape)
    if any(value.rank > 1 for value in values):
        raise call.refuse(
            "meshgrid is supported only for tensors of one axis: for more axes the result depends on the Keras backend"
        )
    if len(values) == 1:
        call.passes(values[0])
        return
    order = tuple(range(rank))
    call.returns(torch.meshgrid(*values, indexing=call["indexing"]), [order] * len(call.node.outputs))
