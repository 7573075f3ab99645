"""Convert Fourier transforms and operators on complex numbers; a complex tensor is a pair of real values."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod, sqrt
from typing import Any

import numpy as np

from keras3conv.builder.program.operation import walk
from keras3conv.builder.program.program import Order, Value
from keras3conv.builder.to_keras.broadcasting import elementwise, sign
from keras3conv.builder.to_keras.call import Call, Complex, Constant, Handler, Result, handler_of, handles, ops
from keras3conv.builder.to_keras.operations_indexing import picked, taken_along
from keras3conv.errors import RuleError
from keras3conv.model.graph import mapped

_OF_PARTS = frozenset(
    {
        "view", "reshape", "_unsafe_view", "flatten", "unflatten", "unsqueeze", "squeeze", "permute", "transpose", "t",
        "movedim", "expand", "repeat", "select", "slice", "narrow", "split", "split_with_sizes", "chunk", "unbind",
        "index_select", "flip", "roll", "clone", "contiguous", "detach", "sum", "mean", "cumsum", "cat", "stack", "neg",
        "add", "sub", "alias", "constant_pad_nd", "pad", "view_as", "expand_as", "to", "_to_copy",
        "fft_fftshift", "fft_ifftshift",
    }
)  # fmt: skip
"""Operators that are applied to the real and the imaginary parts of complex numbers separately."""

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


def pair_of(given: Any) -> Pair:
    """Return the real and the imaginary part of a tensor, constant or number; the second is None for real numbers."""
    if isinstance(given, Complex):
        return given.real, given.imaginary
    if isinstance(given, Constant) and np.iscomplexobj(given.array):
        return tuple(  # type: ignore[return-value]
            replace(given, name=f"{given.name} {part}", array=np.ascontiguousarray(getattr(given.array, part)))
            for part in ("real", "imag")
        )
    if isinstance(given, complex):
        return given.real, given.imag
    return given, None


def _real_call(call: Call, part: int) -> Call:
    """Return a call in which each complex argument is replaced by its real (`part` 0) or imaginary part (`part` 1).

    A real argument has an imaginary part of zero.
    """

    def one(leaf: Any) -> Any:
        parts = pair_of(leaf)
        if parts[1] is not None or part == 0 or not _is_tensor(leaf):
            return parts[part] if parts[1] is not None else leaf
        return elementwise(_as_real(call), [leaf], ops.zeros_like)

    return Call(_as_real(call).node, mapped(call.arguments, one), call.writer)


def _is_tensor(leaf: Any) -> bool:
    return isinstance(leaf, Value | Constant)


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


def _value(call: Call, given: Any) -> Value:
    return call.writer.value(given)


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


def _parts(call: Call, name: str = "self") -> tuple[Value, Value]:
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
    return elementwise(_as_real(call), list(_parts(call)), expression)


def _conjugate(call: Call) -> Result:
    real, imaginary = _parts(call)
    return Complex(real=real, imaginary=elementwise(_as_real(call), [imaginary], lambda value: -value))


def _divided(call: Call) -> Result:
    real, imaginary = pair_of(call.arguments["other"])
    if imaginary is not None:
        raise RuleError(
            "a division by complex numbers is not supported: divide by real numbers, or multiply by the inverse"
        )
    made = [
        elementwise(_as_real(call), [part, real], lambda one, other: sign(call, "/", one, other))
        for part in _parts(call)
    ]
    return Complex(real=made[0], imaginary=made[1])


def _exponential(call: Call) -> Result:
    given, plain = list(_parts(call)), _as_real(call)
    return Complex(
        real=elementwise(plain, given, lambda real, imaginary: ops.exp(real) * ops.cos(imaginary)),
        imaginary=elementwise(plain, given, lambda real, imaginary: ops.exp(real) * ops.sin(imaginary)),
    )


def _as_last_axis(call: Call) -> Result:
    real, imaginary = _parts(call)
    return call.step(ops.stack([real, imaginary], axis=-1), order=(*real.order, len(real.order)), dtype="float32")


_COMPLEX: dict[str, Handler] = {
    "real": lambda call: _parts(call)[0],
    "imag": lambda call: _parts(call)[1],
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


def _transformed_axes(call: Call, rank: int) -> list[int]:
    """Return the axes of a Fourier transform; the transform of real numbers halves the last of these axes."""
    dims = call.get("dim")
    if isinstance(dims, int):
        return [dims % rank]
    if dims is not None:
        return [dim % rank for dim in dims]
    if call.name.endswith("2"):
        return [rank - 2, rank - 1]
    if call.name.endswith("n"):
        sizes = call.get("s")
        return list(range(rank))[-len(sizes) :] if sizes else list(range(rank))
    return [rank - 1]


def _factor(call: Call, sizes: Sequence[Any], *, inverse: bool) -> float:
    """Return the factor that normalizes the result of an unnormalized Fourier transform as the argument `norm` says.

    Args:
        call: The call, which has the argument `norm`.
        sizes: The sizes of the transformed axes.
        inverse: Whether it is an inverse transform.
    """
    if not all(isinstance(size, int) for size in sizes):
        raise RuleError(f"{call.name} needs axes of fixed size, but one of its axes is dynamic")
    norm = call.get("norm", "backward")
    if norm == "ortho":
        return 1 / sqrt(prod(sizes))
    return 1 / prod(sizes) if (norm == "backward") == inverse else 1.0


def _scaled(call: Call, value: Value, factor: float) -> Value:
    return value if factor == 1 else call.step(value * factor, value.shape, value.order, "float32")


def _require_sizes(call: Call, value: Value, axes: Sequence[int]) -> None:
    """Raise `RuleError` if a Fourier transform would pad or crop its input to another size along an axis."""
    sizes = call.get("s", [call.get("n")])
    wanted = [value.shape[axis] for axis in axes[-len(sizes) :]]
    if any(size not in (None, -1, old) for size, old in zip(sizes, wanted, strict=False)):
        raise RuleError(
            f"{call.name} pads or cuts its input (arguments n, s), which is not supported: pad or slice the input "
            "before the call"
        )


def _fft(call: Call, parts: tuple[Value, Value], axes: Sequence[int], *, inverse: bool) -> tuple[Value, Value]:
    """Add the steps of an unnormalized Fourier transform, and return the real and the imaginary part of its result.

    The inverse is computed as the conjugate of the transform of the conjugate.
    """
    rest = list(axes)
    if inverse:
        parts = parts[0], call.step(-parts[1], parts[1].shape, parts[1].order, "float32")
    while rest:
        now, rest = rest[-2:], rest[:-2]
        order: Order = (*(one for one in parts[0].order if one not in now), *now)
        given = tuple(call.ordered(part, order) for part in parts)
        made = [call.writer.new(part.shape, order, "float32") for part in given]
        call.writer.write((ops.fft2 if len(now) == 2 else ops.fft)(given), made)
        parts = made[0], made[1]
    if inverse:
        parts = parts[0], call.step(-parts[1], parts[1].shape, parts[1].order, "float32")
    return parts


@handles(*(f"fft_{inverse}fft{kind}" for inverse in ("", "i") for kind in ("", "2", "n")))
def _complex_transform(call: Call) -> Result:
    parts, inverse = _parts(call), call.name.startswith("fft_i")
    axes = _transformed_axes(call, parts[0].rank)
    _require_sizes(call, parts[0], axes)
    factor = _factor(call, [parts[0].shape[axis] for axis in axes], inverse=inverse)
    made = _fft(call, parts, axes, inverse=inverse)
    return Complex(real=_scaled(call, made[0], factor), imaginary=_scaled(call, made[1], factor))


@handles("fft_rfft", "fft_rfft2", "fft_rfftn")
def _real_transform(call: Call) -> Result:
    value = call.value("self")
    *others, last = _transformed_axes(call, value.rank)
    sizes = call.get("s", [call.get("n")])
    if len(sizes) > 1:
        raise RuleError(f"{call.name} with the argument s is not supported: pad or slice the input before the call")
    length = sizes[-1] if sizes[-1] not in (None, value.shape[last]) else None
    total = [length or value.shape[last], *(value.shape[axis] for axis in others)]
    factor = _factor(call, total, inverse=False)
    order: Order = (*(one for one in value.order if one != last), last)
    options = {} if length is None else {"fft_length": length}
    made = [call.writer.new(call.shape, order, "float32") for _ in range(2)]
    call.writer.write(ops.rfft(call.ordered(value, order), **options), made)
    real, imaginary = _fft(call, (made[0], made[1]), others, inverse=False)
    return Complex(real=_scaled(call, real, factor), imaginary=_scaled(call, imaginary, factor))


@handles("fft_irfft", "fft_irfft2", "fft_irfftn")
def _to_real_transform(call: Call) -> Result:
    parts = _parts(call)
    *others, last = _transformed_axes(call, parts[0].rank)
    length = call.shape[last]
    if not isinstance(length, int):
        raise RuleError(f"{call.name} needs an axis of fixed size, but axis {last} is dynamic")
    factor = _factor(call, [length, *(parts[0].shape[axis] for axis in others)], inverse=True)
    parts = _fft(call, parts, others, inverse=True)
    order: Order = (*(one for one in parts[0].order if one != last), last)
    given = tuple(call.ordered(part, order) for part in parts)
    return _scaled(call, call.step(ops.irfft(given, fft_length=length), order=order, dtype="float32"), factor * length)


@handles("stft")
def _spectrogram(call: Call) -> Result:
    """Convert `stft`: transform overlapping windows of a signal of shape (batch, samples)."""
    value, size = call.value("self"), call.arguments["n_fft"]
    if value.rank != 2 or not isinstance(value.shape[1], int) or not call.get("return_complex", False):
        raise RuleError(
            "stft is supported only for an input of shape (batch, samples), a fixed number of samples, and "
            "return_complex=True"
        )
    if not call.get("onesided", True):
        raise RuleError("stft is supported only with onesided=True")
    step = call.get("hop_length", size // 4)
    value = call.ordered(value, (0, 1))
    if call.get("center", False):
        half, mode = size // 2, call.get("pad_mode", "reflect")
        padded = ops.pad(value, ((0, 0), (half, half)), mode=mode)
        value = call.step(padded, (value.shape[0], value.shape[1] + 2 * half), dtype="float32")
    samples = value.shape[1]
    assert isinstance(samples, int)
    count, name = 1 + (samples - size) // step, call.node.outputs[0].name
    places = np.arange(count)[:, None] * step + np.arange(size)
    numbers = Constant(name=f"{name} places", array=places.ravel(), shape=(places.size,))
    value = taken_along(call, value, 1, numbers)
    shape = (value.shape[0], count, size)
    value = call.step(ops.reshape(value, (-1, count, size)), shape, dtype="float32")
    window = _window(call, size)
    if window is not None:
        value = elementwise(_shaped(call, shape), [value, window], lambda one, other: one * other)
    order: Order = (0, 2, 1)
    made = [call.writer.new(call.shape, order, "float32") for _ in range(2)]
    call.writer.write(ops.rfft(value), made)
    factor = 1 / sqrt(size) if call.get("normalized", False) else 1.0
    return Complex(real=_scaled(call, made[0], factor), imaginary=_scaled(call, made[1], factor))


def _shaped(call: Call, shape: tuple[Any, ...]) -> Call:
    first = replace(call.node.outputs[0], shape=shape, dtype="float32")
    return Call(replace(call.node, outputs=(first,)), call.arguments, call.writer)


def _window(call: Call, size: int) -> Constant | None:
    """Return the window function of an `stft` call, zero-padded to `size`; None for a window of ones."""
    length, given = call.get("win_length", size), call.get("window")
    if given is not None and not isinstance(given, Constant):
        raise RuleError("the window of stft is computed or trained, but must be constant")
    if given is None and length == size:
        return None
    array = np.ones(length) if given is None else given.array
    before = (size - length) // 2
    padded = np.pad(array, (before, size - length - before))
    return Constant(name=f"{call.node.outputs[0].name} window", array=padded, shape=padded.shape)


__all__ = ["handler_for", "pair_of"]
