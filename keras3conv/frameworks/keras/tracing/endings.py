"""Separate the final activation from a traced layer, and name the outputs of a model."""

from collections.abc import Callable, Iterator
from typing import Any

import keras

from keras3conv.errors import Problem
from keras3conv.frameworks.keras import model as keras_side
from keras3conv.frameworks.keras.internals import CONVOLUTION_BASES
from keras3conv.frameworks.keras.tree import named_layers

_END_WITH_ACTIVATION = (*CONVOLUTION_BASES, keras.layers.Dense, keras.layers.EinsumDense)
"""The layers that apply their activation last; a recurrent layer applies its activation in each step."""


def mixed(model: keras.layers.Layer) -> Iterator[Problem]:
    """Yield a problem for each layer with mixed precision, whose compute dtype is not the dtype of its variables."""
    for path, layer in named_layers(model):
        if layer._trainable_variables and layer.compute_dtype != layer.variable_dtype:
            fact = f"it computes in {layer.compute_dtype} with variables in {layer.variable_dtype}; in torch, autocast"
            inside = "".join(f'.get_layer("{name}")' for name in path.split("/")[:-1])
            fix = f'for layer in model{inside}.layers: layer.dtype_policy = "float32"  # then convert the model again'
            yield Problem(keras=path, fact=f"{fact} does so around a module, not the module itself", fixes=(fix,))


def final_activation(layer: keras.layers.Layer) -> Callable[[Any], Any] | None:
    """Return the activation that a layer, or the layer in a `TimeDistributed`, applies last; None if there is none."""
    if isinstance(layer, keras.layers.TimeDistributed):
        return final_activation(layer.layer)
    activation = getattr(layer, "activation", None)
    ends = isinstance(layer, _END_WITH_ACTIVATION) and activation not in (None, keras.activations.linear)
    return activation if ends else None


def noted_config(layer: keras.layers.Layer) -> dict[str, Any]:
    """Return a layer's configuration for the call graph, without the final activation, which is a separate node."""
    config = keras_side.config_of(layer) or {}
    if final_activation(layer) is None:
        return config
    if isinstance(layer, keras.layers.TimeDistributed):
        inner = config["layer"]
        return {**config, "layer": {**inner, "config": {**inner["config"], "activation": "linear"}}}
    return {**config, "activation": "linear"}


def output_names(model: keras.layers.Layer) -> tuple[str, ...]:
    """Return the name of each output of a functional model: that of the layer which computes it.

    The name is empty if a function of `keras.ops` computes the output, because Keras numbers such functions anew in
    every process. The result is empty for a model without names.
    """
    names, tensors = tuple(getattr(model, "output_names", ())), getattr(model, "outputs", None) or ()
    if len(names) != len(tensors):
        return names
    are_layers = (isinstance(tensor._keras_history.operation, keras.layers.Layer) for tensor in tensors)
    return tuple(name if is_layer else "" for name, is_layer in zip(names, are_layers, strict=True))
