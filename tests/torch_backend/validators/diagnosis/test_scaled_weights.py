"""Weights that differ by a factor have one cause, the weights, and no line of code for a factor."""

from collections.abc import Callable

import keras
import pytest
import torch
from keras import layers
from torch import nn

import keras3conv as k3c


class Net(nn.Module):
    """Three layers with activations between them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 7), nn.Linear(7, 6), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c(torch.relu(self.b(torch.relu(self.a(x)))))


def twin() -> keras.Model:
    image = keras.Input((5,))
    x = layers.Dense(7, activation="relu", name="a")(image)
    x = layers.Dense(6, activation="relu", name="b")(x)
    return keras.Model(image, layers.Dense(2, name="c")(x))


@pytest.mark.parametrize(
    ("is_scaled", "layer"),
    [
        (lambda _: True, "a"),
        (lambda path: path.startswith("b/"), "b"),
        (lambda path: path == "b/kernel", "b"),
    ],
    ids=["all weights", "those of a layer", "one tensor"],
)
def test_weights_that_differ_by_a_factor_have_the_line_of_the_transfer_alone(
    is_scaled: Callable[[str], bool], layer: str
) -> None:
    module, model = Net(), twin()
    plan = k3c.align(module, model)
    k3c.transfer(module, model, plan)
    for variable in model.weights:
        if is_scaled(variable.path):
            variable.assign(variable * 2)
    report = k3c.validate(module, model, plan=plan)
    lines = {line for section in report.sections for problem in section.problems for line in problem.fixes}
    assert {line.partition("(")[0] for line in lines} == {"k3c.transfer"}
    (problem,) = report.section("activations").problems
    assert (problem.torch, problem.keras) == (layer, layer)
    assert "it has other weights in Keras: see roundtrip" in problem.fact
