"""Find the batch normalizations of a Keras model that use the statistics of the batch in training mode."""

from collections.abc import Mapping
from typing import Any

import keras

from keras3conv.frameworks.keras.modes import without_gradients
from keras3conv.frameworks.keras.observing import Original, batch_normalizations
from keras3conv.frameworks.keras.state import state_kept
from keras3conv.frameworks.keras.tree import named_layers
from keras3conv.frameworks.keras.values import raised_by_keras, to_tensors


def batch_statistics(model: keras.layers.Layer, inputs: object) -> Mapping[str, bool]:
    """Return whether each batch normalization uses the statistics of the batch in training mode, by layer path.

    The model runs once with `training=True`: a layer may be frozen, or the code of a model may call it with
    `training=False`. The variables of the model are unchanged afterwards.

    Args:
        model: The model.
        inputs: An array, a list of arrays or a dict by name; a tuple has several positional arguments.

    Returns:
        A dict with the layers that ran; empty if the model raises in training mode.
    """
    tensors = to_tensors(inputs if isinstance(inputs, tuple) else (inputs,))
    paths = {id(layer): path for path, layer in named_layers(model)}
    found: dict[str, bool] = {}

    def note(original: Original, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        training = args[1] if len(args) > 1 else kwargs.get("training")
        path = paths.get(id(layer), "")
        found[path] = found.get(path, False) or bool(training and layer.trainable)
        return original(layer, *args, **kwargs)

    with state_kept(model), without_gradients(), batch_normalizations(note):
        try:
            model(*tensors, training=True)
        except raised_by_keras():
            return {}
    return found
