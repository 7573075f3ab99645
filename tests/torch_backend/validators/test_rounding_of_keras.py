"""The noise floor is that of the dtype and of the formula in which Keras computes; a mistake is no noise."""

from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers
from torch import nn

import keras3conv as k3c

pytestmark = pytest.mark.usefixtures("without_causes")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(4, 16), nn.LayerNorm(16), nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.b(self.norm(torch.tanh(self.a(x))))
        return made


def network(dtype: Any, epsilon: float = 1e-5) -> keras.Model:
    given = keras.Input((4,))
    x = layers.Dense(16, activation="tanh", name="a", dtype=dtype)(given)
    x = layers.LayerNormalization(epsilon=epsilon, name="norm", dtype=dtype)(x)
    return keras.Model(given, layers.Dense(3, name="b", dtype=dtype)(x))


def validated(module: nn.Module, model: keras.Model, inputs: torch.Tensor) -> k3c.Report:
    plan = k3c.align(module, model, probe=False)
    k3c.transfer(module, model, plan)
    return k3c.validate(module.eval(), model, inputs=inputs, alignment=plan)


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_a_model_that_computes_in_a_narrow_dtype_passes_with_the_noise_of_that_dtype(dtype: str) -> None:
    torch.manual_seed(0)
    report = validated(Net(), network(dtype), torch.randn(5, 4))
    report.raise_if_failed()
    assert dtype.removeprefix("mixed_") in report.section("outputs").facts["compute dtype"]


def test_a_model_in_a_narrow_dtype_with_another_epsilon_fails() -> None:
    torch.manual_seed(0)
    report = validated(Net(), network("mixed_bfloat16", epsilon=1e-3), torch.randn(5, 4))
    assert {section.name for section in report.with_status("failed")} >= {"hyperparameters", "float64"}


def test_an_output_that_is_wrong_by_more_than_the_narrow_dtype_fails() -> None:
    torch.manual_seed(0)
    module, model = Net(), network("mixed_bfloat16")
    plan = k3c.align(module, model, probe=False)
    k3c.transfer(module, model, plan)
    kernel, bias = model.get_layer("b").get_weights()
    model.get_layer("b").set_weights([kernel, bias + np.float32(0.5)])
    report = k3c.validate(module.eval(), model, inputs=torch.randn(5, 4), alignment=plan, proofs=["outputs"])
    assert report.section("outputs").status == "failed"


@pytest.mark.parametrize("groups", [2, -1])
def test_the_variance_of_a_group_far_from_zero_is_rounded_as_in_keras(groups: int) -> None:
    """Keras subtracts the square of the mean from the mean of the squares, and loses digits; torch does not."""
    module = nn.Sequential(nn.GroupNorm(2 if groups == 2 else 4, 4, eps=1e-6))
    given = keras.Input((6, 6, 4))
    model = keras.Model(given, layers.GroupNormalization(groups, epsilon=1e-6, name="norm")(given))
    torch.manual_seed(0)
    inputs = 30 + torch.randn(2, 4, 6, 6)
    validated(module, model, inputs).raise_if_failed()
    wrong = keras.Model(given, layers.GroupNormalization(groups, epsilon=2e-3, name="norm")(given))
    plan = k3c.align(module, wrong, probe=False)
    k3c.transfer(module, wrong, plan)
    report = k3c.validate(module, wrong, inputs=inputs, alignment=plan, proofs=["outputs"])
    assert report.section("outputs").status == "failed"
