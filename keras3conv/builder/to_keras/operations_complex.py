"""Convert operators on complex numbers; a complex tensor is a pair of real values."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from keras3conv.builder.program.operation import walk
from keras3conv.builder.program.program import Value
from keras3conv.builder.to_keras.broadcasting import elementwise, sign
from keras3conv.builder.to_keras.call import Call, Handler, Result, handler_of, handles, ops
from keras3conv.builder.to_keras.forms import Complex, Constant, Held, Unmerged
from keras3conv.builder.to_keras.operations_indexing import picked
from keras3conv.errors import RuleError
from keras3conv.model.graph import mapped

_OF_PARTS = frozenset(
    {
        "view", "reshape", "_unsafe_view", "flatten", "unflatten", "unsqueeze", "squeeze", "permute", "transpose", "t",
        "movedim", "expand", "repeat", "select", "slice", "narrow", "split", "split_with_sizes", "chunk", "unbind",
        "index_select", "flip", "roll", "clone", "contiguous", "detach", "sum", "mean", "cumsum", "cat", "stack", "neg",
        "add", "sub", "rsub", "alias", "constant_pad_nd", "pad", "view_as", "expand_as", "to", "_to_copy",
        "fft_fftshift", "fft_ifftshift", "index", "gather", "where", "masked_fill", "copy", "fill", "zero",
        "zeros_like", "slice_scatter", "select_scatter", "index_put", "tril", "triu", "diagonal",
    }
)  # fmt: skip
"""Operators that are applied to the real and the imaginary parts of complex numbers separately."""

_OPERANDS = frozenset({"self", "other", "value", "values", "src", "tensors"})
"""The arguments of these operators that may be complex; the others are axes, sizes, indices, masks and factors."""

_PRODUCTS = frozenset({"mul", "multiply", "matmul", "bmm", "mm", "einsum"})
_ITSELF = frozenset({"resolve_conj", "resolve_neg"})

Pair = tuple[Any, Any]


def handler_for(call: Call) -> Handler:
    """Return the function that converts a call: the one for complex numbers if an argument of the call is complex.

    Raises:
        RuleError: The operator has no counterpart in Keras.
    """
    is_complex = any(map(_is_complex, walk(call.arguments)))
    handler = _handler_of_complex(call.node.kind) if is_complex else handler_of(call.node.kind)
    if handler is None:
        raise RuleError(f"Keras has no counterpart for {call.name}{' of complex numbers' if is_complex else ''}")
    return handler


def _is_complex(leaf: Any) -> bool:
    return isinstance(leaf, Complex | complex) or (isinstance(leaf, Constant) and np.iscomplexobj(leaf.array))


def _handler_of_complex(kind: str) -> Handler | None:
    """Return the function that converts calls of an operator on complex numbers; None if there is none."""
    name = kind.split(".")[1]
    if name in _COMPLEX:
        return _COMPLEX[name]
    handler = handler_of(kind)
    if handler is not None and name in _OF_PARTS:
        return lambda call: _of_parts(call, handler)
    if handler is not None and name in _PRODUCTS:
        return lambda call: _product(call, handler)
    if name.startswith("fft_"):
        return handler
    return (lambda call: call.arguments["self"]) if name in _ITSELF else None


def pair_of(tensor: Any) -> Pair:
    """Return the real and the imaginary part of a tensor, constant or number; the second is None for real numbers."""
    if isinstance(tensor, Complex):
        return tensor.real, tensor.imaginary
    if isinstance(tensor, Constant) and np.iscomplexobj(tensor.array):
        return tuple(  # type: ignore[return-value]
            replace(tensor, name=f"{tensor.name} {part}", array=np.ascontiguousarray(getattr(tensor.array, part)))
            for part in ("real", "imag")
        )
    if isinstance(tensor, complex):
        return tensor.real, tensor.imag
    return tensor, None


def _real_call(call: Call, part: int) -> Call:
    """Return a call in which each complex operand is replaced by its real (`part` 0) or imaginary part (`part` 1)."""

    def one(leaf: Any) -> Any:
        real, imaginary = pair_of(leaf)
        if part == 0:
            return real
        return _zero_like(call, leaf) if imaginary is None else imaginary

    arguments = {name: mapped(given, one) if name in _OPERANDS else given for name, given in call.arguments.items()}
    return Call(_as_real(call).node, arguments, call.writer)


def _zero_like(call: Call, real: Any) -> Any:
    """Return the imaginary part of a real operand: a zero for a number, and zeros for a tensor.

    Args:
        call: The call.
        real: The operand; an argument that is None stays None.
    """
    if isinstance(real, Constant):
        return replace(real, name=f"{real.name} imag", array=np.zeros_like(real.array))
    if isinstance(real, Value | Held | Unmerged):
        value = _value(call, real)
        return call.step(ops.zeros_like(value), value.shape, value.order, value.dtype)
    return None if real is None else 0


def _as_real(call: Call) -> Call:
    outputs = tuple(replace(one, dtype=_real(one.dtype)) for one in call.node.outputs)
    return Call(replace(call.node, outputs=outputs), call.arguments, call.writer)


def _real(dtype: str) -> str:
    return "float32" if dtype.startswith("complex") else dtype


def _of_parts(call: Call, handler: Handler) -> Result:
    parts = [handler(_real_call(call, part)) for part in range(2)]
    if isinstance(parts[0], list | tuple):
        return [
            None if real is None else Complex(real=_value(call, real), imaginary=_value(call, imaginary))
            for real, imaginary in zip(*parts, strict=True)
        ]
    return Complex(real=_value(call, parts[0]), imaginary=_value(call, parts[1]))


def _value(call: Call, tensor: Any) -> Value:
    return call.writer.value(tensor)


def _product(call: Call, handler: Handler) -> Result:
    """Convert a product of complex tensors to up to four products of real tensors, which `handler` converts."""
    names = [name for name in ("self", "other", "mat2") if name in call.arguments]
    given = call.arguments.get("tensors") or [call.arguments[name] for name in names]
    if len(given) != 2:
        raise RuleError(f"{call.name} with complex numbers is supported only for two tensors, not {len(given)}")
    (a, b), (c, d) = map(pair_of, given)

    def of(left: Any, right: Any) -> Any:
        more = (
            {"tensors": [left, right]} if "tensors" in call.arguments else dict(zip(names, (left, right), strict=True))
        )
        return handler(Call(_as_real(call).node, {**call.arguments, **more}, call.writer))

    def joined(symbol: str, left: Any, right: Any) -> Any:
        return elementwise(_as_real(call), [left, right], lambda one, other: sign(call, symbol, one, other))

    if b is None or d is None:
        real, imaginary = of(a, c), of(a, d) if b is None else of(b, c)
    else:
        real, imaginary = joined("-", of(a, c), of(b, d)), joined("+", of(a, d), of(b, c))
    return Complex(real=_value(call, real), imaginary=_value(call, imaginary))


def parts_of(call: Call, name: str = "self") -> tuple[Value, Value]:
    """Return the real and the imaginary part of a tensor argument of a call; the second is zeros for real numbers."""
    real, imaginary = pair_of(call.arguments[name])
    value = _value(call, real)
    if imaginary is None:
        imaginary = call.step(ops.zeros_like(value), value.shape, value.order, "float32")
    return value, _value(call, imaginary)


def _together(call: Call, expression: Callable[[Any, Any], Any]) -> Value:
    """Add a step that computes a real tensor from a complex argument of a call, and return the tensor.

    Args:
        call: The call.
        expression: Returns the expression for the real and the imaginary part of the argument.
    """
    return elementwise(_as_real(call), list(parts_of(call)), expression)


def _conjugate(call: Call) -> Result:
    real, imaginary = parts_of(call)
    return Complex(real=real, imaginary=elementwise(_as_real(call), [imaginary], lambda value: -value))


def _divided(call: Call) -> Result:
    """Convert a division; a complex divisor is replaced by its conjugate, divided by its squared absolute value."""
    plain, other = _as_real(call), call.arguments["other"]
    if call.get("rounding_mode") is not None:
        raise RuleError("a division of complex numbers has no rounding mode")
    real, imaginary = pair_of(other)
    if imaginary is None:
        made = [
            elementwise(plain, [part, real], lambda one, other: sign(call, "/", one, other)) for part in parts_of(call)
        ]
        return Complex(real=made[0], imaginary=made[1])
    given = [*parts_of(call), *parts_of(call, "other")]
    return Complex(
        real=elementwise(plain, given, lambda a, b, c, d: (a * c + b * d) / (ops.square(c) + ops.square(d))),
        imaginary=elementwise(plain, given, lambda a, b, c, d: (b * c - a * d) / (ops.square(c) + ops.square(d))),
    )


def _exponential(call: Call) -> Result:
    given, plain = list(parts_of(call)), _as_real(call)
    return Complex(
        real=elementwise(plain, given, lambda real, imaginary: ops.exp(real) * ops.cos(imaginary)),
        imaginary=elementwise(plain, given, lambda real, imaginary: ops.exp(real) * ops.sin(imaginary)),
    )


def _as_last_axis(call: Call) -> Result:
    real, imaginary = parts_of(call)
    return call.step(ops.stack([real, imaginary], axis=-1), order=(*real.order, len(real.order)), dtype="float32")


_COMPLEX: dict[str, Handler] = {
    "real": lambda call: parts_of(call)[0],
    "imag": lambda call: parts_of(call)[1],
    "abs": lambda call: _together(call, lambda real, imaginary: ops.sqrt(ops.square(real) + ops.square(imaginary))),
    "angle": lambda call: _together(call, lambda real, imaginary: ops.arctan2(imaginary, real)),
    "conj": _conjugate,
    "_conj": _conjugate,
    "conj_physical": _conjugate,
    "_conj_physical": _conjugate,
    "div": _divided,
    "exp": _exponential,
    "view_as_real": _as_last_axis,
}


@handles("real")
def _real_part(call: Call) -> Result:
    return call.arguments["self"]  # type: ignore[no-any-return]


@handles("view_as_complex")
def _from_last_axis(call: Call) -> Result:
    value = call.value("self")
    parts = [picked(call, value, value.rank - 1, part, value.shape[:-1]) for part in range(2)]
    return Complex(real=parts[0], imaginary=parts[1])


@handles("complex")
def _from_parts(call: Call) -> Result:
    return Complex(real=call.value("real"), imaginary=call.value("imag"))


@handles("polar")
def _polar(call: Call) -> Result:
    given, plain = [call.arguments["abs"], call.arguments["angle"]], _as_real(call)
    return Complex(
        real=elementwise(plain, given, lambda length, angle: length * ops.cos(angle)),
        imaginary=elementwise(plain, given, lambda length, angle: length * ops.sin(angle)),
    )
