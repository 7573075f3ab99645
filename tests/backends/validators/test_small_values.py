"""The float64 proof on every backend repeats the comparison at small values, where an epsilon matters."""

import keras
import numpy as np
import pytest
import torch
from keras import layers, ops
from torch import nn

import keras3conv as k3c
from tests.support.models import randomize


class Normalized(nn.Module):
    """Hand-written normalisation of pixels, and a norm that has a rule."""

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.Conv2d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x / torch.sqrt((x**2).mean(1, keepdim=True) + self.epsilon))
        return self.head(torch.sigmoid(self.norm(x)))


def twin() -> keras.Model:
    inputs = keras.Input((7, 8, 3))
    x = inputs / ops.sqrt(ops.mean(inputs**2, -1, keepdims=True) + 1e-5)
    x = layers.GroupNormalization(2, epsilon=1e-5, name="norm")(layers.Conv2D(4, 3, name="conv")(x))
    return keras.Model(inputs, layers.Conv2D(2, 1, name="head")(ops.sigmoid(x)))


@pytest.mark.parametrize(("epsilon", "status"), [(1e-5, "passed"), (1.00001e-5, "failed")])
def test_an_epsilon_that_pixels_hide_is_compared_at_small_values(epsilon: float, status: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 7, 8)).astype("float32")
    module, model = randomize(Normalized(epsilon)), twin()
    plan = k3c.align(module, model, inputs=pixels, probe=False).check()
    section = k3c.validate(module, model, inputs=pixels, alignment=plan, proofs=("float64",)).section("float64")
    assert section.status == status, section.problems
    assert "at values of " in section.summary
