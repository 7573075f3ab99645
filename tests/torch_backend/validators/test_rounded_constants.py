"""Constants that one side stores as float32 pass the certificate; a slightly larger change of a constant fails."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers
from torch import nn

import keras3conv as k3c

MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
INPUTS = torch.rand(4, 3, generator=torch.Generator().manual_seed(0))


class Buffers(nn.Module):
    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 4)
        self.register_buffer("mean", torch.tensor(MEAN, dtype=torch.float32), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION, dtype=torch.float32), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.head((x - self.mean) / self.deviation)
        return made


class Numbers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.head((x - 0.485) / 0.229)
        return made


def model(preprocess: Callable[[Any], Any]) -> keras.Model:
    x = keras.Input((3,))
    return keras.Model(x, layers.Dense(4)(preprocess(x)))


def certificate(module: nn.Module, other: keras.Model, **options: Any) -> k3c.Report:
    plan = k3c.align(module, other, inputs=INPUTS)
    for path in ("mean", "deviation"):
        if any(tensor.path == path for tensor in plan.torch.tensors()):
            plan = plan.ignore(path, "a constant of the preprocessing")
    k3c.transfer(module, other, plan, **options)
    return k3c.validate(module, other, inputs=INPUTS, alignment=plan)


@pytest.mark.parametrize(
    ("module", "preprocess"),
    [
        (Buffers(), lambda x: (x - MEAN) / DEVIATION),
        (Buffers(), layers.Normalization(mean=MEAN, variance=DEVIATION**2)),
        (Buffers(), layers.Rescaling(1 / DEVIATION, offset=-MEAN / DEVIATION)),
        (Numbers(), lambda x: (x - np.float32(0.485)) / np.float32(0.229)),
        (Numbers(), lambda x: (x - 0.485) / 0.229),
    ],
)
def test_constants_in_float32_on_one_side_pass_the_certificate(
    module: nn.Module, preprocess: Callable[[Any], Any]
) -> None:
    certificate(module, model(preprocess)).raise_if_failed()


@pytest.mark.parametrize("factor", [1 + 2e-6, 1 - 2e-6])
def test_a_constant_that_differs_by_more_than_its_rounding_fails(factor: float) -> None:
    other = model(lambda x: (x - np.float32(0.485)) / np.float32(0.229 * factor))
    report = certificate(Numbers(), other, accept_difference=True)
    assert "float64" in {section.name for section in report.with_status("failed")}
    fixes = [fix for section in report.sections for problem in section.problems for fix in problem.fixes]
    assert not any("0.99999" in fix or "1.00000" in fix for fix in fixes)
