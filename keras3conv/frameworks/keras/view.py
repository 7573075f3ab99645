"""View a Keras model as a `ModelView`: the classes, configurations, variables and inputs of its layers."""

import inspect
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import keras

from keras3conv.errors import ModelError, Problem
from keras3conv.frameworks.keras.internals import public_name, saving_lib
from keras3conv.frameworks.keras.observing import replaced
from keras3conv.frameworks.keras.tree import join, named_layers, owns_variables, variables_by_path, variables_of
from keras3conv.frameworks.keras.values import backend, to_numpy
from keras3conv.frameworks.shared.recording import plain
from keras3conv.messages import lay_out
from keras3conv.model.views import InputSpec, LayerView, ModelView, TensorRef
from keras3conv.transforms import Array


def view(model: keras.layers.Layer, *, described: bool = True) -> ModelView:
    """Return a view of a model: named variables, grouped by the layer that owns them.

    The path of a layer is "outer/inner", the path of a variable "outer/inner/kernel". A layer that is used twice
    appears once.

    Args:
        model: The model.
        described: Whether to include the configurations of the layers, the layers without variables, and the locations
            of the variables in a weight file. Keras takes longer for these than for a run on a small input.

    Raises:
        ModelError: The model was never called, so a layer has no variables yet.
    """
    require_built(model)
    locations = _file_locations(model) if described else {}
    attributes = _attribute_names(model) if described else {}
    layers = tuple(
        LayerView(
            path=path,
            kinds=kinds_of(layer),
            config=config_of(layer) if described else None,
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
        facts={"format": f"live Keras model on the {backend()} backend"},
    )


def _tensor_ref(path: str, role: str, variable: keras.Variable, locations: Mapping[int, str]) -> TensorRef:
    return TensorRef(
        path=join(path, role),
        role=role,
        shape=tuple(variable.shape),
        dtype=variable.dtype,
        trainable=bool(variable.trainable),
        storage=str(id(variable)),
        location=locations.get(id(variable), ""),
    )


def is_built(model: keras.layers.Layer) -> bool:
    """Return whether a model has variables.

    A subclassed model may hold layers that it never calls; only a model without any variable is surely not built.
    """
    return bool(model.built or model.variables)


def require_built(model: keras.layers.Layer) -> None:
    """Raise `ModelError` if a model was never built and so has no variables."""
    if not is_built(model):
        fact = f"{model.name} has no variables yet"
        problem = Problem(keras=model.name, fact=fact, fixes=("model(example_input)", "inputs=example_input"))
        raise ModelError(lay_out(f"{model.name} (keras) was never built", [problem]))


def kinds_of(layer: keras.layers.Layer) -> tuple[str, ...]:
    """Return the class names of a layer, the most derived first; for an `Activation` first the name of its function."""
    cls: type = type(layer)
    if isinstance(layer, keras.layers.Activation):
        return f"keras.activations.{getattr(layer.activation, '__name__', '')}", *_kinds(cls)
    return _kinds(cls)


@lru_cache(maxsize=1024)
def _kinds(cls: type) -> tuple[str, ...]:
    kinds = (class_name(base) for base in cls.__mro__ if issubclass(base, keras.layers.Layer))
    return tuple(kind for kind in kinds if kind != "keras.layers.Layer")


@lru_cache(maxsize=1024)
def class_name(cls: type) -> str:
    """Return the name under which Keras exports a class; it may differ from the name in the class statement."""
    return public_name(cls)


_SERIALIZED = ("activation", "layer", "backward_layer", "cell")
"""Settings that rules read although they are not plain values: an activation, and the layers inside a wrapper."""


def config_of(layer: keras.layers.Layer) -> dict[str, Any] | None:
    """Return the settings of a layer that rules can read; None for a custom layer that cannot list its settings."""
    try:
        config = layer.get_config()
    except (NotImplementedError, AttributeError, TypeError):  # the class of a user, with no or a partial `get_config`
        return None
    return {
        name: value
        for name, value in config.items()
        if plain(value) or name in _SERIALIZED or _is_custom_activation(name, value)
    }


def _is_custom_activation(name: str, value: Any) -> bool:
    """Return whether a setting is a user's activation function: it must not be mistaken for the default."""
    return name.endswith("activation") and isinstance(value, dict)


def _attribute_names(model: keras.layers.Layer) -> dict[int, str]:
    """Return the attribute of its parent that holds each layer, by id: "forward_layer", "cell", "cells.0"."""
    found: dict[int, str] = {}
    for _, parent in named_layers(model):
        # On the torch backend a layer is a torch module, which keeps its submodules apart from its other attributes.
        for name, value in (vars(parent) | vars(parent).get("_modules", {})).items():
            items = enumerate(value) if isinstance(value, list | tuple) else [(None, value)]
            for position, item in items:
                if isinstance(item, keras.layers.Layer) and name not in ("_layers", "_operations"):
                    attribute = name.lstrip("_") if position is None else f"{name.lstrip('_')}.{position}"
                    found.setdefault(id(item), attribute)
    return found


class _LocationStore(saving_lib.H5IOStore):  # type: ignore[misc]
    """Record where Keras would write each variable in a weight file, and write nothing."""

    def __init__(self) -> None:
        self.found: dict[int, str] = {}

    def make(self, path: str, metadata: Any = None) -> "_LocationEntry":
        return _LocationEntry(self.found, path)

    def __bool__(self) -> bool:
        return True

    def close(self) -> None:
        """Do nothing: no file is open."""


class _LocationEntry(dict[str, Any]):
    def __init__(self, found: dict[int, str], path: str) -> None:
        super().__init__()
        self._found, self._path = found, path

    def __setitem__(self, key: str, value: Any) -> None:
        self._found[id(value)] = f"{self._path}/vars/{key}" if self._path else f"vars/{key}"


def _file_locations(model: keras.layers.Layer) -> dict[int, str]:
    """Return where a `.weights.h5` file of a model has each variable, by id of the variable: "layers/conv2d/vars/0".

    Keras itself walks the model as it does when it saves. Some layers then update their weights; viewing a model must
    not change it, so assignments have no effect meanwhile.
    """
    store = _LocationStore()
    with replaced([(keras.Variable, "assign", lambda variable, value, *_, **__: value)]):
        saving_lib._save_state(model, weights_store=store, assets_store=None, inner_path="", visited_saveables=set())
    return store.found


def input_specs(model: keras.layers.Layer) -> tuple[InputSpec, ...]:
    """Return the input specifications of a functional or sequential model; nothing for a subclassed model."""
    tensors = keras.tree.flatten(getattr(model, "inputs", None) or [])
    keys = _input_keys(model) or ("",) * len(tensors)
    return tuple(
        InputSpec(shape=tuple(tensor.shape), dtype=str(tensor.dtype), name=str(tensor.name), key=key)
        for tensor, key in zip(tensors, keys, strict=True)
    )


def _input_keys(model: keras.layers.Layer) -> tuple[str, ...]:
    """Return the keys of the inputs of a functional model that takes a plain dict, in the order of its inputs."""
    structure = getattr(model, "_inputs_struct", None)
    if not isinstance(structure, dict) or any(not isinstance(value, keras.KerasTensor) for value in structure.values()):
        return ()
    keys = {id(value): key for key, value in structure.items()}
    return tuple(keys[id(tensor)] for tensor in model.inputs)


def call_arguments(model: keras.layers.Layer) -> tuple[str, ...]:
    """Return the names of the positional arguments of a subclassed model's `call`; empty for other models."""
    if input_specs(model):
        return ()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = [name for name, parameter in inspect.signature(model.call).parameters.items() if parameter.kind in kinds]
    return tuple(name for name in found if name != "training")


__all__ = [
    "call_arguments",
    "class_name",
    "config_of",
    "input_specs",
    "is_built",
    "kinds_of",
    "require_built",
    "view",
]
