"""Keras models become torch modules under every backend: read there, and proven there."""

from collections.abc import Callable

import keras
import numpy as np
import pytest

import keras3conv as k3c
from keras3conv.frameworks import keras_side
from tests.backends.test_validators import twin

layers = keras.layers


def randomised(model: keras.Model) -> keras.Model:
    """The model, with no weight at a value that hides a mistake."""
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
def test_a_model_is_converted_and_proven(make: Callable[[], keras.Model]) -> None:
    conversion = k3c.convert(randomised(make()))
    assert conversion.report is not None
    conversion.report.raise_if_failed()
    assert not conversion.report.with_status("skipped")
