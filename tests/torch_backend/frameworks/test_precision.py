"""A float64 run keeps the constants of the model, such as a default epsilon that depends on the dtype."""

import keras
import ml_dtypes
import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.frameworks.torch import module as torch_side
from keras3conv.numerics.difference import compare
from tests.support.models import randomize

FLOAT32, FLOAT64 = 2.0**-23, 2.0**-52
SMALL = np.random.default_rng(0).uniform(1e-4, 4e-4, (3, 5)).astype("float32")
"""Values so small that the epsilon dominates."""


class ByFunction(nn.Module):
    """RMS norms by function, without an epsilon as positional and as keyword argument."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.rms_norm(x, (5,), self.weight, None) + torch.rms_norm(x, (5,), eps=None)


@pytest.mark.parametrize("module", [nn.RMSNorm(5), nn.Sequential(nn.RMSNorm(5)), ByFunction()], ids=["1", "in", "by"])
def test_a_norm_without_an_epsilon_keeps_the_epsilon_of_its_dtype(module: nn.Module) -> None:
    found = torch_side.run(module, SMALL, float64=True).outputs[""]
    assert compare(found, torch_side.run(module, SMALL).outputs[""]).max_rel < 1e-6
    wide = module.double()
    assert not compare(torch_side.run(wide, SMALL, float64=True).outputs[""], found).max_rel < 0.5


@pytest.mark.parametrize(("epsilon", "status"), [(FLOAT32, "passed"), (FLOAT64, "failed")])
def test_the_declared_epsilon_decides_validation(epsilon: float, status: str) -> None:
    module = randomize(nn.Sequential(nn.RMSNorm(5), nn.Linear(5, 4)))
    inputs = keras.Input((5,))
    layers = [keras.layers.RMSNormalization(epsilon=epsilon), keras.layers.Dense(4)]
    model = keras.Model(inputs, layers[1](layers[0](inputs)))
    k3c.transfer(module, model, k3c.align(module, model), accept_difference=True)
    assert k3c.validate(module, model, inputs=SMALL).section("float64").status == status


def test_gradients_use_the_declared_epsilon() -> None:
    module = randomize(nn.Sequential(nn.RMSNorm(5), nn.Linear(5, 4)))
    layers = [keras.Input((5,)), keras.layers.RMSNormalization(epsilon=FLOAT32), keras.layers.Dense(4)]
    model = keras.Sequential(layers)
    k3c.transfer(module, model, k3c.align(module, model))
    assert k3c.validate(module, model, inputs=SMALL).tally == "7 passed"


class Scaled(nn.Module):
    """A trained scalar."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(3.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert self.scale.shape == ()
        return x * self.scale


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_scalar_parameter_stays_a_scalar(dtype: str) -> None:
    value = np.asarray(2.0).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    assert torch_side.to_torch(value).shape == ()
    outputs = torch_side.run(Scaled(), SMALL, tensors={"scale": value}, float64=True).outputs
    assert np.array_equal(outputs[""], 2 * SMALL.astype("float64"))


def test_a_given_epsilon_is_kept() -> None:
    module = nn.RMSNorm(5, eps=1e-3)
    assert (
        compare(
            torch_side.run(module, SMALL, float64=True).outputs[""], module(torch.tensor(SMALL)).detach().numpy()
        ).max_rel
        < 1e-6
    )
