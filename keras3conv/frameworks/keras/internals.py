"""Provide the non-public parts of Keras (`keras.src`), which no other module of this project imports.

If a new version of Keras moves or renames them, only this module must change.
"""

import sys
from collections.abc import Callable
from functools import lru_cache
from types import ModuleType

import keras
import keras.src.layers.layer
import keras.src.ops
import keras.src.ops.operation
from keras.src import backend
from keras.src.api_export import get_name_from_symbol
from keras.src.applications.convnext import LayerScale
from keras.src.backend import any_symbolic_tensors, compute_output_spec
from keras.src.backend.common import dtypes, global_state
from keras.src.backend.common.masking import get_keras_mask, set_keras_mask
from keras.src.layers.convolutional.base_conv import BaseConv
from keras.src.layers.convolutional.base_conv_transpose import BaseConvTranspose
from keras.src.layers.convolutional.base_depthwise_conv import BaseDepthwiseConv
from keras.src.layers.convolutional.base_separable_conv import BaseSeparableConv
from keras.src.models import Functional, Sequential
from keras.src.models.functional import functional_like_constructor
from keras.src.ops.numpy import GetItem, Reshape
from keras.src.random.seed_generator import GLOBAL_SEED_GENERATOR
from keras.src.saving import saving_lib
from keras.src.utils.backend_utils import DynamicBackend
from keras.src.utils.module_utils import tensorflow
from keras.src.utils.naming import to_snake_case

NODE_MODULES: tuple[ModuleType, ...] = (keras.src.layers.layer, keras.src.ops.operation)
"""The modules of Keras that create a `Node` object to record each symbolic call."""

OPERATION_NAMESPACES: tuple[ModuleType, ...] = (keras.ops, keras.src.ops, keras.src.ops.numpy)
"""The modules in which Keras itself looks up the functions of `keras.ops`."""

OPERATION_MODULES: tuple[ModuleType, ...] = tuple(
    module for name, module in sorted(sys.modules.items()) if name.startswith("keras.src.ops.")
)
"""The modules that define the classes of Keras' operations, sorted by name; `import keras` loads all of them."""

CONVOLUTION_BASES: tuple[type, ...] = (BaseConv, BaseConvTranspose, BaseDepthwiseConv, BaseSeparableConv)
"""The base classes of all convolution layers of Keras."""


LAYER_MODULES = "keras.src.layers."
"""The prefix of the module names of Keras' own layer classes, by which they differ from custom classes."""

ACTIVATION_MODULES = "keras.src.activations"
"""The prefix of the module names of operation classes for activations that have more arguments than in `keras.ops`."""


unsaved_attributes: Callable[[str], set[str]] = lru_cache(saving_lib.get_attr_skipset)
"""Return the attributes that Keras' saving code skips in an object of a kind such as "Layer".

Keras means to keep them, but looks them up under another name than it stores them, so that it creates a new layer for
every layer that it saves.
"""


def lists_its_layers(model: keras.layers.Layer) -> bool:
    """Return whether the configuration of a model says nothing but its name, its layers and how they are connected."""
    functional = type(model).get_config is Functional.get_config and functional_like_constructor(type(model))
    return functional or type(model).get_config is Sequential.get_config


def public_name(cls: type) -> str:
    """Return the name under which Keras exports a class: "keras.layers.Dense"; for other classes module and name."""
    exported = str(get_name_from_symbol(cls))
    if exported.startswith("keras.layers."):
        return exported
    module = cls.__module__
    if module.startswith(LAYER_MODULES):
        module = "keras.layers"
    elif module.startswith("keras.src.models."):
        module = "keras"
    return f"{module}.{cls.__qualname__}"


__all__ = [
    "ACTIVATION_MODULES",
    "CONVOLUTION_BASES",
    "GLOBAL_SEED_GENERATOR",
    "LAYER_MODULES",
    "NODE_MODULES",
    "OPERATION_MODULES",
    "OPERATION_NAMESPACES",
    "BaseDepthwiseConv",
    "BaseSeparableConv",
    "DynamicBackend",
    "GetItem",
    "LayerScale",
    "Reshape",
    "any_symbolic_tensors",
    "backend",
    "compute_output_spec",
    "dtypes",
    "get_keras_mask",
    "global_state",
    "lists_its_layers",
    "public_name",
    "saving_lib",
    "set_keras_mask",
    "tensorflow",
    "to_snake_case",
    "unsaved_attributes",
]
