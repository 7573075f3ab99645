"""Keras models are converted to torch modules and validated on every backend."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import keras3conv as k3c
from keras3conv.frameworks.keras import model as keras_side
from tests.backends.validators.test_judges import twin

layers = keras.layers


def randomised(model: keras.Model) -> keras.Model:
    """Fill the weights with random, non-degenerate values."""
    generator = np.random.default_rng(3)
    tensors = [tensor for tensor in keras_side.view(model).tensors() if not tensor.is_seed]
    keras_side.write(
        model, {tensor.path: generator.uniform(0.2, 0.9, tensor.shape).astype("float32") for tensor in tensors}
    )
    return model


def images() -> keras.Model:
    given = keras.Input((8, 9, 3))
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="conv")(given)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Flatten()(layers.MaxPooling2D()(x))
    return keras.Model(given, layers.Dense(3, activation="softmax", name="head")(x), name="images")


def text() -> keras.Model:
    given = keras.Input((6,), dtype="int32")
    x = layers.Embedding(11, 5, name="table")(given)
    x = x + layers.LayerNormalization(name="norm")(x)
    x = layers.LSTM(4, name="lstm")(x)
    return keras.Model(given, layers.Dense(2, name="head")(x), name="text")


@pytest.mark.parametrize("make", [images, text, twin], ids=lambda make: make.__name__)
def test_a_converted_model_passes_validation(make: Callable[[], keras.Model]) -> None:
    conversion = k3c.convert(randomised(make()))
    assert conversion.report is not None
    conversion.report.raise_if_failed()
    assert not conversion.report.with_status("skipped")


class Mixing(keras.layers.Layer):
    """A custom layer that owns weights and uses them in operations."""

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(shape=(shape[-1], 5), name="kernel")

    def call(self, x: Any) -> Any:
        return keras.ops.tanh(keras.ops.matmul(x, self.kernel))


class Subclassed(keras.Model):
    """A loop over layers, two arguments, and a dict of outputs."""

    def __init__(self) -> None:
        super().__init__(name="subclassed")
        self.mixing = Mixing(name="mixing")
        self.parts = [layers.Dense(5, activation="relu", name=f"part_{place}") for place in range(2)]

    def call(self, first: Any, second: Any) -> Any:
        x = self.mixing(first)
        for part in self.parts:
            x = x + part(second)
        return {"sum": x, "mean": keras.ops.mean(x, axis=-1)}


def test_a_converted_subclassed_model_passes_validation() -> None:
    rows = np.random.default_rng(2).uniform(-1, 1, (2, 3, 4)).astype("float32")
    model = Subclassed()
    model(*rows)
    conversion = k3c.convert(randomised(model), inputs=tuple(rows))
    assert conversion.report is not None
    conversion.report.raise_if_failed()
