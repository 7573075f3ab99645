"""Conversions back and forth: the function is unchanged, and the generated code becomes stable."""

from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers
from torch import nn

import keras3conv as k3c
from tests.torch_backend.builder.to_keras.test_layers import Repeated
from tests.torch_backend.builder.to_keras.test_modules import Recurrent, ResNet
from tests.torch_backend.builder.to_keras.test_text_functions import Refined


def dense() -> keras.Model:
    return keras.Sequential([keras.Input((6,)), layers.Dense(5, activation="relu"), layers.Dense(3)])


def images() -> keras.Model:
    x = given = keras.Input((8, 10, 3))
    x = layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    x = layers.Activation("relu")(x)
    y = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.GlobalAveragePooling2D()(layers.Add()([x, y]))
    return keras.Model(given, layers.Dense(2)(x))


def separable() -> keras.Model:
    x = given = keras.Input((8, 10, 3))
    x = layers.MaxPooling2D(2)(layers.Conv2D(4, 1)(x))
    return keras.Model(given, layers.Dense(3)(layers.Flatten()(x)))


def texts() -> keras.Model:
    x = given = keras.Input((7,), dtype="int32")
    x = layers.LayerNormalization()(layers.Embedding(11, 6)(x))
    return keras.Model(given, layers.Dense(2)(layers.LSTM(5, return_sequences=True)(x)))


def squeeze() -> keras.Model:
    x = given = keras.Input((6, 6, 4))
    y = layers.GlobalAveragePooling2D(keepdims=True)(x)
    return keras.Model(given, layers.Multiply()([x, layers.Conv2D(4, 1, activation="sigmoid")(y)]))


KERAS = (dense, images, separable, texts, squeeze)
TORCH: dict[str, tuple[Any, Any]] = {
    "residual": (ResNet, lambda: torch.randn(2, 3, 32, 32)),
    "convolution": (lambda: nn.Sequential(nn.Conv1d(3, 4, 3), nn.ReLU()), lambda: torch.randn(2, 3, 9)),
    "repeated": (Repeated, lambda: torch.randn(2, 4, 5, 6)),
    "turns with the same layers": (lambda: Refined(with_all=True), lambda: torch.randn(2, 4)),
    "recurrent": (lambda: Recurrent(nn.GRU, batch_first=True), lambda: torch.randn(3, 4, 5)),
    "layers": (
        lambda: nn.Sequential(nn.Linear(6, 5), nn.GELU(), nn.LayerNorm(5), nn.Linear(5, 2)),
        lambda: torch.randn(3, 6),
    ),
}


@pytest.mark.parametrize(
    "build", [pytest.param(one, marks=[] if one is images else [pytest.mark.slow]) for one in KERAS]
)
def test_a_round_trip_through_torch_returns_an_equal_keras_model(build: Any) -> None:
    model = build()
    there = k3c.convert(model, validate=False)
    given = tuple(torch.from_numpy(one) for one in there.inputs)
    back = k3c.convert(there.model, inputs=given, validate=False)
    expected = np.asarray(there.model(*given).detach())
    found = keras.ops.convert_to_numpy(back.model(back.inputs[0]))
    order = back.program.output_orders[0]
    assert np.allclose(found, expected.transpose(order), atol=1e-5)
    again = k3c.convert(back.model, validate=False)
    last = k3c.convert(again.model, inputs=tuple(torch.from_numpy(one) for one in again.inputs), validate=False)
    third = k3c.convert(last.model, validate=False)
    assert third.source == again.source


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCH)
def test_a_round_trip_through_keras_returns_an_equal_torch_module(name: str) -> None:
    build, inputs = TORCH[name]
    module, given = build().eval(), inputs()

    def returned(made: Any) -> Any:
        there = k3c.convert(made, inputs=given, validate=False)
        return k3c.convert(there.model, validate=False)

    back = returned(module)
    expected, found = module(given), back.model(given)
    pairs = zip(*([one] if isinstance(one, torch.Tensor) else [*one] for one in (expected, found)), strict=True)
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in pairs)
    again = returned(back.model)
    assert returned(again.model).source == again.source
