"""Cases of Fourier transforms and complex numbers for the conversion to Keras, each with the shape of its input."""

from typing import Any

import torch

TEXT = (2, 5, 4)


def _spectrum_written(x: torch.Tensor) -> torch.Tensor:
    spectrum = torch.fft.rfft(x)
    made = torch.zeros_like(spectrum)
    made[:, 1:, :2] = spectrum[:, 1:, :2] * 2j
    made[:, 0] = 0.5
    made[:, :, 2] = x[:, :, 2]
    return torch.fft.irfft(made, n=4)


SPECTRA: dict[str, tuple[Any, tuple[int, ...]]] = {
    "spectrum of two axes": (lambda x: torch.fft.fftn(x, dim=(1, 2)).real, TEXT),
    "spectra there and back": (
        lambda x: (
            torch.view_as_real(torch.fft.ifft(torch.fft.fft(x, dim=1) * 2 + 1j, norm="ortho")).flatten(2)[..., :4]
            + torch.fft.irfft2(torch.fft.rfft2(x, norm="forward"), s=(5, 4), norm="ortho")
        ),
        TEXT,
    ),
    "a filter of frequencies": (
        lambda x: torch.fft.irfft(
            torch.fft.rfft(x, dim=1) * torch.polar(torch.ones(3, 4), torch.arange(12.0).view(3, 4)), n=5, dim=1
        ),
        TEXT,
    ),
    "length and angle of a spectrum": (
        lambda x: (torch.fft.rfft(x, dim=1).abs(), torch.fft.rfft(x + 2, n=7).angle(), torch.fft.fft2(x).imag),
        TEXT,
    ),
    "writing into a spectrum": (_spectrum_written, TEXT),
    "choices in a spectrum": (
        lambda x: torch.view_as_real(
            torch.where(torch.fft.fft(x).abs() > 2, torch.fft.fft(x), torch.fft.fft(x) * 0.1)
            + torch.fft.fft(x + 1).masked_fill(x > 0, 3.0)
        ),
        TEXT,
    ),
    "positions in a spectrum": (
        lambda x: torch.view_as_real(
            torch.fft.fft(x)[..., torch.tensor([2, 0, 1])] - torch.fft.fft(x).index_select(2, torch.tensor([3, 1, 2]))
        ),
        TEXT,
    ),
    "quotients and numbers beside a spectrum": (
        lambda x: torch.view_as_real(x / (torch.fft.fft(x) + 9) + (2 - torch.fft.fft(x)) / (torch.fft.fft(x) + 9j)),
        TEXT,
    ),
    "products of complex matrices": (
        lambda x: torch.view_as_real(torch.fft.fft(x) @ torch.fft.fft(x).transpose(1, 2).conj()),
        TEXT,
    ),
    "a complex rotation": (
        lambda x: torch.view_as_real(
            torch.view_as_complex(x.reshape(-1, 5, 2, 2)) * torch.polar(torch.ones(5, 2), torch.arange(10.0).view(5, 2))
        ).flatten(2),
        TEXT,
    ),
    "a spectrogram": (
        lambda x: torch.stft(
            x.flatten(1), 8, 2, 6, torch.hann_window(6, periodic=False), normalized=True, return_complex=True
        ).abs(),
        TEXT,
    ),
}
