"""Angles of sines that one side has rounded to float32 are no mistake; everything else about sines still is."""

import math
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c

NUMBER = 8
TIMES = torch.tensor([3.0, 250.0, 999.0])


class Times(nn.Module):
    """A time embedding whose frequencies are computed in every call."""

    def __init__(self, base: float = 10000.0, factor: float = 1.0) -> None:
        super().__init__()
        self.base, self.factor, self.head = base, factor, nn.Linear(2 * NUMBER, 5)

    def forward(self, times: torch.Tensor) -> torch.Tensor:
        exponents = torch.arange(NUMBER, dtype=torch.float32) / NUMBER
        angles = times[:, None] * torch.exp(-math.log(self.base) * exponents)[None]
        made: torch.Tensor = self.head(torch.cat([angles.sin(), angles.cos()], -1)) * self.factor
        return made


class Embedded(keras.layers.Layer):
    """The same time embedding, with frequencies that are stored as float32."""

    frequencies = np.exp(-math.log(10000.0) * np.arange(NUMBER) / NUMBER).astype("float32")

    def call(self, times: Any) -> Any:
        angles = times[:, None] * keras.ops.convert_to_tensor(self.frequencies, dtype=self.compute_dtype)[None]
        return keras.ops.concatenate([keras.ops.sin(angles), keras.ops.cos(angles)], axis=-1)


def proven(module: nn.Module) -> Any:
    given = keras.Input(())
    model = keras.Model(given, keras.layers.Dense(5)(Embedded()(given)))
    plan = k3c.align(module, model, inputs=TIMES)
    k3c.transfer(module, model, plan, accept_difference=True)
    return k3c.validate(module, model, inputs=TIMES, alignment=plan, proofs=["float64", "gradients"])


def test_frequencies_that_one_side_stores_as_float32_are_recognised_as_rounding() -> None:
    report = proven(Times().eval())
    assert report.ok, report
    assert "with the angles of sines rounded alike" in report.section("float64").summary
    assert report.section("gradients").status == "passed"


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"base": 10000.1}, {"factor": 1 + 2e-6}])
def test_other_frequencies_and_a_factor_after_the_sines_are_found(change: dict[str, float]) -> None:
    assert proven(Times(**change).eval()).section("float64").status == "failed"
