"""Read a model that Keras 2 saved as a live Keras 3 model that computes the same function."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import keras

from keras3conv.errors import Problem
from keras3conv.formats.keras import archive as archive_file
from keras3conv.formats.keras import weights_h5
from keras3conv.formats.keras2 import file as keras2_file
from keras3conv.formats.keras2.changes import changed_settings, notes_of_changes
from keras3conv.formats.keras2.file import Group, Saved, role_of
from keras3conv.formats.keras2.network import name_of
from keras3conv.frameworks.keras.adapter import Origin, set_origin
from keras3conv.frameworks.keras.keras2 import archive, weights
from keras3conv.frameworks.keras.keras2.building import build
from keras3conv.frameworks.keras.keras2.problems import problems_in
from keras3conv.transforms import Array, Shape


def problems_of(saved: Saved, weights_file: Path | None = None) -> tuple[Problem, ...]:
    """Return a problem, with a suggested line, for each part of an architecture that Keras 3 cannot compute.

    Args:
        saved: The architecture.
        weights_file: The file with the weights, if it is not the file of the architecture.
    """
    file = weights_file or saved.path
    own_code = f'k3c.convert(make_model(), weights="{file}")  # make_model is your own code'
    return tuple(problems_in(saved.config, saved.version, own_code))


def read_model(saved: Saved, weights_file: Path | None = None) -> keras.Model:
    """Return the Keras 3 model of an architecture that Keras 2 saved, with its weights, or else with initial weights.

    The caller must have checked that `problems_of` returns no problem for the architecture.

    Args:
        saved: The architecture.
        weights_file: The HDF5 file with the weights, if it is not the file of the architecture. A JSON file has no
            weights, so without a file of weights the model has initial ones.

    Raises:
        ModelError: A layer cannot be created or called with the arguments in the file, or has no weights in the
            file.
        FileError: The file cannot be read.
    """
    if weights_file is None and not saved.has_weights:
        built = build(saved.config, lambda layer: {}, saved.version)
    else:
        stored = _Stored(saved, weights_file)
        built = build(saved.config, stored.shapes, saved.version)
        stored.load_into(built.model, built.differences.dropped)
    notes = (*built.differences.notes, *notes_of_changes(changed_settings(saved.config), saved.path.name))
    origin = Origin(writer=saved.writer, file=saved.path.name, notes=notes, renamed=built.differences.renamed)
    set_origin(built.model, origin)
    return built.model


class _Stored:
    """A reader of the weights in a file that Keras 2 saved: an HDF5 file or a `.keras` archive."""

    def __init__(self, saved: Saved, weights_file: Path | None) -> None:
        self._saved, self._path = saved, weights_file or saved.path
        self._is_archive = not keras2_file.is_legacy(weights_file) if weights_file else saved.is_archive

    @cached_property
    def _groups(self) -> tuple[Group, ...]:
        return keras2_file.groups(self._path)

    @cached_property
    def _arrays(self) -> Mapping[str, Array]:
        return archive_file.datasets(self._path) if self._path.suffix == ".keras" else weights_h5.datasets(self._path)

    def shapes(self, layer: str) -> Mapping[str, Shape]:
        """Return the shapes of a layer's weights by name ("kernel"); in an archive, the first weight is the kernel.

        Args:
            layer: The name of the layer in the file.
        """
        if not self._is_archive:
            return {
                role_of(name): array.shape
                for group in self._groups
                for name, array in reversed(group.weights)
                if group.name == layer or f"/{layer}/" in f"/{name}"
            }
        for entry, group in archive.groups_of(self._saved.config, "", self._arrays):
            if name_of(entry) == layer:
                found = [self._arrays[name].shape for name in sorted(self._arrays) if name.startswith(group)]
                return {"kernel" if len(found[0]) > 1 else "mean": found[0]} if found else {}
        return {}

    def load_into(self, model: Any, dropped: list[str]) -> None:
        if self._is_archive:
            archive.load(model, self._saved.config, self._arrays, self._path)
        else:
            weights.load(model, self._groups, self._path, dropped)
