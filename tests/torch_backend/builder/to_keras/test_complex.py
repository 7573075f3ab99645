"""Complex parameters: the layer of a Fourier neural operator in Keras, and its weights on the way back."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from tests.support.to_keras import Function


class Spectral(nn.Module):
    """Multiplies the lowest frequencies by matrices of complex numbers."""

    def __init__(self, width: int, modes: int) -> None:
        super().__init__()
        self.modes = modes
        self.weight = nn.Parameter(torch.randn(width, width, modes, dtype=torch.cfloat) / width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spectrum = torch.fft.rfft(x)
        out = torch.zeros(x.shape[0], x.shape[1], spectrum.shape[-1], dtype=torch.cfloat, device=x.device)
        out[:, :, : self.modes] = torch.einsum("bix,iox->box", spectrum[:, :, : self.modes], self.weight)
        return torch.fft.irfft(out, n=x.shape[-1])


class Operator(nn.Module):
    """A Fourier neural operator of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.head = nn.Linear(2, 4), nn.Linear(4, 1)
        self.spectral = nn.ModuleList(Spectral(4, 3) for _ in range(2))
        self.local = nn.ModuleList(nn.Conv1d(4, 4, 1) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.lift(x).permute(0, 2, 1)
        for spectral, local in zip(self.spectral, self.local, strict=True):
            x = nn.functional.gelu(spectral(x) + local(x))
        return self.head(x.permute(0, 2, 1))


def test_a_fourier_operator_is_converted_and_its_weights_come_back_bit_for_bit(tmp_path: Path) -> None:
    module = Operator().eval()
    conversion = k3c.convert(module, inputs=torch.randn(2, 10, 2))
    assert conversion.report is not None
    conversion.report.raise_if_failed()
    held = {variable.path: variable.shape for variable in conversion.model.trainable_variables}
    assert held["spectral_0_weight/kernel"] == (1, 4, 4, 3, 2)
    other = Operator()
    k3c.transfer(conversion.model, other, conversion.alignment)
    for (path, before), after in zip(module.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(before, after), path
    conversion.save(tmp_path / "out")
    plan = k3c.align(Operator(), tmp_path / "out" / "model.keras")
    plan.check()


@pytest.mark.usefixtures("without_causes")
def test_a_changed_complex_weight_fails_the_certificate() -> None:
    module = Operator().eval()
    conversion = k3c.convert(module, inputs=torch.randn(2, 10, 2), validate=False)
    kernel = next(one for one in conversion.model.weights if one.path == "spectral_0_weight/kernel")
    values = np.array(kernel)
    values[0, 0, 0, 1, 1] += 0.1  # the imaginary part of the second frequency
    kernel.assign(values)
    report = k3c.validate(module, conversion.model, inputs=torch.randn(2, 10, 2), plan=conversion.alignment)
    assert {"roundtrip", "outputs"} <= {section.name for section in report.with_status("failed")}


@pytest.mark.parametrize("written", ["zeros_like", "new_zeros"])
def test_a_tensor_of_zeros_as_long_as_the_batch_accepts_another_batch(written: str) -> None:
    def shifted(x: torch.Tensor) -> torch.Tensor:
        made = torch.zeros_like(x) if written == "zeros_like" else x.new_zeros(x.shape[0], 4)
        made[:, 1:] = x[:, :-1]
        return made.cos()

    conversion = k3c.convert(Function(shifted), inputs=torch.randn(2, 4))
    assert conversion.report is not None
    conversion.report.raise_if_failed()
    x = torch.randn(5, 4)
    assert np.allclose(conversion.model(x.numpy()).detach(), shifted(x))
