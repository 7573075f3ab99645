"""Define the adapter of a live Keras model, with notes for reports on its file and on its backend."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import keras

from keras3conv import formats
from keras3conv.errors import InputError, Problem
from keras3conv.frameworks.keras.model import run
from keras3conv.frameworks.keras.tree import is_built, named_layers, variables_by_path
from keras3conv.frameworks.keras.values import backend, to_numpy
from keras3conv.frameworks.keras.view import STANDS_FOR_ITS_BASE, call_arguments, view
from keras3conv.frameworks.keras.writing import arrange_kernels, undone_on_failure, write
from keras3conv.frameworks.shared.inputs_given import derive
from keras3conv.frameworks.shared.recording import Recording
from keras3conv.model.views import ModelView, Side
from keras3conv.transforms import Array


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


_AVERAGES = (keras.layers.AveragePooling1D, keras.layers.AveragePooling2D, keras.layers.AveragePooling3D)
_RESIZES = (keras.layers.UpSampling2D, keras.layers.Resizing)


def deviations(model: keras.layers.Layer) -> Iterator[Problem]:
    """Yield a problem for each layer that the current backend computes differently from TensorFlow.

    These are layers on the torch backend. In an average pooling with padding="same", along each axis with more padding
    at its end than at its start, Keras repeats the last value there, and counts it; TensorFlow and JAX leave the
    padding out of the average. A window of two values has the same average either way. A bicubic resize without
    antialiasing has another kernel in torch.
    """
    if backend() != "torch":
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


@dataclass(frozen=True)
class KerasModel:
    """The adapter of a live Keras model: the interface `frameworks.adapter.LiveModel` for Keras."""

    source: keras.layers.Layer
    side: ClassVar[Side] = "keras"
    is_live: ClassVar[bool] = True

    def view(self, *, described: bool = True, planned: ModelView | None = None) -> ModelView:
        """Return the view of the model: its layers and variables by name; with `described`, also configurations."""
        return view(self.source, described=described)

    def run(self, inputs: object, *, watch: bool = True) -> Recording:
        """Run the model once and record its outputs and, with `watch`, the calls of its layers."""
        return run(self.source, inputs, watch=watch)

    def write(
        self,
        values: Iterable[tuple[str, Array]],
        *,
        planned: ModelView | None = None,
        finite: set[str] | None = None,
    ) -> None:
        """Write values into variables; if one cannot be written, all keep their old values. `planned` is ignored.

        Args:
            values: The path and the new value of each variable.
            planned: The torch tensors in the plan.
            finite: A set; the path of each variable whose new value has no NaN and no infinity is added to it.
        """
        write(self.source, values, finite)

    def torch_tensors(self) -> dict[str, Any]:
        """Return the torch tensors of the variables by path; raise `InputError` on another backend."""
        if backend() != "torch":
            raise InputError(
                f'memory="share" needs Keras on the torch backend: {backend()} cannot use the memory of a torch tensor '
                'safely\nFix:  memory="copy"     or     KERAS_BACKEND=torch'
            )
        return {path: variable._value for path, variable in variables_by_path(self.source).items()}

    @contextmanager
    def restored_on_failure(self, paths: tuple[str, ...]) -> Iterator[None]:
        """Restore the values of some variables if the body of the `with` statement raises."""
        variables = variables_by_path(self.source)
        with undone_on_failure(self.source, variables) as backup:
            for path in paths:
                backup.keep(path, to_numpy(variables[path]))
            yield

    def output(self, path: Path, *, max_shard_size: int | None = None) -> formats.Output:
        """Return the description of the files to which the model will be saved; nothing is written yet.

        The files have the weights alone if the suffix is `.weights.h5` or `.weights.json`.

        Args:
            path: The file to write; its suffix selects the format.
            max_shard_size: The largest size of a file in bytes; a larger model is divided among several files.
        """
        from keras3conv.frameworks.keras.files import SavedByKeras

        if max_shard_size is None and not path.name.lower().endswith(".weights.json"):
            return SavedByKeras(self.source, path)
        view = self.view()
        return formats.Destination.of(path, tuple(view.tensors()), view.read, max_shard_size=max_shard_size)

    def load_weights(self, path: Path, *, entry: str = "") -> None:
        """Load the weights in a Keras file into the model; `entry` is ignored, as only a torch file has entries."""
        from keras3conv.frameworks.keras.files import load_weights

        load_weights(self.source, path)
        arrange_kernels(self.source)

    def build(self, arrays: Mapping[str, Array], keras_inputs: object) -> None:
        """Call the model if it was never called, so that Keras creates its variables.

        Args:
            arrays: The inputs of the torch side by name, from which the inputs of the model are derived.
            keras_inputs: The inputs of the model, if they are given.
        """
        if not is_built(self.source):
            derived = derive(arrays, (), call_arguments(self.source)) if keras_inputs is None else keras_inputs
            run(self.source, derived)

    def notes(self) -> tuple[str, ...]:
        """Return notes for a report: the file that the model was read from, and the backend of Keras."""
        return (*self.origin_notes(), *deviation_notes(self.source))

    def origin_notes(self) -> tuple[str, ...]:
        """Return notes for a report about the model's file: the software that wrote it, and changes on reading."""
        origin = origin_of(self.source)
        if origin is None:
            return ()
        meaning = f"{origin.file} was saved by {origin.writer}, and is read with the meaning that it has there"
        return (meaning, *origin.notes)
