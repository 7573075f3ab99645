"""Layers with the same weights and a slightly different output are paired, and the plan notes the difference."""

import keras
import pytest
import torch
from keras import layers
from torch import nn

import keras3conv as k3c
from tests.support.models import randomize


class Skip(nn.Module):
    """A residual layer without a rule, whose output is mostly its input."""

    def __init__(self, share: float, constant: float) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.zeros(6, 6))
        self.share, self.constant = share, constant

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.share * (x @ self.mix) + self.constant


class KerasSkip(layers.Layer):
    def __init__(self, share: float, transposed: bool, **keywords: object) -> None:
        super().__init__(**keywords)
        self.share, self.transposed = share, transposed

    def build(self, shape: object) -> None:
        self.mix = self.add_weight(shape=(6, 6), name="mix")

    def call(self, x: object) -> object:
        mix = keras.ops.transpose(self.mix) if self.transposed else self.mix
        return x + self.share * keras.ops.matmul(x, mix)


def pair(share: float, constant: float, transposed: bool = False) -> tuple[nn.Module, keras.Model]:
    module = randomize(nn.Sequential(Skip(share, constant), nn.Linear(6, 4), nn.Linear(4, 4)))
    inputs = keras.Input((6,))
    x = KerasSkip(share, transposed, name="skip")(inputs)
    return module, keras.Model(inputs, layers.Dense(4, name="b")(layers.Dense(4, name="a")(x)))


@pytest.mark.parametrize("transposed", [False, True])
def test_a_residual_layer_is_paired_if_it_computes_the_same(transposed: bool) -> None:
    module, model = pair(1e-3, 0.0, transposed)
    plan = k3c.align(module, model).accepting_difference().check()
    found = plan.of("skip/mix")
    assert found is not None
    assert found.decided_by == "probe"
    k3c.transfer(module, model, plan)
    k3c.validate(module, model, alignment=plan, proofs=["float64"]).raise_if_failed()


@pytest.mark.parametrize("transposed", [False, True])
def test_a_small_error_proves_nothing_if_random_weights_give_nearly_the_same(transposed: bool) -> None:
    plan = k3c.align(*pair(1e-3, 3e-3, transposed)).accepting_difference().check()
    found = plan.of("skip/mix")
    assert found is not None
    assert found.unconfirmed
    assert "wrong weights would give nearly the same error" in found.evidence[-1].detail
    assert {entry.keras: entry.decided_by for entry in plan.pairs if entry.keras in "ab"} == {
        "a": "probe",
        "b": "probe",
    }


def test_a_layer_without_a_counterpart_is_never_confirmed_by_a_small_error() -> None:
    module = randomize(nn.Sequential(Skip(1e-3, 0.0), nn.Linear(6, 4)))
    other = randomize(nn.Sequential(Skip(1e-3, 0.0), Skip(1e-3, 0.0), nn.Linear(6, 4)))
    inputs = keras.Input((6,))
    x = KerasSkip(-1e-3, False, name="skip")(inputs)
    model = keras.Model(inputs, layers.Dense(4, name="a")(x))
    for torch_side in (module, other):
        found = k3c.align(torch_side, model).of("skip/mix")
        assert found is None or found.unconfirmed


def test_the_plan_notes_the_size_of_a_difference() -> None:
    module = randomize(nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6, eps=1e-3)))
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.LayerNormalization(epsilon=2e-3, name="n")(layers.Dense(6)(inputs)))
    shown = str(k3c.align(module, model).accepting_difference().check())
    note = "1 layer with the same weights as torch returned different values, by up to 1 % of the largest value: n by "
    assert note in shown
