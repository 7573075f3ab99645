"""The probe on convolutional blocks: a layer scale that the block owns, a normalisation without a scale."""

import keras
import numpy as np
import pytest
import torch
from keras import layers
from torch import nn

import keras3conv as k3c
from keras3conv.errors import TransferError
from tests.support.models import randomize

CHANNELS = 6


class ChannelsFirstNorm(nn.LayerNorm):
    """A normalisation over the second axis, the channels in torch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class ScaledBlock(nn.Module):
    """Two convolutions around a normalisation, and a scale that the block itself owns."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(CHANNELS, 1, 1))
        self.body = nn.Sequential(
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
            ChannelsFirstNorm(CHANNELS, eps=1e-3),
            nn.GELU(),
            nn.Conv2d(CHANNELS, CHANNELS, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.scale * self.body(x)


@keras.saving.register_keras_serializable("test")
class Scale(layers.Layer):
    """A factor for every channel."""

    def build(self, input_shape: tuple[int, ...]) -> None:
        self.gamma = self.add_weight(shape=input_shape[-1:], name="gamma")

    def call(self, x: object) -> object:
        return x * self.gamma


def scaled_blocks(count: int, size: int) -> keras.Model:
    x = inputs = keras.Input((size, size, CHANNELS))
    for _ in range(count):
        y = layers.LayerNormalization(epsilon=1e-3)(layers.Conv2D(CHANNELS, 3, padding="same")(x))
        y = layers.Conv2D(CHANNELS, 1)(layers.Activation("gelu")(y))
        x = layers.Add()([x, Scale()(y)])
    return keras.Model(inputs, x)


@pytest.mark.parametrize("size", [9, CHANNELS])
def test_the_scales_of_equal_blocks_are_found_and_proven(size: int) -> None:
    module = nn.Sequential(*(ScaledBlock() for _ in range(4)))
    randomize(module)
    model = scaled_blocks(4, size)
    plan = k3c.align(module, model)
    assert {pair.decided_by for pair in plan.pairs} == {"probe"}
    k3c.transfer(module, model, plan)
    assert k3c.validate(module, model, alignment=plan, proofs=("float64",)).ok


def normalised(*, affine: bool) -> tuple[nn.Sequential, keras.Model]:
    module = nn.Sequential()
    x = inputs = keras.Input((9, 9, CHANNELS))
    for _ in range(3):
        module.extend([nn.Conv2d(CHANNELS, CHANNELS, 3, bias=False), nn.BatchNorm2d(CHANNELS, eps=1e-3), nn.ReLU()])
        x = layers.Conv2D(CHANNELS, 3, use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(epsilon=1e-3, scale=affine)(x))
    module.eval()
    return module, keras.Model(inputs, x)


def test_a_normalisation_without_a_scale_is_paired_with_one_that_has_a_scale() -> None:
    module, model = normalised(affine=False)
    plan = k3c.align(module, model)
    assert [(pair.torch, pair.decided_by) for pair in plan.pairs] == [
        (path, "probe") for path in ("0", "1", "3", "4", "6", "7")
    ]
    k3c.transfer(module, model, plan)
    assert k3c.validate(module, model, alignment=plan, proofs=("roundtrip", "float64")).ok


def test_a_bias_that_only_keras_has_is_written_as_zeros_and_read_back() -> None:
    module, _ = normalised(affine=True)
    x = inputs = keras.Input((9, 9, CHANNELS))
    for _ in range(3):
        x = layers.Conv2D(CHANNELS, 3, bias_initializer="ones")(x)
        x = layers.ReLU()(layers.BatchNormalization(epsilon=1e-3)(x))
    model = keras.Model(inputs, x)
    plan = k3c.align(module, model).check()
    k3c.transfer(module, model, plan)
    assert k3c.validate(module, model, alignment=plan, proofs=("roundtrip", "float64")).ok


def test_a_scale_that_keras_does_not_have_is_refused_by_the_transfer_if_it_is_not_ones() -> None:
    module, model = normalised(affine=False)
    with torch.no_grad():
        module.get_parameter("4.weight").copy_(torch.rand(CHANNELS))
    before = [np.array(value) for value in model.get_weights()]
    plan = k3c.align(module, model).check()
    with pytest.raises(TransferError, match="values that are not 1"):
        k3c.transfer(module, model, plan)
    assert all(np.array_equal(first, second) for first, second in zip(before, model.get_weights(), strict=True))
