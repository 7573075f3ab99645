"""Restore the state of a Keras model after a run: recurrent states, statistics, seeds, and tensors in attributes."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import keras
import numpy as np

from keras3conv.frameworks.keras.internals import GLOBAL_SEED_GENERATOR, LAYER_MODULES, global_state
from keras3conv.frameworks.keras.tree import layers_of, named_layers
from keras3conv.frameworks.keras.values import to_numpy
from keras3conv.frameworks.shared.inputs import flatten
from keras3conv.numerics.difference import same_bits

PLAIN: frozenset[type] = frozenset({int, float, bool, str, type(None)})
"""The types of plain values, such as sizes and names, which are most attributes of a layer and items of its lists."""

_MAY_HOLD_VARIABLES = (list, tuple, dict, keras.Variable)


def untracked_variables(layer: keras.layers.Layer) -> Iterator[tuple[str, keras.Variable]]:
    """Yield name and variable for the variables in attributes that Keras does not track, such as "states.0"."""
    # Every run calls this for every layer, so the cheap checks come first. Most attributes are private or plain.
    cls: type = type(layer)
    if _is_stateless(cls):
        return
    held = [(name, value) for name, value in vars(layer).items() if name[:1] != "_" and type(value) not in PLAIN]
    held = [(name, value) for name, value in held if isinstance(value, _MAY_HOLD_VARIABLES) and not _is_plain(value)]
    found = [entry for name, value in held for entry in flatten(value, _is_variable, name)]
    if found:
        tracked = {id(variable) for variable in (*layer._trainable_variables, *layer._non_trainable_variables)}
        yield from (entry for entry in found if id(entry[1]) not in tracked)


@lru_cache(maxsize=1024)
def _is_stateless(cls: type) -> bool:
    """Return True for a Keras class without a method `reset_state`, whose layers keep no state between calls."""
    return cls.__module__.startswith(LAYER_MODULES) and not hasattr(cls, "reset_state")


def _is_plain(value: object) -> bool:
    return isinstance(value, list | tuple) and PLAIN.issuperset(map(type, value))


def _is_variable(value: Any) -> bool:
    return isinstance(value, keras.Variable)


@contextmanager
def global_seed_kept() -> Iterator[None]:
    """Restore Keras' global seed generator when the `with` block ends, or remove it if it is new.

    Layers that were created without a seed generator draw their numbers from the global one.
    """
    generator = global_state.get_global_attribute(GLOBAL_SEED_GENERATOR)
    before = None if generator is None else np.array(to_numpy(generator.state))
    try:
        yield
    finally:
        if before is not None and not same_bits(to_numpy(generator.state), before):
            generator.state.assign(before)
        if global_state.get_global_attribute(GLOBAL_SEED_GENERATOR) is not generator:
            global_state.set_global_attribute(GLOBAL_SEED_GENERATOR, generator)


@contextmanager
def state_kept(model: keras.layers.Layer) -> Iterator[list[str]]:
    """Restore a model's state when the `with` block ends: variables that no optimizer changes, tensors in attributes.

    Recurrent layers that keep their state between calls (`stateful=True`) begin the `with` block with a state of zeros,
    as torch's layers begin every call.

    Yields:
        A list that then holds the paths of the variables that the `with` block changed.
    """
    before = [(variable, np.array(to_numpy(variable))) for variable in _states(model)]
    changed: list[str] = []
    try:
        _reset_recurrent_states(model)
        with tensors_kept(model):
            yield changed
    finally:
        others = [(variable, old) for variable, old in before if not same_bits(to_numpy(variable), old)]
        if others:
            names = _names(model)
            for variable, old in others:
                variable.assign(old)
                changed.append(names[id(variable)])


def _reset_recurrent_states(model: keras.layers.Layer) -> None:
    for layer in layers_of(model):
        if isinstance(layer, keras.layers.RNN) and layer.stateful:
            for _, state in flatten(layer.states, _is_variable):
                state.assign(keras.ops.zeros(state.shape, state.dtype))


@contextmanager
def tensors_kept(model: keras.layers.Layer) -> Iterator[None]:
    """Restore the tensors in attributes of layers when the `with` block ends.

    A layer may store a tensor for its next call. A float64 run would leave float64 tensors there.
    """
    layers = [layer for layer in layers_of(model) if not type(layer).__module__.startswith(LAYER_MODULES)]
    before = [(vars(layer), _tensors(layer)) for layer in layers]
    try:
        yield
    finally:
        for (attributes, old), layer in zip(before, layers, strict=True):
            for name, value in _tensors(layer).items():
                if old.get(name) is not value:
                    attributes.pop(name)
            attributes.update(old)


def _tensors(layer: keras.layers.Layer) -> dict[str, Any]:
    """Return the tensors in the attributes of a custom layer, by the name of the attribute."""
    return {name: value for name, value in vars(layer).items() if type(value) not in PLAIN and _is_tensor(value)}


def _is_tensor(value: object) -> bool:
    return isinstance(value, keras.KerasTensor) or bool(keras.ops.is_tensor(value))


def _states(model: keras.layers.Layer) -> list[keras.Variable]:
    """Return the variables of a model that no optimizer changes, each once."""
    trained: set[int] = set()
    found: dict[int, keras.Variable] = {}
    for layer in layers_of(model):
        trained.update(map(id, layer._trainable_variables))
        for _, variable in _state_variables(layer):
            found[id(variable)] = variable
    return [variable for key, variable in found.items() if key not in trained]


def _state_variables(layer: keras.layers.Layer) -> list[tuple[str, keras.Variable]]:
    """Return the variables of a layer that no optimizer changes, with their names in the layer."""
    own = [(variable.name, variable) for variable in layer._non_trainable_variables]
    own += [("seed_generator_state", generator.state) for generator in getattr(layer, "_seed_generators", ())]
    return [*own, *untracked_variables(layer)]


def _names(model: keras.layers.Layer) -> dict[int, str]:
    """Return the path of each variable that no optimizer changes, by the id of the variable."""
    names: dict[int, str] = {}
    for path, layer in named_layers(model):
        for name, variable in _state_variables(layer):
            names.setdefault(id(variable), f"{path}/{name}".lstrip("/"))
    return names
