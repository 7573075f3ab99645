"""Integer inputs: made-up lengths of zero and beyond the given ones, and masks that are used as numbers."""

import pytest
import torch
from torch import nn

import keras3conv as k3c


class Pooled(nn.Module):
    """The maximum over the first steps of a sequence; that of no steps is minus infinity."""

    def __init__(self, planted: float = 1.0) -> None:
        super().__init__()
        self.inner, self.head, self.planted = nn.Linear(4, 8), nn.Linear(8, 2), planted

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        is_step = torch.arange(x.shape[1])[None, :] < lengths[:, None]
        largest = self.inner(x).masked_fill(~is_step[..., None], float("-inf")).amax(1)
        scaled = torch.where((lengths > 3)[:, None], largest * self.planted, largest)
        result: torch.Tensor = self.head(scaled)
        return result


@pytest.fixture(scope="module")
def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(3, 5, 4), torch.tensor([3, 2, 1])


@pytest.fixture(scope="module")
def module() -> Pooled:
    return Pooled().eval()


@pytest.fixture(scope="module")
def conversion(module: Pooled, inputs: tuple[torch.Tensor, torch.Tensor]) -> k3c.Conversion:
    return k3c.convert(module, inputs=inputs)


def test_infinities_of_both_models_at_a_length_of_zero_are_no_difference(conversion: k3c.Conversion) -> None:
    assert conversion.report is not None
    conversion.report.raise_if_failed()
    facts = next(section for section in conversion.report.sections if section.name == "float64").facts
    assert "with integers from 0 to 255, some not finite on both sides" in facts["exercised"]


def test_a_mistake_beyond_the_given_lengths_fails_beside_infinities(
    conversion: k3c.Conversion, module: Pooled, inputs: tuple[torch.Tensor, torch.Tensor]
) -> None:
    other = Pooled(planted=1.001).eval()
    other.load_state_dict(module.state_dict())
    report = k3c.validate(other, conversion.model, inputs=inputs, plan=conversion.alignment)
    assert [section.name for section in report.with_status("failed")] == ["float64"]


class Masked(nn.Module):
    """A mean over steps whose weights come from a mask as a number: another integer than 0 and 1 overflows float32."""

    def __init__(self, least: float = torch.finfo(torch.float32).min) -> None:
        super().__init__()
        self.inner, self.least = nn.Linear(4, 4), least

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        scores = x.mean(-1) + (1.0 - mask.float()) * self.least
        return torch.einsum("bs,bsw->bw", scores.softmax(-1), self.inner(x))


def test_a_mask_is_not_widened_to_integers_that_overflow_on_one_side() -> None:
    module, inputs = Masked().eval(), (torch.randn(3, 5, 4), torch.ones(3, 5, dtype=torch.int64))
    conversion = k3c.convert(module, inputs=inputs)
    assert conversion.report is not None
    conversion.report.raise_if_failed()
    other = Masked(least=-5.0).eval()
    other.load_state_dict(module.state_dict())
    report = k3c.validate(other, conversion.model, inputs=inputs, plan=conversion.alignment)
    assert "float64" in [section.name for section in report.with_status("failed")]
