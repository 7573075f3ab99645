"""Describe a live Keras model as a view: the classes, configurations and variables of its layers, and its inputs."""

import inspect
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import keras

from keras3conv.frameworks.keras.internals import lists_its_layers, public_name
from keras3conv.frameworks.keras.observing import tensorflow_not_imported
from keras3conv.frameworks.keras.tree import (
    file_locations,
    named_layers,
    owns_variables,
    require_built,
    variables_by_path,
    variables_of,
)
from keras3conv.frameworks.keras.values import to_numpy
from keras3conv.model.views import InputSpec, LayerView, ModelView, TensorRef, made, plain
from keras3conv.transforms import Array


def view(model: keras.layers.Layer, *, described: bool = True) -> ModelView:
    """Return a view of a model: named variables, grouped by the layer that owns them.

    The path of a layer is like "outer/inner", the path of a variable like "outer/inner/kernel". A shared layer appears
    once.

    Args:
        model: The model.
        described: Whether to include the configurations of the layers, the layers without variables, and the locations
            of the variables in a weight file. Keras needs more time for these than for a run on a small input.

    Raises:
        ModelError: The model was never called, so a layer has no variables yet.
    """
    require_built(model)
    with tensorflow_not_imported():
        locations = file_locations(model) if described else {}
        attributes = _attribute_names(model) if described else {}
        layers = tuple(
            LayerView(
                path=path,
                kinds=kinds_of(layer),
                config=_config(layer) if described else None,
                tensors=tuple(_tensor_ref(path, role, variable, locations) for role, variable in variables_of(layer)),
                attribute=attributes.get(id(layer), ""),
            )
            for path, layer in named_layers(model)
            if described or owns_variables(layer)
        )
    values: dict[str, keras.Variable] = {}

    def read(path: str) -> Array:
        if not values:
            values.update(variables_by_path(model))
        return to_numpy(values[path])

    return ModelView(
        side="keras",
        name=model.name,
        layers=layers,
        reader=read,
        input_specs=input_specs(model),
        arguments=call_arguments(model),
        mask_values=tuple(sorted({value for value in paddings(model) if value is not None})),
        facts={"format": f"live Keras model on the {keras.backend.backend()} backend"},
    )


def _tensor_ref(path: str, role: str, variable: keras.Variable, locations: Mapping[int, str]) -> TensorRef:
    values = {
        "path": f"{path}/{role}".lstrip("/"),
        "role": role,
        "shape": tuple(variable.shape),
        "dtype": variable.dtype,
        "trainable": bool(variable.trainable),
        "storage": str(id(variable)),
        "location": locations.get(id(variable), ""),
    }
    return made(TensorRef, values)


def kinds_of(layer: keras.layers.Layer) -> tuple[str, ...]:
    """Return the class names of a layer, the most derived first; an `Activation` starts with its function's name."""
    cls: type = type(layer)
    if isinstance(layer, keras.layers.Activation):
        return f"keras.activations.{getattr(layer.activation, '__name__', '')}", *_kinds(cls)
    return _kinds(cls)


STANDS_FOR_ITS_BASE = "stands_for_its_base"
"""The name of a class attribute: rules take a class with this attribute for its base class."""


_LAYER = "keras.layers.Layer"


@lru_cache(maxsize=1024)
def _kinds(cls: type) -> tuple[str, ...]:
    bases = [base for base in cls.__mro__ if issubclass(base, keras.layers.Layer)]
    kinds = (class_name(base) for base in bases if not vars(base).get(STANDS_FOR_ITS_BASE))
    return tuple(kind for kind in kinds if kind != _LAYER) or (_LAYER,)


@lru_cache(maxsize=1024)
def class_name(cls: type) -> str:
    """Return the name under which Keras exports a class; it may differ from the name in the class statement."""
    return public_name(cls)


_SERIALIZED = ("activation", "layer", "backward_layer", "cell")
"""The configuration fields that rules read although they are not plain values: activations and wrapped layers."""


def config_of(layer: keras.layers.Layer) -> dict[str, Any] | None:
    """Return the configuration fields of a layer that rules can read; None if a custom layer has no `get_config`."""
    with tensorflow_not_imported():
        return _config(layer)


def _config(layer: keras.layers.Layer) -> dict[str, Any] | None:
    """Return the same as `config_of`; Keras imports TensorFlow for it, unless that is prevented."""
    if lists_its_layers(layer):  # Keras would make the configurations of all its layers, which no rule reads from it
        return {"name": layer.name, "trainable": layer.trainable}
    try:
        config = layer.get_config()
    except (NotImplementedError, AttributeError, TypeError):  # a custom class with a missing or wrong `get_config`
        return None
    except OSError:  # Keras quotes the source of a function that it cannot serialize, and this one has none
        return _config_without_source(layer)
    return {
        name: value
        for name, value in config.items()
        if plain(value) or name in _SERIALIZED or _is_custom_activation(name, value)
    }


