"""A converted subclassed model keeps the names and the axis order of its code, and says what training alone has."""

from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers

import keras3conv as k3c


class Block(layers.Layer):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.up, self.down = layers.LayerNormalization(), layers.Dense(width), layers.Dense(6)

    def build(self, shape: Any) -> None:
        self.norm.build(shape)
        self.up.build(shape)
        self.down.build((*shape[:-1], self.up.units))

    def call(self, x: Any) -> Any:
        return x + self.down(self.up(self.norm(x)))


class Tagger(keras.Model):
    """Names nothing but its attributes and arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = layers.Dense(6, activation="relu", kernel_regularizer=keras.regularizers.L2(0.01))
        self.blocks = [Block(12) for _ in range(3)]
        self.pool = layers.GlobalAveragePooling1D()
        self.mixer = layers.Dense(6, name="chosen")
        self.head = layers.Dense(3, kernel_constraint=keras.constraints.MaxNorm(2))

    def call(self, tokens: Any, context: Any) -> Any:
        x = self.encoder(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(self.mixer(self.pool(x)) + context)


class Single(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.pool = layers.Dense(6), layers.GlobalMaxPooling1D()

    def call(self, tokens: Any) -> Any:
        return self.pool(self.encoder(tokens))


def numbers(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.fixture(scope="module")
def converted() -> k3c.Conversion:
    model, given = Tagger(), (numbers(2, 5, 4), numbers(2, 6))
    model(*given)
    conversion = k3c.convert(model, inputs=given)
    assert conversion.report is not None
    conversion.report.raise_if_failed()
    with torch.no_grad():
        made = conversion.model(*map(torch.tensor, given)).numpy()
    assert np.allclose(made, keras.ops.convert_to_numpy(model(*given)), atol=1e-6)
    return conversion


def test_attributes_and_arguments_keep_their_names(converted: k3c.Conversion) -> None:
    names = {name.rpartition(".")[0].replace(".", "_") for name in converted.model.state_dict()}
    inside = {f"blocks_{place}_{name}" for place in range(3) for name in ("norm", "up", "down")}
    assert names == {"encoder", "chosen", "head"} | inside
    assert "def forward(self, tokens: torch.Tensor, context: torch.Tensor)" in converted.source


def test_a_dense_before_a_global_pooling_stays_linear(converted: k3c.Conversion) -> None:
    assert "self.encoder = nn.Linear(4, 6)" in converted.source
    assert "tokens: (batch, 5, 4), float32" in converted.source


def test_a_single_argument_keeps_its_name() -> None:
    model = Single()
    model(numbers(2, 5, 4))
    conversion = k3c.convert(model, inputs=numbers(2, 5, 4))
    assert "def forward(self, tokens: torch.Tensor)" in conversion.source
    assert conversion.report is not None
    assert conversion.report.ok


def test_a_convolution_of_a_sequence_still_takes_its_channels_first() -> None:
    model = keras.Sequential([keras.Input((9, 4)), layers.Conv1D(6, 3), layers.GlobalAveragePooling1D()])
    assert "x: (batch, 4, 9), float32" in k3c.convert(model, validate=False).source


def test_regularizers_and_constraints_are_named_in_the_text_and_in_the_report(converted: k3c.Conversion) -> None:
    advice = "weight_decay=0.02 in torch's SGD or Adam does the same"
    constraint = "head: kernel_constraint MaxNorm(max_value=2, axis=0) changes the weights after every step in Keras"
    assert converted.report is not None
    for text in (" ".join(converted.source.split()), " ".join(converted.report.notes)):
        assert "encoder: kernel_regularizer L2(l2=0.01) is a term of the loss in Keras, and not converted" in text
        assert advice in text
        assert constraint in text


def test_the_advised_weight_decay_does_what_the_regularizer_does() -> None:
    first, second = (torch.nn.Parameter(torch.tensor(numbers(4, 6))) for _ in range(2))
    regularizer = keras.regularizers.L2(0.01)
    regularizer(first).backward()
    torch.optim.SGD([first], lr=0.1).step()
    second.grad = torch.zeros_like(second)
    torch.optim.SGD([second], lr=0.1, weight_decay=0.02).step()
    assert torch.allclose(first, second)
