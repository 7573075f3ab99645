"""A Keras layer with variables of its own is filled with single torch parameters, not with a layer of the same size."""

from typing import Any

import keras
import torch
from keras import layers
from torch import nn

import keras3conv as k3c
from tests.support.models import randomize


class Scaled(nn.Module):
    """A scale and a bias of the module itself, and a normalisation with tensors of the same shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.factor, self.shift = nn.Parameter(torch.ones(8)), nn.Parameter(torch.zeros(8))
        self.inner, self.outer, self.norm = nn.Linear(8, 8), nn.Linear(8, 8), nn.LayerNorm(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x + self.outer(torch.relu(self.inner(x * self.factor + self.shift))))


class ScaleAndShift(layers.Layer):
    def build(self, shape: Any) -> None:
        self.factor = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")
        self.shift = self.add_weight(shape=(shape[-1],), initializer="zeros", name="bias")

    def call(self, x: Any) -> Any:
        return x * self.factor + self.shift


def test_the_variables_of_a_layer_without_a_rule_are_found_one_by_one() -> None:
    given = keras.Input((5, 8))
    x = layers.Dense(8, activation="relu", name="inner")(ScaleAndShift(name="adapted")(given))
    x = layers.LayerNormalization(epsilon=1e-5, name="norm")(given + layers.Dense(8, name="outer")(x))
    plan = k3c.align(randomize(Scaled()), keras.Model(given, x), inputs=torch.randn(2, 5, 8)).check()
    pairs = {(pair.torch, pair.keras) for pair in plan.pairs}
    assert {("factor", "adapted/scale"), ("shift", "adapted/bias"), ("norm", "norm"), ("inner", "inner")} <= pairs
