"""Walk the layers and variables of a live Keras model by path, and locate its variables in a weight file."""

from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import keras

from keras3conv.errors import ModelError, Problem
from keras3conv.frameworks.keras.internals import saving_lib, unsaved_attributes
from keras3conv.frameworks.keras.observing import replaced
from keras3conv.messages import lay_out


def named_layers(model: keras.layers.Layer) -> Iterator[tuple[str, keras.layers.Layer]]:
    """Yield the model and each of its layers once, with its path: the names of its parents and its own, joined by "/".

    If layers of one parent have the same name, a number is added: "conv", "conv#2". A layer that was read from a Keras
    2 file keeps its name in the file.
    """
    seen: set[int] = set()

    def walk(path: str, layer: keras.layers.Layer) -> Iterator[tuple[str, keras.layers.Layer]]:
        seen.add(id(layer))
        yield path, layer
        names: dict[str, int] = {}
        for child in layer._flatten_layers(include_self=False, recursive=False):
            if id(child) in seen:
                continue
            name = _numbered(original_name(child), names)
            yield from walk(f"{path}/{name}" if path else name, child)

    yield from walk("", model)


def layers_of(model: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Return the model and each of its layers once, in no particular order; faster than `named_layers`."""
    found, pending = {id(model): model}, [model]
    while pending:
        for child in pending.pop()._flatten_layers(include_self=False, recursive=False):
            if id(child) not in found:
                found[id(child)] = child
                pending.append(child)
    return list(found.values())


def variables_of(layer: keras.layers.Layer) -> Iterator[tuple[str, keras.Variable]]:
    """Yield the name and the variable for each variable that a layer owns itself; a repeated name gets a number."""
    names: dict[str, int] = {}
    own = [*layer._trainable_variables, *layer._non_trainable_variables]
    if len(own) > 1:
        # Files have the trainable variables first, then the others, both in order of creation, as in `weights`.
        order = {id(variable): position for position, variable in enumerate(layer.weights)}
        own.sort(key=lambda variable: order.get(id(variable), len(order)))
    for variable in own:
        yield _numbered(variable.name, names), variable
    for generator in getattr(layer, "_seed_generators", ()):
        yield _numbered("seed_generator_state", names), generator.state


def _numbered(name: str, names: dict[str, int]) -> str:
    """Return a name, with a number from its second occurrence on: "conv", then "conv#2".

    Args:
        name: The name.
        names: The number of occurrences of each name so far; it is updated.
    """
    names[name] = names.get(name, 0) + 1
    return name if names[name] == 1 else f"{name}#{names[name]}"


def variables_by_path(model: keras.layers.Layer) -> dict[str, keras.Variable]:
    """Return the variables of a model by path, such as "outer/inner/kernel"."""
    return {
        f"{path}/{role}".lstrip("/"): variable
        for path, layer in named_layers(model)
        for role, variable in variables_of(layer)
    }


def owns_variables(layer: keras.layers.Layer) -> bool:
    """Return True if a layer itself, without its sublayers, has variables."""
    generators = getattr(layer, "_seed_generators", ())
    return bool(layer._trainable_variables or layer._non_trainable_variables or generators)


def is_built(model: keras.layers.Layer) -> bool:
    """Return True if a model is built or has variables.

    A single layer without variables does not make the result False, because a subclassed model may never call it.
    """
    return bool(model.built or model.variables)


def require_built(model: keras.layers.Layer) -> None:
    """Raise `ModelError` if a model was never built and so has no variables."""
    if not is_built(model):
        fact = f"{model.name} has no variables yet, because it was never called or built"
        problem = Problem(keras=model.name, fact=fact, fixes=("model(example_input)", "inputs=example_input"))
        raise ModelError(lay_out(f"{model.name} (keras) was never built", [problem]))


class _LocationStore(saving_lib.H5IOStore):  # type: ignore[misc]
    """A stand-in for the weight file in Keras' saving code: it records where each variable would be stored."""

    def __init__(self) -> None:
        self.locations: dict[int, str] = {}

    def make(self, path: str, metadata: Any = None) -> "_LocationEntry":
        return _LocationEntry(self.locations, path)

    def __bool__(self) -> bool:
        return True

    def close(self) -> None:
        """Do nothing, because this store opens no file."""


class _LocationEntry(dict[str, Any]):
    def __init__(self, layers: dict[int, str], path: str) -> None:
        super().__init__()
        self._found, self._path = layers, path

    def __setitem__(self, key: str, value: Any) -> None:
        self._found[id(value)] = f"{self._path}/vars/{key}" if self._path else f"vars/{key}"


def file_locations(model: keras.layers.Layer) -> dict[int, str]:
    """Return the location of each variable in a `.weights.h5` file, "layers/conv2d/vars/0", by the variable's id.

    Keras' own saving code runs with a store that only records. Some layers update their weights when they are saved; so
    that the model does not change, assignments have no effect meanwhile.
    """
    store = _LocationStore()
    no_assignment = (keras.Variable, "assign", lambda variable, value, *_, **__: value)
    with replaced([no_assignment, (saving_lib, "get_attr_skipset", unsaved_attributes)]):
        saving_lib._save_state(model, weights_store=store, assets_store=None, inner_path="", visited_saveables=set())
    return store.locations


_names: "WeakKeyDictionary[keras.layers.Layer, str]" = WeakKeyDictionary()


def set_original_name(layer: keras.layers.Layer, name: str) -> None:
    """Record the name of a layer in the file that it was read from; plans and reports use this name."""
    _names[layer] = name


def original_name(layer: keras.layers.Layer) -> str:
    """Return the name of a layer in the file that it was read from, or its own name."""
    return _names.get(layer) or str(layer.name)
