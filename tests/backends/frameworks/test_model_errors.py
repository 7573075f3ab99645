"""An exception in the code of a model becomes a `ModelError` that names the layer, on every backend."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras3conv.errors import ModelError
from keras3conv.frameworks.keras import model as keras_side


def asserts(x: Any) -> Any:
    assert x.shape[-1] == 5, "five numbers are wanted"
    return x


def looks_up(x: Any) -> Any:
    return {"known": x}["unknown"]


def divides(x: Any) -> Any:
    return x * (1 // (x.shape[-1] - 4))


def reshapes(x: Any) -> Any:
    return ops.reshape(x, (3, 5))


class Raising(layers.Layer):
    """A layer that calls a function without tracing it."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__(name="culprit")
        self.function, self.built = function, True

    def call(self, x: Any) -> Any:
        return self.function(x)


class Net(keras.Model):
    """A model of a layer and a layer that raises."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.dense, self.raising = layers.Dense(4), Raising(function)

    def call(self, x: Any) -> Any:
        return self.raising(self.dense(x))


@pytest.mark.parametrize("function", [asserts, looks_up, divides, reshapes])
def test_an_exception_in_the_code_of_a_model_names_the_layer(function: Callable[[Any], Any]) -> None:
    with pytest.raises(ModelError, match="culprit"):
        keras_side.run(Net(function), np.ones((2, 6), "float32"))
