"""Layers over positions that are flattened on one side, and rows and columns on the other, are compared."""

import keras
import torch
from keras import layers
from torch import nn

import keras3conv as k3c
from tests.support.models import randomize

WIDTH, SIZE = 5, 4


class InARow(nn.Module):
    """Layers over the flattened positions of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.dense = nn.LayerNorm(WIDTH, eps=1e-3), nn.Linear(WIDTH, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dense(self.norm(x.flatten(2).transpose(1, 2)))


def pair(epsilon: float = 1e-3) -> tuple[nn.Module, keras.Model]:
    inputs = keras.Input((SIZE, SIZE, WIDTH))
    x = layers.Dense(3)(layers.LayerNormalization(epsilon=epsilon)(inputs))
    return randomize(InARow()), keras.Model(inputs, layers.Reshape((SIZE * SIZE, 3))(x))


def test_layers_that_one_side_calls_on_flattened_positions_agree() -> None:
    module, model = pair()
    plan = k3c.align(module, model).check()
    k3c.transfer(module, model, plan)
    report = k3c.validate(module, model, alignment=plan, proofs=("float64",))
    (rows,) = [table.rows for table in report.section("float64").tables if table.title == "layers"]
    assert report.ok
    assert all(float(str(row[2])) < 1e-10 for row in rows)


def test_a_difference_in_a_layer_on_flattened_positions_is_reported() -> None:
    module, model = pair(epsilon=1e-5)
    plan = k3c.align(module, model).accepting_difference().check()
    k3c.transfer(module, model, plan)
    (problem, *_) = k3c.validate(module, model, alignment=plan, proofs=("float64",)).section("float64").problems
    assert "epsilon is 0.001 in torch and 1e-05 in Keras" in problem.fact
    assert "nn.LayerNorm(5, eps=1e-05)  # torch: norm" in problem.fixes
