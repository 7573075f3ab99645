"""A hyper-parameter that differs fails even if its effect is not visible with the given inputs."""

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.report.values import Section
from tests.support.models import randomize


class Scaled(nn.Module):
    """A normalisation of large values."""

    def __init__(self, scale: float, norm: nn.Module) -> None:
        super().__init__()
        self.scale, self.fc, self.norm = scale, nn.Linear(6, 8), norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.fc(x) * self.scale)


def sections(scale: float, norm: nn.Module, layer: keras.layers.Layer) -> dict[str, Section]:
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
def test_another_epsilon_fails_although_large_inputs_hide_it(scale: float, epsilon: float, float64: str) -> None:
    found = sections(scale, nn.LayerNorm(8), keras.layers.LayerNormalization(epsilon=epsilon, name="norm"))
    # A factor in the module's code hides the epsilon from float64, which is why the fields are compared too.
    assert found["float64"].status == float64
    (problem,) = found["hyperparameters"].problems
    assert problem.fact.startswith(f"eps is 1e-05 in torch, epsilon is {epsilon:.12g} in Keras")
    assert problem.fact.endswith("(its effect is too small to be seen with these inputs, but not with smaller inputs)")


def test_the_same_epsilon_passes_with_large_inputs() -> None:
    found = sections(1e4, nn.LayerNorm(8), keras.layers.LayerNormalization(epsilon=1e-5, name="norm"))
    assert found["hyperparameters"].status == "passed"


def test_another_momentum_is_listed_and_passes_without_training() -> None:
    found = sections(1.0, nn.BatchNorm1d(8), keras.layers.BatchNormalization(epsilon=1e-5, momentum=0.99, name="norm"))
    assert found["hyperparameters"].status == "passed"
    assert "momentum" in found["hyperparameters"].facts["differs in training only"]
