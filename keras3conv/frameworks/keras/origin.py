"""Record the file that a live Keras model was read from: the software that saved it, and the original layer names."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import keras


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The file that a live model was read from.

    Attributes:
        writer: The software that saved it, with its version, such as "Keras 2.15.0".
        file: The name of the file.
        notes: A sentence on each change that the reader made, for plans and reports.
        renamed: The original names of the layers whose names Keras 3 does not allow, by their new names.
    """

    writer: str
    file: str
    notes: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)


_origins: "WeakKeyDictionary[keras.layers.Layer, Origin]" = WeakKeyDictionary()
_names: "WeakKeyDictionary[keras.layers.Layer, str]" = WeakKeyDictionary()


def set_origin(model: keras.layers.Layer, origin: Origin) -> None:
    """Record the file that a model was read from, for the lifetime of the model."""
    _origins[model] = origin


def origin_of(model: object) -> Origin | None:
    """Return the file that a model was read from; None for a model that was made by code."""
    return _origins.get(model) if isinstance(model, keras.layers.Layer) else None


def set_original_name(layer: keras.layers.Layer, name: str) -> None:
    """Record the name of a layer in the file that it was read from; plans and reports use this name."""
    _names[layer] = name


def original_name(layer: keras.layers.Layer) -> str:
    """Return the name of a layer in the file that it was read from, or its own name."""
    return _names.get(layer) or str(layer.name)


def notes_of(model: object) -> tuple[str, ...]:
    """Return notes, for plans and reports, on a model's file: the software that wrote it, and changes on reading."""
    origin = origin_of(model)
    if origin is None:
        return ()
    return (
        f"{origin.file} was saved by {origin.writer}, and is read with the meaning that it has there",
        *origin.notes,
    )
