"""Walk a Keras model: its layers with their paths, and the variables of each layer."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import keras

from keras3conv.frameworks.keras.internals import is_keras_layer_class
from keras3conv.frameworks.shared.recording import flatten


def named_layers(model: keras.layers.Layer) -> Iterator[tuple[str, keras.layers.Layer]]:
    """Yield the model and every layer in it once, with its path: the names of its parents and its own, joined by "/".

    Layers of one parent with the same name get a number: "conv", "conv#2".
    """
    seen: set[int] = set()

    def walk(path: str, layer: keras.layers.Layer) -> Iterator[tuple[str, keras.layers.Layer]]:
        seen.add(id(layer))
        yield path, layer
        names: dict[str, int] = {}
        for child in layer._flatten_layers(include_self=False, recursive=False):
            if id(child) in seen:
                continue
            name = _numbered(child.name, names)
            yield from walk(f"{path}/{name}" if path else name, child)

    yield from walk("", model)


def layers_of(model: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Return the model and every layer in it once, in no particular order; cheaper than `named_layers`."""
    found, pending = {id(model): model}, [model]
    while pending:
        for child in pending.pop()._flatten_layers(include_self=False, recursive=False):
            if id(child) not in found:
                found[id(child)] = child
                pending.append(child)
    return list(found.values())


def variables_of(layer: keras.layers.Layer) -> Iterator[tuple[str, keras.Variable]]:
    """Yield the variables of a layer, without those of its sublayers, by role; a repeated name gets a number."""
    names: dict[str, int] = {}
    own = [*layer._trainable_variables, *layer._non_trainable_variables]
    if len(own) > 1:
        # Keras stores the trainable variables first, each kind in order of creation; `weights` has that order.
        order = {id(variable): position for position, variable in enumerate(layer.weights)}
        own.sort(key=lambda variable: order.get(id(variable), len(order)))
    for variable in own:
        yield _numbered(variable.name, names), variable
    for generator in getattr(layer, "_seed_generators", ()):
        yield _numbered("seed_generator_state", names), generator.state


def _numbered(name: str, names: dict[str, int]) -> str:
    """Return a name, with a number from its second occurrence on; `names` counts the occurrences."""
    names[name] = names.get(name, 0) + 1
    return name if names[name] == 1 else f"{name}#{names[name]}"


def variables_by_path(model: keras.layers.Layer) -> dict[str, keras.Variable]:
    """Return the variables of a model by path: "outer/inner/kernel"."""
    return {join(path, role): variable for path, layer in named_layers(model) for role, variable in variables_of(layer)}


def join(path: str, name: str) -> str:
    """Return the path of something inside a layer; the model itself has the empty path."""
    return f"{path}/{name}" if path else name


def owns_variables(layer: keras.layers.Layer) -> bool:
    """Return whether `variables_of` yields any variable."""
    generators = getattr(layer, "_seed_generators", ())
    return bool(layer._trainable_variables or layer._non_trainable_variables or generators)


PLAIN: frozenset[type] = frozenset({int, float, bool, str, type(None)})
"""The types of most attributes of a layer, and of most items of its lists: sizes, strides, names."""

_MAY_HOLD_VARIABLES = (list, tuple, dict, keras.Variable)


def untracked_variables(layer: keras.layers.Layer) -> Iterator[tuple[str, keras.Variable]]:
    """Yield the variables in attributes of a layer that Keras does not track, such as recurrent states: "states.0"."""
    # Every run asks this for every layer, so the cheap checks come first. Most attributes are private or plain.
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
    """Return whether a class is one of Keras' layers that keep no state between calls: they have no `reset_state`."""
    return is_keras_layer_class(cls) and not hasattr(cls, "reset_state")


def _is_plain(value: object) -> bool:
    return isinstance(value, list | tuple) and PLAIN.issuperset(map(type, value))


def _is_variable(value: Any) -> bool:
    return isinstance(value, keras.Variable)


__all__ = [
    "PLAIN",
    "join",
    "layers_of",
    "named_layers",
    "owns_variables",
    "untracked_variables",
    "variables_by_path",
    "variables_of",
]
