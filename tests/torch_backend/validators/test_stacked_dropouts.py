"""The dropout inside a stacked recurrent module is compared with the Dropout layers between the layers of Keras."""

from typing import Any

import keras
import pytest
import torch
from keras import layers
from torch import nn

import keras3conv as k3c

INPUTS = torch.linspace(-1.0, 1.0, 72).reshape(3, 6, 4)


class Stacked(nn.Module):
    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rnn = nn.LSTM(4, 5, num_layers=2, dropout=rate, batch_first=True)
        self.head = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.head(self.rnn(x)[0][:, -1])
        return made


def network(rate: float) -> keras.Model:
    given = keras.Input((6, 4))
    x = layers.LSTM(5, return_sequences=True)(given)
    x = layers.Dropout(rate)(x) if rate else x
    return keras.Model(given, layers.Dense(3)(layers.LSTM(5)(x)))


def section(rate: float, other: float, *, training: bool) -> Any:
    module, model = Stacked(rate).eval(), network(other)
    plan = k3c.align(module, model, inputs=INPUTS)
    k3c.transfer(module, model, plan)
    options: dict[str, Any] = {"alignment": plan, "training": training, "proofs": ["hyperparameters", "float64"]}
    return k3c.validate(module, model, inputs=INPUTS, **options).section("hyperparameters")


@pytest.mark.parametrize("rate", [0.2, 0.0])
def test_the_same_rate_between_the_layers_is_equal(rate: float) -> None:
    found = section(rate, rate, training=True)
    assert found.status == "passed", found.problems
    assert "not judged" not in found.summary


@pytest.mark.parametrize(("rate", "other"), [(0.2, 0.0), (0.2, 0.5), (0.0, 0.3)])
def test_another_rate_between_the_layers_fails_with_training(rate: float, other: float) -> None:
    found = section(rate, other, training=False)
    assert found.status == "passed", found.problems
    assert f"dropout: {rate:g} in torch, {other:g} in Keras" in found.facts["differs in training only"]
    assert section(rate, other, training=True).status == "failed"
