"""The probe pairs torch layers that run in sequence with one Keras layer that computes both."""

from collections.abc import Callable

import keras
import numpy as np
import pytest
import torch
from keras import layers
from torch import nn

import keras3conv as k3c
from keras3conv.rules.library import find
from tests.support.models import randomize
from tests.support.pairs import make_pair

SEPARABLE = "2 x torch.nn.Conv{0}d <-> keras.layers.SeparableConv{0}D"


# Torch announces that it pads a copy where an even kernel needs more on one side.
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("place", range(4))
def test_a_depthwise_and_a_pointwise_convolution_are_paired_with_a_separable_one(rank: int, place: int) -> None:
    pair = make_pair(find(SEPARABLE.format(rank)), place)
    plan = k3c.align(pair.torch, pair.keras, inputs=pair.inputs, keras_inputs=pair.keras_inputs).check()
    (found,) = plan.pairs
    assert (found.torch, found.rule) == ("layer.0 + layer.1", SEPARABLE.format(rank))
    assert [evidence.kind for evidence in found.evidence] == ["probe"]


class Separated(nn.Module):
    """Two sequences of two equal layers; `between` may be applied inside a sequence."""

    def __init__(self, between: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.b, self.a = (
            nn.ModuleList([nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False), nn.Conv2d(4, 4, 1)]) for _ in range(2)
        )
        self.between = between

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for depthwise, pointwise in (self.a, self.b):
            x = pointwise(self.between(depthwise(x)))
        return x


def separable() -> keras.Model:
    inputs = keras.Input((5, 6, 4))
    first, second = (layers.SeparableConv2D(4, 3, padding="same", name=name) for name in ("one", "two"))
    return keras.Model(inputs, second(first(inputs)))


def images() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2, 4, 5, 6)).astype("float32")


def test_sequences_of_equal_layers_are_distinguished_by_their_inputs() -> None:
    module, model = randomize(Separated(lambda x: x)), separable()
    plan = k3c.align(module, model, inputs=images()).check()
    assert {pair.keras: pair.torch for pair in plan.pairs} == {"one": "a.0 + a.1", "two": "b.0 + b.1"}
    k3c.transfer(module, model, plan)
    k3c.validate(module, model, inputs=images(), alignment=plan).raise_if_failed()


def test_layers_with_an_activation_between_them_are_not_paired_as_a_sequence() -> None:
    plan = k3c.align(randomize(Separated(torch.tanh)), separable(), inputs=images())
    assert not any(len(pair.torch_layers) > 1 for pair in plan.pairs)


@pytest.mark.parametrize("place", range(4))
def test_an_integer_counter_of_a_norm_gets_no_probe_value(place: int) -> None:
    rule = find("keras3conv.frameworks.torch.layers.Normalization <-> keras.layers.Normalization")
    pair = make_pair(rule, place)
    plan = k3c.align(pair.torch, pair.keras, inputs=pair.inputs, keras_inputs=pair.keras_inputs).check()
    assert [(found.torch, found.rule) for found in plan.pairs] == [("layer", rule.name)]
