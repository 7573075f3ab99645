"""The diagnosis names two causes at once, or none."""

from typing import Any

import keras
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody gives it
from keras import layers, ops
from torch import nn

from tests.support.planted.networks import first_problem

pytestmark = pytest.mark.slow


class Scaled(nn.Module):
    """A handwritten RMS normalisation."""

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon)


class Gated(nn.Module):
    """The product of two normalised branches, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.out = nn.Linear(8, 12), nn.Linear(8, 12), nn.Linear(12, 4)
        self.norm, self.other, self.last = Scaled(1e-6), Scaled(1e-6), Scaled(1e-6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        product = self.norm(self.first(x)) * self.other(self.second(x))
        return self.out(self.last(F.gelu(product)))


def gated(*, epsilon: float, approximate: bool, offset: float = 0.0) -> keras.Model:
    """Return the Keras counterpart of `Gated`, with another epsilon in both branches and another GELU."""

    def scaled(x: Any, epsilon: float) -> Any:
        return x * ops.rsqrt(ops.mean(ops.square(x), axis=-1, keepdims=True) + epsilon)

    inputs = keras.Input((8,))
    first, second = (layers.Dense(12, name=name)(inputs) for name in ("first", "second"))
    product = scaled(first, epsilon) * scaled(second, epsilon)
    x = scaled(ops.gelu(product, approximate=approximate) + offset * ops.sin(product), 1e-6)
    return keras.Model(inputs, layers.Dense(4, name="out")(x))


def random_rows() -> torch.Tensor:
    return torch.randn(5, 8, generator=torch.Generator().manual_seed(0))


def test_one_cause_at_several_operations_is_named_with_each() -> None:
    problem = first_problem(Gated(), gated(epsilon=1e-5, approximate=False), random_rows())
    assert "epsilon is 1e-06 in torch and 1e-05 in Keras" in problem.fact
    assert "eps = 1e-05  # torch: norm\neps = 1e-05  # torch: other" in problem.fixes


def test_two_causes_at_once_are_both_named() -> None:
    problem = first_problem(Gated(), gated(epsilon=1e-7, approximate=True), random_rows())
    first, second = problem.fact.rpartition("\n")[2].split("; and ")
    assert "GELU" in first
    assert second == "epsilon is 1e-06 in torch and 1e-07 in Keras"
    assert "# torch: norm\neps = 1e-07  # torch: other" in problem.fixes[0]


def test_a_cause_that_explains_half_of_the_difference_is_not_named() -> None:
    problem = first_problem(Gated(), gated(epsilon=1e-6, approximate=True, offset=1e-7), random_rows())
    assert "GELU" not in problem.fact
    assert problem.fixes == () or "gelu" not in " ".join(problem.fixes)


class Weighted(Scaled):
    """A handwritten RMS normalisation with weights, which no rule knows."""

    def __init__(self, epsilon: float) -> None:
        super().__init__(epsilon)
        self.gain, self.shift = nn.Parameter(torch.ones(8)), nn.Parameter(torch.zeros(1, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * self.gain + self.shift


class WeightedKeras(layers.Layer):
    """The Keras counterpart of `Weighted`."""

    def __init__(self, epsilon: float, name: str) -> None:
        super().__init__(name=name)
        self.epsilon = epsilon

    def build(self, shape: Any) -> None:
        self.gain = self.add_weight(shape=shape[-1:], initializer="ones", name="gain")
        self.shift = self.add_weight(shape=(1, shape[-1]), initializer="zeros", name="shift")

    def call(self, x: Any) -> Any:
        scaled = x * ops.rsqrt(ops.mean(ops.square(x), axis=-1, keepdims=True) + self.epsilon)
        return scaled * self.gain + self.shift


class Stack(nn.Module):
    """Two normalisations in a row, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.n1, self.n2, self.out = Weighted(1e-6), Weighted(1e-6), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.n2(torch.tanh(self.n1(x))))


def test_the_line_for_keras_names_the_layer_whose_tensors_are_paired_without_a_rule() -> None:
    inputs = keras.Input((8,))
    x = WeightedKeras(1e-3, "k2")(ops.tanh(WeightedKeras(1e-3, "k1")(inputs)))
    problem = first_problem(Stack(), keras.Model(inputs, layers.Dense(4, name="out")(x)), random_rows())
    assert "epsilon is 1e-06 in torch and 0.001 in Keras" in problem.fact
    assert problem.fixes == (
        "eps = 0.001  # torch: n1\neps = 0.001  # torch: n2",
        "epsilon=1e-06  # Keras: k1\nepsilon=1e-06  # Keras: k2",
    )
