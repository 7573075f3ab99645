"""The classes and functions of somebody's own that a Keras model is made of, and how another process comes by them.

A `.keras` file names them, and Keras makes nothing of a name that nobody registered in its process. Here the model is
alive, so it is known which module each of them was imported from: the other process imports the same.
"""

import importlib
import json
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras

from keras3conv.frameworks.keras_tree import layers_of

Place = tuple[str, str]
"""A module, and the name of something in it."""


def places(model: keras.layers.Layer, saved: Path) -> tuple[dict[str, Place], dict[str, str]]:
    """Where another process finds what a file names and Keras does not have.

    Args:
        model: The model.
        saved: The `.keras` file that was made of it.

    Returns:
        For each name in the file the place that it can be imported from; and what has none, with the reason.
    """
    alive = dict(_alive(model))
    found: dict[str, Place] = {}
    hidden: dict[str, str] = {}
    for name in sorted(_names(saved) & alive.keys()):
        module = alive[name].__module__
        if "<locals>" in alive[name].__qualname__:
            hidden[name] = f"{name} is defined inside of a function"
        elif module == "__main__":
            hidden[name] = f"{name} is defined in the program itself (__main__)"
        elif getattr(sys.modules.get(module), name, None) is not alive[name]:
            hidden[name] = f"{module} has no {name} at its top level"
        else:
            found[name] = module, name
    return found, hidden


def imported(found: Mapping[str, Iterable[str]]) -> dict[str, Any]:
    """What stands in these places, by name, as Keras takes its custom objects.

    Raises:
        ImportError: A module, or the name in it, is not there.
    """
    objects = {}
    for name, (module, attribute) in found.items():
        try:
            objects[name] = getattr(importlib.import_module(module), attribute)
        except AttributeError as error:
            raise ImportError(f"{module} has no {attribute}") from error
    return objects


def _alive(model: keras.layers.Layer) -> Iterator[tuple[str, Any]]:
    """The classes of the layers, and the functions and objects with a configuration in their attributes, by name."""
    for layer in layers_of(model):
        for value in (layer, *vars(layer).values()):
            part = value if _is_function(value) else type(value)
            if (part is value or hasattr(value, "get_config")) and not _is_of_keras(part.__module__):
                yield part.__name__, part


def _is_function(value: object) -> bool:
    return callable(value) and hasattr(value, "__qualname__") and not isinstance(value, type)


def _is_of_keras(module: str | None) -> bool:
    return module is None or module == "keras" or module.startswith(("keras.", "keras3conv."))


def _names(saved: Path) -> set[str]:
    """The names of the classes and functions in a file that are not Keras' own."""
    with zipfile.ZipFile(saved) as archive:
        return set(_names_in(json.loads(archive.read("config.json"))))


def _names_in(config: object) -> Iterator[str]:
    if isinstance(config, dict):
        name, inner = config.get("class_name"), config.get("config")
        if name == "function" and isinstance(inner, str):
            yield inner
        elif isinstance(name, str) and not str(config.get("module")).startswith("keras"):
            yield name
        for value in config.values():
            yield from _names_in(value)
    elif isinstance(config, list):
        for value in config:
            yield from _names_in(value)


__all__ = ["Place", "imported", "places"]