def _config_without_source(layer: keras.layers.Layer) -> dict[str, Any] | None:
    """Return the configuration fields of a layer whose activation is a function without source code, such as a lambda.

    The field of the activation has the name of the function, like that of any other custom activation.
    """
    functions = {name: value for name, value in vars(layer).items() if name.endswith("activation") and callable(value)}
    if not functions:
        return None
    try:
        for name in functions:
            setattr(layer, name, keras.activations.linear)
        config = _config(layer)
    finally:
        for name, function in functions.items():
            setattr(layer, name, function)
    named = {name: {"class_name": "function", "config": _name_of(function)} for name, function in functions.items()}
    return None if config is None else config | {name: named[name] for name in named if name in config}


def _name_of(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _is_custom_activation(name: str, value: Any) -> bool:
    """Return True if a field of a configuration is an activation function that Keras saves as a dict: a custom one.

    Args:
        name: The name of the field, such as "activation".
        value: Its value.
    """
    return name.endswith("activation") and isinstance(value, dict)


def _attribute_names(model: keras.layers.Layer) -> dict[int, str]:
    """Return, by the id of each layer, the attribute of its parent that contains it: "forward_layer", "cells.0"."""
    attributes: dict[int, str] = {}
    for _, parent in named_layers(model):
        # On the torch backend a layer is a torch module, which stores submodules separately from other attributes.
        for name, value in (vars(parent) | vars(parent).get("_modules", {})).items():
            items = enumerate(value) if isinstance(value, list | tuple) else [(None, value)]
            for position, item in items:
                if isinstance(item, keras.layers.Layer) and name not in ("_layers", "_operations"):
                    attribute = name.lstrip("_") if position is None else f"{name.lstrip('_')}.{position}"
                    attributes.setdefault(id(item), attribute)
    return attributes


def input_specs(model: keras.layers.Layer) -> tuple[InputSpec, ...]:
    """Return the input specifications of a functional or sequential model; an empty tuple for a subclassed model."""
    tensors = _inputs_of(model)
    keys = _input_keys(model) or ("",) * len(tensors)
    words, steps = paddings(model) if tensors else (None, None)
    return tuple(
        InputSpec(
            shape=tuple(tensor.shape),
            dtype=_dtype_of(tensor),
            name=str(tensor.name),
            key=key,
            padding=words if "int" in _dtype_of(tensor) or len(tensor.shape) < 3 else steps,
            is_optional=bool(getattr(tensor._keras_history.operation, "optional", False)),
        )
        for tensor, key in zip(tensors, keys, strict=True)
    )


def _inputs_of(model: keras.layers.Layer) -> list[keras.KerasTensor]:
    """Return the symbolic inputs of a functional or sequential model; an empty list for a subclassed model."""
    inputs: list[keras.KerasTensor] = keras.tree.flatten(getattr(model, "inputs", None) or [])
    return inputs


def _dtype_of(tensor: keras.KerasTensor) -> str:
    """Return the dtype of an input; "int32" for a float input that is the input of Embedding layers only.

    Old files store float32 for such an input, but the models were called with integers. Keras casts the indices.
    """
    dtype = str(tensor.dtype)
    takers = [node.operation for node in getattr(tensor._keras_history.operation, "_outbound_nodes", ())]
    others = [taker for taker in takers if type(taker).__name__ != "NotEqual"]  # it makes the mask of an Embedding
    are_indices = bool(others) and all(isinstance(taker, keras.layers.Embedding) for taker in others)
    return "int32" if are_indices and "int" not in dtype else dtype


def paddings(model: keras.layers.Layer) -> tuple[float | None, float | None]:
    """Return two values that a model masks as padding: that of its Embedding (0), and that of its Masking layer.

    A value is None if the model has no such layer, or the Embedding does not mask.
    """
    words, steps = None, None
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Embedding) and layer.mask_zero:
            words = 0.0
        elif isinstance(layer, keras.layers.Masking):
            steps = float(layer.mask_value)
    return words, steps


def _input_keys(model: keras.layers.Layer) -> tuple[str, ...]:
    """Return the keys of the dict of inputs that a functional model takes; an empty tuple if it takes no flat dict."""
    structure = getattr(model, "_inputs_struct", None)
    if not isinstance(structure, dict) or any(not isinstance(value, keras.KerasTensor) for value in structure.values()):
        return ()
    keys = {id(value): key for key, value in structure.items()}
    return tuple(keys[id(tensor)] for tensor in model.inputs)


def call_arguments(model: keras.layers.Layer) -> tuple[str, ...]:
    """Return the names of the positional arguments of a subclassed model's `call`; an empty tuple for other models."""
    if _inputs_of(model):
        return ()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [name for name, parameter in inspect.signature(model.call).parameters.items() if parameter.kind in kinds]
    return tuple(name for name in names if name != "training")
