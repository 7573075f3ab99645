"""Gradients of a Keras model in which some layers run in training mode, on every backend."""

from typing import Any

import keras
import numpy as np
from keras import layers

from keras3conv.frameworks.keras.gradients import backward
from keras3conv.transforms import Array


class Block(layers.Layer):
    """Calls a dropout after a batch normalization, as the blocks of EfficientNet do."""

    def __init__(self, rate: float, **options: Any) -> None:
        super().__init__(**options)
        self.rate = rate

    def build(self, shape: Any) -> None:
        self.norm, self.drop = layers.BatchNormalization(name="norm"), layers.Dropout(self.rate)
        self.head = layers.Dense(3, kernel_initializer="ones", name="head")
        self.norm.build(shape)
        self.head.build(shape)

    def call(self, x: Any) -> Any:
        return self.head(self.drop(self.norm(x)))


def kernel_gradient(rate: float) -> Array:
    model = keras.Sequential([keras.Input((4,)), Block(rate, name="block")])
    generator = np.random.default_rng(0)
    rows, weights = (generator.normal(size=(6, size)).astype("float32") for size in (4, 3))
    path = "block/head/kernel"
    return backward(model, rows, {"": weights}, of=[path], training=["block/norm"]).gradients[path]


def test_a_layer_in_training_mode_leaves_the_later_layers_of_its_caller_in_inference_mode() -> None:
    np.testing.assert_array_equal(kernel_gradient(0.5), kernel_gradient(0.0))
