"""The diagnosis names planted mistakes in preprocessing, gates, rolls and branches, and no compensated layer."""

from typing import Any

import keras
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody gives it
from keras import layers, ops
from torch import nn

import keras3conv as k3c
from tests.support.models import randomize
from tests.support.planted.mixer import Mixer, mixer, of_imagenet, reversed_channels
from tests.support.planted.networks import first_problem, sentences
from tests.support.planted.networks import images as noise


def images() -> torch.Tensor:
    """Return images with pixel values."""
    return noise() * 255


@pytest.mark.parametrize(
    ("plant", "layer", "cause", "fix"),
    [
        (
            {"prepared": lambda x: x},
            "stem",
            "torch divides by 255 before stem, Keras does not",
            "keras.ops.divide(x, 255)",
        ),
        (
            {"prepared": lambda x: x / 127.5 - 1},
            "stem",
            "Keras multiplies by 2 and adds -1 before",
            "x = x * 2.0 + -1.0",
        ),
        (
            {"prepared": of_imagenet},
            "stem",
            "Keras multiplies by (5, 4, 2.5) per channel and adds (-2.5, -1.6, -0.75)",
            "x = x * torch.tensor([",
        ),
        ({"prepared": reversed_channels}, "stem", "Keras reverses the channels (BGR instead of RGB)", "x = x.flip(1)"),
        ({"groups": 2}, "norm", "the number of groups is 3 in torch and 2 in Keras", "nn.GroupNorm(2, 6, eps=1e-05)"),
        (
            {"gated": False},
            "mix",
            "torch multiplies by a tensor of shape (3, 6, 1, 1) before mix, Keras",
            "keras.ops.multiply(",
        ),
        (
            {"shift": 2, "window": 3},
            "mix",
            "torch rolls by (-2, -2), Keras by (2, 2)",
            "x = torch.roll(x, (2, 2), ...)",
        ),
        (
            {"shift": 0, "window": 3},
            "mix",
            "torch calls roll before mix, Keras does not",
            "x = keras.ops.roll(keras.ops.roll(x, -2, axis=1), -2, axis=2)",
        ),
        ({"share": 0.8}, "last", "Keras multiplies the result of conv2d in branch by 0.8", "x = x * 0.8"),
        (
            {"activated": "first"},
            "last",
            "torch applies relu before last after an addition, Keras before it, to the first summand",
            "keras.layers.Add()",
        ),
        (
            {"order": (1, 0, 2)},
            "join",
            "the tensors are concatenated in another order in Keras: torch's 2, 1, 3",
            "[1, 0, 2]",
        ),
    ],
)
def test_a_mistake_in_a_mixer_is_named(plant: dict[str, Any], layer: str, cause: str, fix: str) -> None:
    problem = first_problem(Mixer(plant.get("window", 1)), mixer(**plant), images())
    assert (problem.torch, cause in problem.fact) == (layer, True), problem
    assert any(fix in line for line in problem.fixes)


@pytest.mark.parametrize("plant", [{}, {"shift": 2}, {"window": 3}])
def test_the_mixer_agrees_without_a_mistake_and_with_a_roll_that_has_no_effect(plant: dict[str, Any]) -> None:
    source, target = randomize(Mixer(plant.get("window", 1))), mixer(**plant)
    plan = k3c.align(source, target, inputs=images(), probe=False).check()
    k3c.transfer(source, target, plan)
    k3c.validate(source, target, inputs=images(), alignment=plan).raise_if_failed()


class Cropped(nn.Module):
    """An even kernel with padding on both sides; the last, superfluous step is cropped."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv1d(8, 8, 4, padding=2), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(F.gelu(self.conv(x.transpose(1, 2))[:, :, :-1]).transpose(1, 2))


def test_a_layer_that_a_cropping_compensates_is_not_blamed_for_a_later_mistake() -> None:
    inputs = keras.Input((7, 8))
    x = layers.Conv1D(8, 4, name="conv")(ops.pad(inputs, ((0, 0), (2, 1), (0, 0))))
    model = keras.Model(inputs, layers.Dense(5, name="head")(x))
    problem = first_problem(Cropped(), model, torch.randn(3, 7, 8, generator=torch.Generator().manual_seed(1)))
    assert problem.torch == "head"
    assert "Keras lacks an activation before head: gelu" in problem.fact


class Placed(nn.Module):
    """Adds a position table without a batch axis."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.places, self.head = nn.Embedding(11, 6), nn.Embedding(7, 6), nn.Linear(6, 5)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.table(tokens) + self.places(torch.arange(7))))


def test_a_table_without_batch_axis_is_not_blamed_for_a_later_mistake() -> None:
    inputs = keras.Input((7,), dtype="int32")
    everywhere = ops.zeros_like(inputs) + ops.arange(7, dtype="int32")
    x = layers.Embedding(11, 6, name="table")(inputs) + layers.Embedding(7, 6, name="places")(everywhere)
    problem = first_problem(Placed(), keras.Model(inputs, layers.Dense(5, name="head")(ops.tanh(x))), sentences())
    assert problem.torch == "head"
    assert "torch applies relu before head, Keras tanh" in problem.fact
