"""Give notes on a live Keras model for reports: its file, and layers that its backend computes unlike the others."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import keras

from keras3conv.errors import Problem
from keras3conv.frameworks.keras.tree import STANDS_FOR_ITS_BASE, named_layers


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


def set_origin(model: keras.layers.Layer, origin: Origin) -> None:
    """Record the file that a model was read from, for the lifetime of the model."""
    _origins[model] = origin


def origin_of(model: object) -> Origin | None:
    """Return the file that a model was read from; None for a model that was made by code."""
    return _origins.get(model) if isinstance(model, keras.layers.Layer) else None


def notes_of(model: object) -> tuple[str, ...]:
    """Return notes, for plans and reports, on a model's file: the software that wrote it, and changes on reading."""
    origin = origin_of(model)
    if origin is None:
        return ()
    return (
        f"{origin.file} was saved by {origin.writer}, and is read with the meaning that it has there",
        *origin.notes,
    )


_AVERAGES = (keras.layers.AveragePooling1D, keras.layers.AveragePooling2D, keras.layers.AveragePooling3D)
_RESIZES = (keras.layers.UpSampling2D, keras.layers.Resizing)


def deviations(model: keras.layers.Layer) -> Iterator[Problem]:
    """Yield a problem for each layer that the current backend computes differently from TensorFlow.

    These are layers on the torch backend. In an average pooling with padding="same", along each axis with more padding
    at its end than at its start, Keras repeats the last value there, and counts it; TensorFlow and JAX leave the
    padding out of the average. A window of two values has the same average either way. A bicubic resize without
    antialiasing has another kernel in torch.
    """
    if keras.backend.backend() != "torch":
        return
    for path, layer in named_layers(model):
        if hasattr(layer, STANDS_FOR_ITS_BASE):  # the reader of Keras 2 files made this layer, which computes as there
            continue
        if isinstance(layer, _AVERAGES) and layer.padding == "same" and _is_padded_unevenly(layer):
            fact = 'Keras\' torch backend repeats the last value for padding="same", and counts it in the average'
            yield Problem(keras=path, fact=f"{fact}; TensorFlow and JAX leave the padding out, as Keras 2 does")
        is_bicubic = isinstance(layer, _RESIZES) and layer.interpolation == "bicubic"
        if is_bicubic and not getattr(layer, "antialias", False):
            fact = (
                "Keras' torch backend resizes with torch's cubic kernel (-0.75); TensorFlow and JAX, as Keras 2, have"
            )
            yield Problem(keras=path, fact=f"{fact} another one (-0.5)")


def deviation_notes(model: keras.layers.Layer) -> tuple[str, ...]:
    """Return a note for a report for each layer that the current backend computes differently from the others."""
    return tuple(
        f"{problem.keras}: {problem.fact}; KERAS_BACKEND=jax compares with JAX" for problem in deviations(model)
    )


def _is_padded_unevenly(layer: Any) -> bool:
    """Return whether a pooling pads an axis more at its end than at its start, or may do so for a dynamic size."""
    for node in layer._inbound_nodes:
        shape = node.input_tensors[0].shape
        sizes = shape[1:-1] if layer.data_format == "channels_last" else shape[2:]
        for size, window, stride in zip(sizes, layer.pool_size, layer.strides, strict=True):
            if window > 2 and size is None and (stride > 1 or window % 2 == 0):
                return True
            if window > 2 and size is not None and max((-(-size // stride) - 1) * stride + window - size, 0) % 2:
                return True
    return False
