"""A hyper-parameter that differs is a failure also where these inputs do not show it."""

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.report.values import Section
from tests.support.models import randomize


class Scaled(nn.Module):
    """A norm behind large numbers."""

    def __init__(self, scale: float, norm: nn.Module) -> None:
        super().__init__()
        self.scale, self.fc, self.norm = scale, nn.Linear(6, 8), norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.fc(x) * self.scale)


def judged(scale: float, norm: nn.Module, layer: keras.layers.Layer) -> dict[str, Section]:
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layer(keras.layers.Dense(8, name="fc")(inputs) * scale))
    module = randomize(Scaled(scale, norm))
    plan = k3c.align(module, model).check()
    k3c.transfer(module, model, plan)
    given = np.random.default_rng(0).standard_normal((3, 6)).astype("float32")
    report = k3c.validate(module, model, inputs=given, alignment=plan, proofs=["hyperparameters", "float64"])
    return {section.name: section for section in report.sections}


@pytest.mark.parametrize(
    ("scale", "epsilon", "float64"), [(1e2, 1.001e-5, "failed"), (1e4, 1e-3, "failed"), (1e9, 1e-3, "passed")]
)
def test_an_epsilon_that_large_inputs_swallow_is_a_failure_all_the_same(
    scale: float, epsilon: float, float64: str
) -> None:
    found = judged(scale, nn.LayerNorm(8), keras.layers.LayerNormalization(epsilon=epsilon, name="norm"))
    assert (
        found["float64"].status == float64
    )  # a factor in the code is beyond it, which is why the fields are judged too
    (problem,) = found["hyperparameters"].problems
    assert problem.fact.startswith(f"eps is 1e-05 in torch, epsilon is {epsilon:.12g} in Keras")
    assert problem.fact.endswith("(its effect is too small to be seen with these inputs, and is not with smaller ones)")


def test_the_same_epsilon_beside_large_inputs_is_no_failure() -> None:
    found = judged(1e4, nn.LayerNorm(8), keras.layers.LayerNormalization(epsilon=1e-5, name="norm"))
    assert found["hyperparameters"].status == "passed"


def test_a_momentum_has_no_effect_with_any_inputs() -> None:
    found = judged(1.0, nn.BatchNorm1d(8), keras.layers.BatchNormalization(epsilon=1e-5, momentum=0.99, name="norm"))
    assert found["hyperparameters"].status == "passed"
    assert "momentum" in found["hyperparameters"].facts["differs in training only"]
