"""Define the options of `validate`; their constructor checks and normalises them."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from keras3conv.errors import FileError, InputError
from keras3conv.formats.safe import npy
from keras3conv.model.views import Side
from keras3conv.numerics.judgement import Tolerance
from keras3conv.transforms import Array

BACKENDS = ("torch", "jax", "tensorflow")
"""The Keras backends on which a saved model can run."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of `keras3conv.validate`, whose docstring explains them.

    A single name, a list or "all" is accepted, and stored as a tuple of names; labels are stored as an array.

    Attributes:
        proofs: Names of the requested proofs; empty for all.
        tolerance: Difference that the caller allows, instead of the measured noise floor.
        training: Whether to also fail on differences that matter only in training (momentum, dropout rate).
        backends: Keras backends on which the saved model is run.
        labels: Class index of every input sample, shape (samples,); None if there are no labels.
        class_names: Class names, by class index.
        onnx: Whether to export both models to ONNX and compare the files; or a new folder, in which they are kept.
        expected: Golden outputs for the inputs, in the layout of Keras: a file or arrays, stored as a dict by name.
        local: Whether the pairs of layers are proven one at a time instead of the whole models.
        factories: For each side that the command line gives as a function without a file of weights, the function's
            name: {"torch": "net.py:build"}.

    Raises:
        InputError: An option has the wrong type or an unknown value.
    """

    proofs: Sequence[str] = ()
    tolerance: Tolerance | None = None
    training: bool = False
    backends: Sequence[str] = ()
    labels: Any = None
    class_names: Sequence[str] = ()
    onnx: bool | str | PathLike[str] = False
    expected: Any = None
    local: bool = False
    factories: Mapping[Side, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require_tolerance(self.tolerance)
        if self.onnx_folder:
            _require_new_folder(self.onnx_folder)
        normalised = {
            "proofs": (self.proofs,) if isinstance(self.proofs, str) else tuple(self.proofs),
            "backends": _backends(self.backends),
            "class_names": _class_names(self.class_names, self.labels),
            "labels": None if self.labels is None else _labels(self.labels),
            "expected": None if self.expected is None else golden_outputs(self.expected),
        }
        for name, value in normalised.items():
            object.__setattr__(self, name, value)

    @property
    def onnx_folder(self) -> Path | None:
        """The folder in which the exported ONNX files are kept; None if they are deleted."""
        return None if isinstance(self.onnx, bool) else Path(self.onnx)

    def wants(self, proof: str) -> bool:
        """Return whether a proof is requested."""
        return not self.proofs or proof in self.proofs


def golden_outputs(expected: Any) -> dict[str, Array]:
    """Return golden outputs (those of other software) by name: from a numpy file, or from a dict, a list or an array.

    Raises:
        InputError: The golden outputs are not numbers, or the file cannot be read.
    """
    if isinstance(expected, str | PathLike):
        expected = _in_file(Path(expected))
    if not isinstance(expected, Mapping):
        arrays = expected if isinstance(expected, list | tuple) else [expected]
        expected = {str(place): array for place, array in enumerate(arrays)}
    found = {str(name): _numbers(name, array) for name, array in expected.items()}
    if not found:
        raise InputError(
            "expected contains no output; give the outputs for the inputs, in the order in which the model returns them"
        )
    return found


def _in_file(path: Path) -> Any:
    try:
        return npy.read(path)
    except FileError as error:
        raise InputError(
            f"{error}\nFix:  numpy.{'save' if path.suffix == '.npy' else 'savez'}(path, outputs)"
        ) from error


def _numbers(name: str, values: Any) -> Array:
    array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    if array.dtype.kind not in "biuf":
        raise InputError(f"the expected output {name} is an array of {array.dtype}, but must be an array of numbers")
    return array


def _require_tolerance(tolerance: Any) -> None:
    if tolerance is not None and not isinstance(tolerance, Tolerance):
        fix = "Fix:  tolerance=k3c.Tolerance(absolute=1e-5, relative=1e-4)"
        raise InputError(f"tolerance must be a k3c.Tolerance, but is {tolerance!r}\n{fix}")


def _require_new_folder(folder: Path) -> None:
    """Raise `InputError` unless the folder for the ONNX files is empty, or can be made in its parent folder.

    The check is made before the proofs, which take long.
    """
    if not folder.absolute().parent.is_dir():
        raise InputError(f"the ONNX files cannot be kept in {folder}, because {folder.parent} does not exist")
    if os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        free = next(name for number in count(2) if not os.path.lexists(name := f"{folder}_{number}"))
        fact = f"the ONNX files cannot be kept in {folder}, because it exists and is no empty folder"
        raise InputError(f'{fact}\nFix:  onnx="{free}"')


def _class_names(class_names: Any, labels: Any) -> tuple[str, ...]:
    if isinstance(class_names, str):
        raise InputError(f"class_names must be a list with a name for every class, but is {class_names!r}")
    names = tuple(class_names)
    if names and labels is None:
        raise InputError("class_names is given without labels, which it needs: give labels=...")
    for name in names:
        if not isinstance(name, str):
            raise InputError(
                f"every entry of class_names must be a str, but {name!r} is of the type {type(name).__name__}"
            )
    return names


def _labels(labels: Any) -> Array:
    expected = "must be an array of integers of shape (samples,), the class index of every sample"
    try:
        values = np.asarray(labels.detach().cpu() if hasattr(labels, "detach") else labels)
    except ValueError as error:  # numpy raises for rows of different lengths
        raise InputError(f"labels {expected}, but its rows have different lengths") from error
    if values.dtype.kind not in "iu" or values.ndim != 1:
        fix = _label_fix(values)
        line = f"\nFix:  {fix}" if fix else ""
        found = f"the dtype {values.dtype} and the shape {values.shape}"
        raise InputError(f"labels {expected}, but has {found}{line}")
    return values


def _label_fix(labels: Array) -> str:
    """Return the code that turns labels into class indices: "labels=labels.argmax(axis=1)" for one-hot labels.

    Return an empty text if the labels have no known form.
    """
    if labels.ndim == 2 and labels.shape[1] > 1 and labels.dtype.kind in "iufb":
        return "labels=labels.argmax(axis=1)"
    if labels.ndim == 2 and labels.shape[1] == 1:
        return "labels=labels[:, 0]"
    if labels.ndim == 1 and labels.dtype.kind == "U":
        return "labels=[class_names.index(name) for name in labels]"
    if labels.ndim == 1 and labels.size and labels.dtype.kind == "f" and bool(np.all(labels == np.round(labels))):
        return "labels=labels.astype(int)"
    return ""


def _backends(backends: Any) -> tuple[str, ...]:
    if not isinstance(backends, Sequence):  # users may try `backends=True`
        raise InputError(
            f'backends must be a list of names of Keras backends, or "all", but is {backends!r}\nFix:  backends="all"'
        )
    names = (backends,) if isinstance(backends, str) else tuple(backends)
    if names == ("all",):
        return BACKENDS
    for name in names:
        if name not in BACKENDS:
            raise InputError(f'{name!r} is not a Keras backend: use {", ".join(BACKENDS)} or "all"')
    return tuple(dict.fromkeys(names))
