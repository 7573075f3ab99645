"""Find the constants that the layers of a Keras model compute anew in each call, in float32 and in float64."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras3conv.errors import ModelError
from keras3conv.frameworks.keras.internals import LAYER_MODULES
from keras3conv.frameworks.keras.modes import float64_mode
from keras3conv.frameworks.keras.tracing.graph import graph_of
from keras3conv.frameworks.keras.tree import layers_of
from keras3conv.transforms import Array


def computed_constants(model: keras.layers.Layer, inputs: Any) -> Iterator[tuple[Array, Array]]:
    """Yield the constants that a model computes in each call, such as a table of sines: in float32, and in float64.

    Only layers of the user compute such constants. Nothing is yielded for a model that cannot be traced.

    Args:
        model: The model.
        inputs: Its inputs, which fix the sizes of the constants.
    """
    if not any(_is_own(layer) for layer in layers_of(model)):
        return
    try:
        rounded = graph_of(model, _is_of_keras, inputs)[0].constants
        with float64_mode(model):
            exact = graph_of(model, _is_of_keras, inputs)[0].constants
    except ModelError:
        return
    if rounded.keys() != exact.keys():
        return
    for name, array in rounded.items():
        if array.dtype == np.float32 and exact[name].dtype == np.float64 and array.shape == exact[name].shape:
            yield array, exact[name]


def _is_of_keras(layer: keras.layers.Layer, _: tuple[str, ...]) -> bool:
    return type(layer).__module__.startswith(LAYER_MODULES) and not isinstance(layer, keras.layers.Lambda)


def _is_own(layer: keras.layers.Layer) -> bool:
    return not type(layer).__module__.startswith("keras.") or isinstance(layer, keras.layers.Lambda)
