"""An activation without source code: Keras cannot serialize it, and quotes the source that is missing."""

import keras
import pytest
import torch
from torch import nn

import keras3conv as k3c
from tests.support.models import randomize


class Net(nn.Module):
    def __init__(self, slope: float) -> None:
        super().__init__()
        self.a, self.b, self.slope = nn.Linear(4, 6), nn.Linear(6, 2), slope

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.a(x)
        made: torch.Tensor = self.b(y.relu() + self.slope * y)
        return made


@pytest.mark.parametrize("slope", [0.1, 0.2])
@pytest.mark.parametrize("layer", [True, False])
def test_an_activation_without_source_code_is_compared_by_its_values(slope: float, layer: bool) -> None:
    function = eval("lambda y: keras.ops.relu(y) + 0.1 * y", {"keras": keras})  # noqa: S307 - has no source file
    first = [keras.layers.Dense(6, activation=None if layer else function)]
    first += [keras.layers.Activation(function)] if layer else []
    model = keras.Sequential([keras.Input((4,)), *first, keras.layers.Dense(2)])
    net, x = randomize(Net(slope)), torch.randn(3, 4)
    plan = k3c.align(net, model, inputs=x)
    k3c.transfer(net, model, plan, accept_difference=True)
    report = k3c.validate(net, model, inputs=x, plan=plan, proofs=["hyperparameters", "float64"])
    assert report.ok == (slope == 0.1)
    assert model.layers[-2].activation is function
