"""What a layer that is noted as one does at its end, and for every step: its activation is a call of its own."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras.src.layers.convolutional.base_conv import BaseConv
from keras.src.layers.convolutional.base_conv_transpose import BaseConvTranspose
from keras.src.layers.convolutional.base_depthwise_conv import BaseDepthwiseConv
from keras.src.layers.convolutional.base_separable_conv import BaseSeparableConv
from keras.src.layers.core.dense import Dense
from keras.src.layers.core.einsum_dense import EinsumDense

from keras3conv.errors import Problem
from keras3conv.frameworks.keras import model as keras_side
from keras3conv.frameworks.keras.tree import named_layers

_ENDING_WITH_ACTIVATION = (BaseConv, BaseConvTranspose, BaseDepthwiseConv, BaseSeparableConv, Dense, EinsumDense)
"""Layers that return what their activation makes; in a recurrent layer it has another meaning."""


def mixed(model: keras.layers.Layer) -> Iterator[Problem]:
    """The layers that compute in another dtype than their variables have: torch does that around a module."""
    for path, layer in named_layers(model):
        if layer._trainable_variables and layer.compute_dtype != layer.variable_dtype:
            fact = (
                f"it computes in {layer.compute_dtype} with variables in {layer.variable_dtype}, which torch.autocast"
            )
            fix = 'keras.config.set_dtype_policy("float32")  # then make the model, load its weights, and convert that'
            yield Problem(keras=path, fact=f"{fact} does from outside of a module", fixes=(fix,))


def distributed(layer: keras.layers.TimeDistributed, inputs: Any, training: Any = None, mask: Any = None) -> Any:
    """Every step goes through the layer by itself: they are as many rows. Keras' own call loops over them.

    In training a batch normalization has statistics of each step, so it is called for every step, as a model is.
    """
    if mask is not None:
        raise NotImplementedError("each step has a mask of its own")
    if isinstance(layer.layer, keras.layers.BatchNormalization) and inputs.shape[1] is None:
        raise NotImplementedError("each step has statistics in training, and the number of steps is free")
    if isinstance(layer.layer, keras.layers.BatchNormalization):
        return keras.ops.stack([layer.layer(inputs[:, step]) for step in range(inputs.shape[1])], axis=1)
    if isinstance(layer.layer, keras.Model):
        return layer.call(inputs)
    rows = keras.ops.reshape(inputs, (-1, *inputs.shape[2:]))
    made = layer.layer(rows)
    return keras.ops.reshape(made, (-1, inputs.shape[1], *made.shape[1:]))


def final_activation(layer: keras.layers.Layer) -> Callable[[Any], Any] | None:
    """The activation that a layer ends with, or the layer in it; None if there is none."""
    if isinstance(layer, keras.layers.TimeDistributed):
        return final_activation(layer.layer)
    activation = getattr(layer, "activation", None)
    ends = isinstance(layer, _ENDING_WITH_ACTIVATION) and activation not in (None, keras.activations.linear)
    return activation if ends else None


def noted_config(layer: keras.layers.Layer) -> dict[str, Any]:
    """The configuration of a layer as it is noted: a final activation is noted by itself."""
    config = keras_side.config_of(layer) or {}
    if final_activation(layer) is None:
        return config
    if isinstance(layer, keras.layers.TimeDistributed):
        inner = config["layer"]
        return {**config, "layer": {**inner, "config": {**inner["config"], "activation": "linear"}}}
    return {**config, "activation": "linear"}


__all__ = ["distributed", "final_activation", "mixed", "noted_config"]
