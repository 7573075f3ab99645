"""What a call of a Keras model leaves behind: the states of recurrent layers and of random generators."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras.src.backend.common import global_state
from keras.src.random.seed_generator import GLOBAL_SEED_GENERATOR

from keras3conv.frameworks.keras.tree import PLAIN, layers_of, named_layers, untracked
from keras3conv.frameworks.keras.values import to_numpy
from keras3conv.numerics.difference import same_bits


@contextmanager
def state_kept(model: keras.layers.Layer) -> Iterator[list[str]]:
    """Puts back, after a call, what it changed.

    Yields:
        A list that afterwards holds the paths of the variables that were changed.
    """
    before = [(variable, np.array(to_numpy(variable))) for variable in _states(model)]
    changed: list[str] = []
    try:
        with tensors_kept(model):
            yield changed
    finally:
        others = [(variable, old) for variable, old in before if not same_bits(to_numpy(variable), old)]
        if others:
            names = _names(model)
            for variable, old in others:
                variable.assign(old)
                changed.append(names[id(variable)])


@contextmanager
def tensors_kept(model: keras.layers.Layer) -> Iterator[None]:
    """Puts back the tensors that layers keep in attributes for their next call: those of this one have its dtype."""
    layers = [layer for layer in layers_of(model) if not type(layer).__module__.startswith("keras.src.layers.")]
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
    """The attributes that are tensors, of a layer that is somebody's own."""
    return {name: value for name, value in vars(layer).items() if type(value) not in PLAIN and _is_tensor(value)}


def _is_tensor(value: object) -> bool:
    return isinstance(value, keras.KerasTensor) or bool(keras.ops.is_tensor(value))


@contextmanager
def global_seed_kept() -> Iterator[None]:
    """Puts back the generator that Keras draws seeds from where a layer has none of its own, or that there is none."""
    generator = global_state.get_global_attribute(GLOBAL_SEED_GENERATOR)
    before = [] if generator is None else [(generator.state, np.array(to_numpy(generator.state)))]
    try:
        yield
    finally:
        for variable, old in before:
            if not same_bits(to_numpy(variable), old):
                variable.assign(old)
        if global_state.get_global_attribute(GLOBAL_SEED_GENERATOR) is not generator:
            global_state.set_global_attribute(GLOBAL_SEED_GENERATOR, generator)


def _states(model: keras.layers.Layer) -> list[keras.Variable]:
    """The variables that no optimiser changes, once each."""
    trained: set[int] = set()
    found: dict[int, keras.Variable] = {}
    for layer in layers_of(model):
        trained.update(map(id, layer._trainable_variables))
        for _, variable in _own(layer):
            found[id(variable)] = variable
    return [variable for place, variable in found.items() if place not in trained]


def _own(layer: keras.layers.Layer) -> list[tuple[str, keras.Variable]]:
    """What a layer has and no optimiser changes, with its names in the layer."""
    own = [(variable.name, variable) for variable in layer._non_trainable_variables]
    own += [("seed_generator_state", generator.state) for generator in getattr(layer, "_seed_generators", ())]
    return [*own, *untracked(layer)]


def _names(model: keras.layers.Layer) -> dict[int, str]:
    """The path of each of these variables, by its id."""
    names: dict[int, str] = {}
    for path, layer in named_layers(model):
        for name, variable in _own(layer):
            names.setdefault(id(variable), f"{path}/{name}" if path else name)
    return names
