"""Cases of Fourier transforms, with the real and the imaginary part as two tensors."""

import numpy as np
from keras import layers, ops

from tests.support.operations import Case, Function, Given, case, named

_SOUND = Given((40,))
_SOUNDS = Given((3, 40))
_GRID = Given((6, 8))


def _of_pairs(function: Function) -> list[Case]:
    return [case(lambda x, y: ops.concatenate(function((x, y))), _GRID, _GRID)]


def _spectrum_halved(**settings: object) -> Case:
    def function(x: object) -> object:
        real, imaginary = ops.stft(x, 8, 4, 8)
        return ops.istft((0.5 * real, imaginary), 8, 4, 8, **settings)

    return case(function, _SOUND)


CASES: dict[str, list[Case]] = {
    **{name: _of_pairs(named(name)) for name in ("fft", "fft2", "ifft2")},
    "rfft": [
        case(lambda x: ops.concatenate(ops.rfft(x)), _GRID),
        case(lambda x: ops.concatenate(ops.rfft(x, fft_length=11)), _GRID),
        case(lambda x: ops.concatenate(ops.rfft(ops.transpose(x, (0, 3, 1, 2)))), (4, 5, 3)),
    ],
    "irfft": [
        case(lambda x, y: ops.irfft((x, y)), _GRID, _GRID),
        case(lambda x, y: ops.irfft((x, y), fft_length=9), _GRID, _GRID),
    ],
    "stft": [
        case(lambda x: ops.concatenate(ops.stft(x, 8, 4, 8)), _SOUND),
        case(lambda x: ops.concatenate(ops.stft(x, 6, 3, 16, window="hamming")), _SOUND),
        case(lambda x: ops.concatenate(ops.stft(x, 8, 4, 8, window=None, center=False)), _SOUND),
        case(lambda x: ops.concatenate(ops.stft(x, 8, 4, 16)), _SOUNDS),
        case(lambda x: ops.concatenate(ops.stft(x, 8, 4, 8, window=np.hanning(8).astype("float32"))), _SOUND),
        case(lambda x: ops.concatenate(ops.stft(x, 8, 4, 8)), Given((None,))),
    ],
    "istft": [_spectrum_halved(), _spectrum_halved(length=37)],
}

LAYERS = {
    "STFTSpectrogram": case(layers.STFTSpectrogram(frame_length=8, frame_step=4, fft_length=8), (40, 1)),
}
"""Layers that consist of a Fourier transform."""
