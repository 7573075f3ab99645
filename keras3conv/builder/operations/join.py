"""Operations that put tensors together and take them apart along an axis."""

from collections.abc import Sequence

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.operations.expressions import converted, with_new, without
from keras3conv.builder.program.names import places
from keras3conv.builder.program.program import Value

_AXIS = {"dsplit": 2, "dstack": 2, "hsplit": 1, "hstack": 1, "vsplit": 0, "vstack": 0}
"""The axis of the functions that are named after theirs."""


def _of_one_dtype(call: Call, values: Sequence[Value]) -> list[Value]:
    """Numbers of the dtype that Keras joins them in; torch finds that of floating-point numbers by itself."""
    made = call.node.outputs[0].dtype
    return [value if "float" in made or value.dtype == made else converted(call, value, made) for value in values]


def _joined(call: Call, values: Sequence[Value], axis: int) -> None:
    aligned, order = call.aligned(_of_one_dtype(call, values))
    call.returns(f"torch.cat([{places(aligned)}], dim={aligned[0].place(axis)})", aligned, order)


@handles("keras.ops.concatenate")
def _concatenate(call: Call) -> None:
    _joined(call, call.tensors, call["axis"])


@handles("keras.ops.append")
def _append(call: Call) -> None:
    if call["axis"] is not None:
        _joined(call, call.tensors, call["axis"])
        return
    flat = [
        call.step("{0}.flatten()", [call.keras_order(value)], shape=(0,), order=(0,))
        for value in _of_one_dtype(call, call.tensors)
    ]
    call.returns("torch.cat([{0}, {1}])", flat)


@handles("keras.ops.stack")
def _stack(call: Call) -> None:
    values, order = call.aligned(_of_one_dtype(call, call.tensors))
    order, place = with_new(order, call["axis"] % (len(order) + 1))
    call.returns(f"torch.stack([{places(values)}], dim={place})", values, order)


@handles("keras.ops.hstack", "keras.ops.vstack", "keras.ops.dstack")
def _named_stack(call: Call) -> None:
    axis, least = _named_axis(call), min(value.rank for value in call.tensors)
    if least > axis and (least > 1 or axis):
        _joined(call, call.tensors, axis)
    elif call.node.kind.endswith("hstack"):
        _joined(call, call.tensors, 0)
    else:
        values = [call.keras_order(value) for value in call.tensors]
        call.returns(f"torch.{call.node.kind.rpartition('.')[2]}([{places(values)}])", values)


def _named_axis(call: Call) -> int:
    return _AXIS[call.node.kind.rpartition(".")[2]]


def _parted(call: Call, given: Value, axis: int) -> None:
    parts, place = call["indices_or_sections"], given.place(axis)
    count = len(call.node.outputs)
    if count == 1:
        call.passes(given)
        return
    if isinstance(parts, int):
        even = isinstance(given.shape[axis], int) and given.shape[axis] % parts  # type: ignore[operator]
        shown = f"tensor_split({parts}" if even else f"chunk({parts}"
    else:
        shown = f"tensor_split(({call.sizes(list(parts))}{',' * (len(list(parts)) == 1)})"
    call.returns(f"{{0}}.{shown}, dim={place})", [given], [given.order] * count)


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
    order = without(given.order, (axis,))
    if len(call.node.outputs) == 1:
        call.returns(f"{{0}}.squeeze({given.place(axis)})", [given], order)
    else:
        call.returns(f"{{0}}.unbind({given.place(axis)})", [given], [order] * len(call.node.outputs))


@handles("keras.ops.meshgrid")
def _meshgrid(call: Call) -> None:
    values, rank = call.tensors, len(call.node.outputs[0].shape)
    if any(value.rank > 1 for value in values):
        raise call.refuse("Keras' backends do not agree on what a grid of more than lines is")
    if len(values) == 1:
        call.passes(values[0])
        return
    order = tuple(range(rank))
    call.returns(
        f'torch.meshgrid({places(values)}, indexing="{call["indexing"]}")', values, [order] * len(call.node.outputs)
    )
