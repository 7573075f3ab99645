"""Convert Fourier transforms; a complex tensor is a pair of real values."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod, sqrt
from typing import Any

import numpy as np

from keras3conv.builder.program.program import Order, Value
from keras3conv.builder.to_keras.broadcasting import elementwise
from keras3conv.builder.to_keras.call import Call, Result, handles, ops
from keras3conv.builder.to_keras.forms import Complex, Constant
from keras3conv.builder.to_keras.operations_complex import parts_of
from keras3conv.builder.to_keras.operations_indexing import taken_along
from keras3conv.errors import RuleError


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
    if not rest:
        return parts
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
    parts, inverse = parts_of(call), call.name.startswith("fft_i")
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
    parts = parts_of(call)
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
