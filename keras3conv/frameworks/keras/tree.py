"""The tree of layers of a Keras model: what each is called, what each owns, where a weight file keeps it."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import keras
from keras.src.saving import saving_lib

from keras3conv.frameworks.keras.origin import original_name
from keras3conv.frameworks.shared.recording import flatten


def named_layers(model: keras.layers.Layer) -> Iterator[tuple[str, keras.layers.Layer]]:
    """The model and every layer in it, once each, with the names on the way to it joined by "/".

    Two layers of one parent with the same name are told apart by their place: "conv", "conv#2". A layer that was read
    from an old file has the name that it has there.
    """
    seen: set[int] = set()

    def walk(path: str, layer: keras.layers.Layer) -> Iterator[tuple[str, keras.layers.Layer]]:
        seen.add(id(layer))
        yield path, layer
        names: dict[str, int] = {}
        for child in layer._flatten_layers(include_self=False, recursive=False):
            if id(child) in seen:
                continue
            called = original_name(child)
            names[called] = names.get(called, 0) + 1
            name = called if names[called] == 1 else f"{called}#{names[called]}"
            yield from walk(f"{path}/{name}" if path else name, child)

    yield from walk("", model)


def layers_of(model: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The model and every layer in it, once each, without their names: in no order that means anything."""
    found, open_ones = {id(model): model}, [model]
    while open_ones:
        for child in open_ones.pop()._flatten_layers(include_self=False, recursive=False):
            if id(child) not in found:
                found[id(child)] = child
                open_ones.append(child)
    return list(found.values())


def attributes(model: keras.layers.Layer) -> dict[int, str]:
    """What each layer is called by the one that it is part of, by its id: "forward_layer", "cell", "cells.0"."""
    found: dict[int, str] = {}
    for _, parent in named_layers(model):
        # On the torch backend a layer is a torch module, which keeps the modules in it apart from its other attributes.
        for name, value in (vars(parent) | vars(parent).get("_modules", {})).items():
            items = enumerate(value) if isinstance(value, list | tuple) else [(None, value)]
            for place, item in items:
                if isinstance(item, keras.layers.Layer) and name not in ("_layers", "_operations"):
                    called = name.lstrip("_") if place is None else f"{name.lstrip('_')}.{place}"
                    found.setdefault(id(item), called)
    return found


def variables_of(layer: keras.layers.Layer) -> Iterator[tuple[str, keras.Variable]]:
    """The variables that are a layer's own, with their roles; two of one name are told apart by their place."""
    names: dict[str, int] = {}
    own = [*layer._trainable_variables, *layer._non_trainable_variables]
    for variable in sorted(own, key=_creation(layer)) if len(own) > 1 else own:
        names[variable.name] = names.get(variable.name, 0) + 1
        yield variable.name if names[variable.name] == 1 else f"{variable.name}#{names[variable.name]}", variable
    for index, generator in enumerate(getattr(layer, "_seed_generators", ())):
        yield "seed_generator_state" if index == 0 else f"seed_generator_state#{index + 1}", generator.state


def owns_variables(layer: keras.layers.Layer) -> bool:
    """Whether `variables_of` names any."""
    generators = getattr(layer, "_seed_generators", ())
    return bool(layer._trainable_variables or layer._non_trainable_variables or generators)


_HOLDERS = (list, tuple, dict, keras.Variable)
"""What a variable may be in, and a variable."""

PLAIN: frozenset[type] = frozenset({int, float, bool, str, type(None)})
"""What most attributes of a layer are, and what most lists in them are of: sizes, strides, names."""


def untracked(layer: keras.layers.Layer) -> Iterator[tuple[str, keras.Variable]]:
    """The variables in a layer's attributes that Keras lists nowhere: the state of a recurrent layer, "states.0"."""
    # Every run asks this of every layer: what is told soonest comes first. Most attributes are private or plain.
    cls: type = type(layer)
    if _is_stateless(cls):
        return
    held = [(name, value) for name, value in vars(layer).items() if name[:1] != "_" and type(value) not in PLAIN]
    held = [(name, value) for name, value in held if isinstance(value, _HOLDERS) and not _is_plain(value)]
    found = [entry for name, value in held for entry in flatten(value, _is_variable, name)]
    if found:
        known = {id(variable) for variable in (*layer._trainable_variables, *layer._non_trainable_variables)}
        yield from (entry for entry in found if id(entry[1]) not in known)


@lru_cache(maxsize=1024)
def _is_stateless(cls: type) -> bool:
    """Whether this is a class of Keras' own that keeps nothing between calls: it has nothing that could be reset."""
    return cls.__module__.startswith("keras.src.layers.") and not hasattr(cls, "reset_state")


def _is_plain(value: object) -> bool:
    return isinstance(value, list | tuple) and PLAIN.issuperset(map(type, value))


def _is_variable(value: object) -> bool:
    return isinstance(value, keras.Variable)


def _creation(layer: keras.layers.Layer) -> Any:
    """The order in which a layer stores its variables: trainable ones first, each kind in creation order."""
    order = {id(variable): place for place, variable in enumerate(layer.weights)}
    return lambda variable: order.get(id(variable), len(order))


class _Locations(saving_lib.H5IOStore):  # type: ignore[misc]
    """Stands where Keras would write a weight file, and notes where it puts each variable. Nothing is written."""

    def __init__(self) -> None:
        self.found: dict[int, str] = {}

    def make(self, path: str, metadata: Any = None) -> "_Entry":
        return _Entry(self.found, path)

    def __bool__(self) -> bool:
        return True

    def close(self) -> None:
        """There is nothing to close."""


class _Entry(dict[str, Any]):
    def __init__(self, found: dict[int, str], path: str) -> None:
        super().__init__()
        self._found, self._path = found, path

    def __setitem__(self, key: str, value: Any) -> None:
        self._found[id(value)] = f"{self._path}/vars/{key}" if self._path else f"vars/{key}"


def locations(model: keras.layers.Layer) -> dict[int, str]:
    """Where a `.weights.h5` of this model keeps each variable, by the variable's id: "layers/conv2d/vars/0".

    Keras itself is asked: it walks the model as it does when it saves. A layer that brings its weights up to date for
    that is not let: to look at a model must not change it.
    """
    store = _Locations()
    with _without_assignments():
        saving_lib._save_state(model, weights_store=store, assets_store=None, inner_path="", visited_saveables=set())
    return store.found


@contextmanager
def _without_assignments() -> Iterator[None]:
    """Whoever assigns to a variable changes nothing, for a while."""
    own = vars(keras.Variable).get("assign")
    keras.Variable.assign = lambda variable, value, *_, **__: value
    try:
        yield
    finally:
        if own is None:  # inherited
            del keras.Variable.assign
        else:
            keras.Variable.assign = own
