"""Tensors that are made of nothing but sizes, on the device of the model's input."""

from functools import partial

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.operations.expressions import converted
from keras3conv.builder.program.program import Value
from keras3conv.model.graph import Size


@handles("keras.ops.arange")
def _arange(call: Call) -> None:
    start, stop, step = (call.get(name) for name in ("start", "stop", "step"))
    if call.tensors:
        raise call.refuse("ends that are tensors are not supported")
    ends = [0, start] if stop is None else [start, stop]
    written = [call.size(end) if isinstance(end, int | Size) else repr(float(end)) for end in ends]
    written = written[1:] if written[0] == "0" and step in (None, 1) else written
    more = [] if step in (None, 1) else [repr(step)]
    _made(call, f"torch.arange({', '.join([*written, *more])}, ")


def _filled(call: Call, *, function: str) -> None:
    if isinstance(call.get("fill_value"), Value):
        _repeated(call, call["fill_value"])
        return
    shape = call["shape"]
    sizes = call.sizes(shape if isinstance(shape, tuple | list) else (shape,))
    value = f", {float(call['fill_value'])!r}" if function == "full" else ""
    _made(call, f"torch.{function}(({sizes},){value}, " if sizes else f"torch.{function}((){value}, ")


def _repeated(call: Call, value: Value) -> None:
    """A tensor along new axes in front of its own."""
    made = call.node.outputs[0]
    value, more = converted(call, value, made.dtype), len(made.shape) - value.rank
    order = (*range(more), *(axis + more for axis in value.order))
    call.returns(f"{{0}}.expand({call.sizes([made.shape[axis] for axis in order])})", [value], order)


@handles("keras.ops.eye", "keras.ops.identity", "keras.ops.tri")
def _matrix(call: Call) -> None:
    rows, columns, shift = call.get("N", call.get("n")), call.get("M"), call.get("k", 0)
    columns = rows if columns is None else columns
    if shift and not call.node.kind.endswith("tri"):
        raise call.refuse(f"k={shift} is not supported")
    sizes = call.sizes((rows, columns))
    if call.node.kind.endswith("tri"):
        _made(call, f"torch.ones(({sizes}), ", f".tril({shift})" if shift else ".tril()")
    else:
        _made(call, f"torch.eye({sizes}, ")


def _made(call: Call, beginning: str, end: str = "") -> None:
    dtype = call.node.outputs[0].dtype
    call.returns(f"{beginning}dtype=torch.{dtype}, device={{0}}.device){end}", [call.anchor])


for _name in ("full", "ones", "zeros"):
    handles(f"keras.ops.{_name}")(partial(_filled, function=_name))
