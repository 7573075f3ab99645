"""Name the layers of a subclassed Keras model by the attributes that hold them, as its code does: "encoder/project"."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from keras3conv.frameworks.keras.internals import to_snake_case
from keras3conv.frameworks.keras.tree import named_layers


def attribute_paths(model: keras.layers.Layer) -> dict[str, str]:
    """Return a dict from layer path to the path by attribute names: {"encoder/dense_3": "encoder/project"}.

    It has the layers whose names Keras generated, and the layers inside them. A name that the user chose is kept.
    """
    paths = {id(layer): path for path, layer in named_layers(model)}
    found: dict[str, str] = {}
    for path, layer in named_layers(model):  # parents come before their children
        here = _renamed(path, found)
        if here != path:
            found[path] = here
        for name, child in _held(layer):
            inside = paths.get(id(child), "")
            if inside and inside not in found and _is_made_up(child):
                found[inside] = f"{here}/{name}" if here else name
    return found


def _renamed(path: str, new_paths: Mapping[str, str]) -> str:
    """Return a path with its longest known prefix replaced: "encoder/dense_3" gives "encoder/project".

    Args:
        path: The path of a layer.
        new_paths: New paths of layers, by their old paths: {"encoder/dense_3": "encoder/project"}.
    """
    if path in new_paths:
        return new_paths[path]
    known = max((start for start in new_paths if path.startswith(f"{start}/")), key=len, default=None)
    return path if known is None else new_paths[known] + path[len(known) :]


def _held(layer: keras.layers.Layer) -> Iterator[tuple[str, Any]]:
    """Yield the layers in the attributes of a layer of a user's class, each after the name of the attribute."""
    if type(layer).__module__.startswith("keras."):
        return
    attributes = vars(layer)
    for name, value in [*attributes.items(), *attributes.get("_modules", {}).items()]:  # torch keeps modules apart
        if not name.startswith("_"):
            yield from _layers_in(name, value)


def _layers_in(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, keras.layers.Layer):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _layers_in(f"{name}_{key}", item)
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            yield from _layers_in(f"{name}_{place}", item)


def _is_made_up(layer: keras.layers.Layer) -> bool:
    """Return whether Keras generated the name of a layer, from its class name and a number, as in "dense_3"."""
    start = to_snake_case(type(layer).__name__)
    return re.fullmatch(rf"{re.escape(start)}(_[0-9]+)?", layer.name) is not None
