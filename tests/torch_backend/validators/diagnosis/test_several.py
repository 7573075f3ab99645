"""Two models that differ in more than one thing: both are named, or none is."""

from typing import Any

import keras
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody gives it
from keras import layers, ops
from torch import nn

from keras3conv.validators.diagnosis import causes
from tests.support.planted.networks import first_problem


class Scaled(nn.Module):
    """Divides by the root of the mean square, with an epsilon; code of the model's own."""

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon)


class Gated(nn.Module):
    """Two branches that are normalised alike, their product, and heads."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.out = nn.Linear(8, 12), nn.Linear(8, 12), nn.Linear(12, 4)
        self.norm, self.other, self.last = Scaled(1e-6), Scaled(1e-6), Scaled(1e-6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        product = self.norm(self.first(x)) * self.other(self.second(x))
        return self.out(self.last(F.gelu(product)))


def gated(*, epsilon: float, approximate: bool, offset: float = 0.0) -> keras.Model:
    """The twin, with another epsilon in both branches, but not in the last norm, and another GELU."""

    def scaled(x: Any, epsilon: float) -> Any:
        return x * ops.rsqrt(ops.mean(ops.square(x), axis=-1, keepdims=True) + epsilon)

    inputs = keras.Input((8,))
    first, second = (layers.Dense(12, name=name)(inputs) for name in ("first", "second"))
    product = scaled(first, epsilon) * scaled(second, epsilon)
    x = scaled(ops.gelu(product, approximate=approximate) + offset * ops.sin(product), 1e-6)
    return keras.Model(inputs, layers.Dense(4, name="out")(x))


def given() -> torch.Tensor:
    return torch.randn(5, 8, generator=torch.Generator().manual_seed(0))


def test_one_cause_in_some_of_its_places_is_named_with_each() -> None:
    problem = first_problem(Gated(), gated(epsilon=1e-5, approximate=False), given())
    assert "epsilon is 1e-06 in torch and 1e-05 in Keras" in problem.fact
    assert problem.fixes == ("eps = 1e-05  # norm\neps = 1e-05  # other",)


def test_two_causes_at_once_are_both_named() -> None:
    problem = first_problem(Gated(), gated(epsilon=1e-7, approximate=True), given())
    first, second = problem.fact.rpartition("\n")[2].split("; and ")
    assert "GELU" in first
    assert second == "epsilon is 1e-06 in torch and 1e-07 in Keras"
    assert "# norm\neps = 1e-07  # other" in problem.fixes[0]


def test_half_an_explanation_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causes, "PATIENCE", 4.0)
    problem = first_problem(Gated(), gated(epsilon=1e-6, approximate=True, offset=1e-7), given())
    assert "GELU" not in problem.fact
    assert problem.fixes == () or "gelu" not in " ".join(problem.fixes)
