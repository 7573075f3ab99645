"""Convert Fourier transforms; Keras has complex numbers as two tensors, torch as one complex tensor."""

from typing import Any

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.operations.expressions import as_float, device_of, dtype_of, torch
from keras3conv.builder.program.operation import Expression, Operation
from keras3conv.builder.program.program import Value, identity
from keras3conv.model.graph import Shape

_WINDOWS = {"hann": torch.hann_window, "hamming": torch.hamming_window}


def _complex(call: Call, pair: Any) -> Operation:
    """Return the expression of a complex tensor, made from its real and its imaginary part."""
    real, imaginary = (call.keras_order(part) for part in pair)
    return torch.complex(real, imaginary)


def _returns_parts(call: Call, expression: Any, like: Value, shape: Shape) -> None:
    """Let the call return the real and the imaginary part of a complex tensor.

    Args:
        call: The call.
        expression: The expression of the complex tensor.
        like: The real input, or the real part of the input.
        shape: The shape of the complex tensor.
    """
    dtype = "complex128" if like.dtype == "float64" else "complex64"
    made = call.step(expression, shape=shape, order=identity(len(shape)), dtype=dtype)
    call.returns((made.attribute("real"), made.attribute("imag")))


@handles("keras.ops.fft", "keras.ops.fft2", "keras.ops.ifft2")
def _fft(call: Call) -> None:
    function = getattr(torch.fft, call.node.kind.rpartition(".")[2])
    _returns_parts(call, function(_complex(call, call["x"])), call["x"][0], call.node.outputs[0].shape)


@handles("keras.ops.rfft")
def _rfft(call: Call) -> None:
    given = as_float(call, call.keras_order(call["x"]))
    _returns_parts(call, torch.fft.rfft(given, **_length(call)), given, call.node.outputs[0].shape)


@handles("keras.ops.irfft")
def _irfft(call: Call) -> None:
    call.returns(torch.fft.irfft(_complex(call, call["x"]), **_length(call)))


def _length(call: Call) -> dict[str, int]:
    return {} if call["fft_length"] is None else {"n": call["fft_length"]}


def _window(call: Call, like: Expression) -> Any:
    """Return the window of a short-time Fourier transform, with the dtype and device of a real tensor.

    Raises:
        RuleError: The backends of Keras return different results for this window.
    """
    window, size = call["window"], call["sequence_length"]
    if isinstance(window, str) and size % 2:
        raise call.refuse(
            f"sequence_length={size} with window={window!r} is not supported, because the window of an odd length "
            "differs between Keras' backends; use an even length, or give the window as an array"
        )
    if window is None and size != call["fft_length"]:
        raise call.refuse(
            f"window=None is supported only with fft_length equal to sequence_length, found {call['fft_length']} and "
            f"{size}: otherwise Keras' backends differ"
        )
    if isinstance(window, Value):
        return window.method("to", dtype_of(like))
    function = torch.ones if window is None else _WINDOWS[window]
    return function(size, dtype=dtype_of(like), device=device_of(like))


@handles("keras.ops.stft")
def _stft(call: Call) -> None:
    given = call.keras_order(call["x"])
    *batch, frames, bins = call.node.outputs[0].shape
    rows = given if given.rank < 3 else call.step(given.method("flatten", 0, -2), shape=(0, 0), order=(0, 1))
    made = torch.stft(
        rows,
        call["fft_length"],
        hop_length=call["sequence_stride"],
        win_length=call["sequence_length"],
        window=_window(call, given),
        center=call["center"],
        return_complex=True,
    )
    swapped = made.method("transpose", -2, -1)
    if given.rank > 2:
        swapped = swapped.method("reshape", *call.sizes((*batch, frames, bins)))
    _returns_parts(call, swapped, given, (*batch, frames, bins))


@handles("keras.ops.istft")
def _istft(call: Call) -> None:
    real, _ = call["x"]
    if not call["center"] or call["window"] is None or call["sequence_length"] != call["fft_length"]:
        raise call.refuse(
            "istft is supported only with center=True, a window, and fft_length equal to sequence_length, as in torch"
        )
    if real.rank > 3:
        raise call.refuse("istft is supported only for one batch axis; reshape the input before")
    made = torch.istft(
        _complex(call, call["x"]).method("transpose", -2, -1),
        call["fft_length"],
        hop_length=call["sequence_stride"],
        win_length=call["sequence_length"],
        window=_window(call, real),
        center=True,
        length=call["length"],
    )
    call.returns(made)
