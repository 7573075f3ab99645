"""Convert operations that create a tensor from sizes, on the device of the model's first input."""

from functools import partial
from typing import Any

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.operations.expressions import converted, device_of, in_front, torch
from keras3conv.builder.program.operation import Dtype
from keras3conv.builder.program.program import Value
from keras3conv.model.graph import Size


@handles("keras.ops.arange")
def _arange(call: Call) -> None:
    start, stop, step = (call.get(name) for name in ("start", "stop", "step"))
    if call.tensors:
        raise call.refuse(
            "arange with a tensor as start, stop or step is not supported; use numbers or sizes of tensors"
        )
    bounds = [0, start] if stop is None else [start, stop]
    args = [call.size(bound) if isinstance(bound, int | Size) else float(bound) for bound in bounds]
    has_step = step not in (None, 1)
    if isinstance(args[0], int) and args[0] == 0 and not has_step:
        args = args[1:]
    call.returns(torch.arange(*args, *([step] if has_step else []), **_made(call)))


def _filled(call: Call, *, name: str) -> None:
    if isinstance(call.get("fill_value"), Value):
        _repeated(call, call["fill_value"])
        return
    shape = call["shape"]
    sizes = call.sizes(shape if isinstance(shape, tuple | list) else (shape,))
    value = [float(call["fill_value"])] if name == "full" else []
    call.returns(torch.named(name)(sizes, *value, **_made(call)))


def _repeated(call: Call, value: Value) -> None:
    """Convert `full` with a tensor as fill value: expand this tensor to the shape, with new axes in front."""
    value = converted(call, value, call.dtype)
    order = in_front(value.order, len(call.shape) - value.rank)
    call.returns(value.method("expand", *call.sizes([call.shape[axis] for axis in order])), order)


@handles("keras.ops.eye", "keras.ops.identity", "keras.ops.tri")
def _matrix(call: Call) -> None:
    rows, columns, shift = call.get("N", call.get("n")), call.get("M"), call.get("k", 0)
    columns = rows if columns is None else columns
    if shift and not call.node.kind.endswith("tri"):
        raise call.refuse(f"{call.node.kind.rpartition('.')[2]} is supported only with k=0, not k={shift}")
    sizes = call.sizes((rows, columns))
    if call.node.kind.endswith("tri"):
        call.returns(torch.ones(sizes, **_made(call)).method("tril", *([shift] if shift else [])))
    else:
        call.returns(torch.eye(*sizes, **_made(call)))


def _made(call: Call) -> dict[str, Any]:
    """Return the arguments `dtype` and `device` for the torch function that creates the result of a call."""
    return {"dtype": Dtype(call.dtype), "device": device_of(call.builder.anchor)}


for _name in ("full", "ones", "zeros"):
    handles(f"keras.ops.{_name}")(partial(_filled, name=_name))
