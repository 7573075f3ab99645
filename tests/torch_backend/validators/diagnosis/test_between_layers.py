"""A difference that arises between two layers: the report names the layers before it that agree."""

import keras
import torch
from keras import layers, ops
from torch import nn

import keras3conv as k3c


class Clipped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.out = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.hardtanh(self.second(self.first(x)), -1.0, 1.0)
        out: torch.Tensor = self.out(torch.sin(x))
        return out


def test_the_last_layers_that_agree_are_named_and_a_comment_is_no_fix() -> None:
    x = inputs = keras.Input((6,), name="x")
    x = layers.Dense(6, name="second")(layers.Dense(6, name="first")(x))
    model = keras.Model(inputs, layers.Dense(3, name="out")(ops.sin(ops.clip(x, -1.0, 2.0))))
    module = Clipped()
    plan = k3c.align(module, model, hints={name: name for name in ("first", "second", "out")})
    k3c.transfer(module, model, plan.accepting_difference())
    report = k3c.validate(module, model, plan=plan, inputs=torch.randn(4, 6), proofs=("float64",))
    problem = next(one for section in report.sections if section.name == "float64" for one in section.problems)
    assert problem.torch == "out"
    assert "compare the inputs of out in torch and of out in Keras" in problem.fact
    assert problem.fact.endswith("the layers before it agree: second, first")
    assert problem.fixes == ()
