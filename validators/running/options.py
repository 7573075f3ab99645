"""What a certificate is asked for."""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from keras3conv.errors import InputError
from keras3conv.numerics.difference import Tolerance
from keras3conv.transforms import Array

BACKENDS = ("torch", "jax", "tensorflow")
"""The backends of Keras that a saved model can be run on."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a certificate is asked for beyond the two models.

    Attributes:
        proofs: The names of the proofs that are wanted; empty for all.
        tolerance: What the caller allows in the place of the measured noise floor.
        training: Whether what counts in training only counts as well: a momentum, a rate of dropout.
        backends: The backends of Keras that the saved model is run on.
        labels: The right class of every sample of the inputs, shape (samples,).
        class_names: The names of the classes, by their numbers.
        onnx: Whether both sides are exported to ONNX and compared there.
        expected: The golden outputs for the inputs, by name, in the layout of Keras; empty where none are given.
    """

    proofs: tuple[str, ...] = ()
    tolerance: Tolerance | None = None
    training: bool = False
    backends: tuple[str, ...] = ()
    labels: Array | None = None
    class_names: tuple[str, ...] = ()
    onnx: bool = False
    expected: Mapping[str, Array] = field(default_factory=dict)

    def wants(self, proof: str) -> bool:
        """Whether a proof is wanted."""
        return not self.proofs or proof in self.proofs


def make_options(
    *,
    proofs: Sequence[str] | None,
    tolerance: Any,
    training: bool,
    labels: Any,
    class_names: Sequence[str] | None,
    onnx: bool,
    backends: str | Sequence[str] | None,
    expected: Any = None,
) -> Options:
    """The options of a certificate, checked; see `keras3conv.validate`.

    Raises:
        InputError: One of them is not what it must be.
    """
    if tolerance is not None and not isinstance(tolerance, Tolerance):
        fix = "Fix:  tolerance=k3c.Tolerance(absolute=..., relative=...)"
        raise InputError(f"tolerance is {tolerance!r}: it must be given in full\n{fix}")
    if class_names is not None:
        _require_names(class_names, labels)
    return Options(
        proofs=(proofs,) if isinstance(proofs, str) else tuple(proofs or ()),
        tolerance=tolerance,
        training=training,
        labels=None if labels is None else _labels(labels),
        class_names=tuple(class_names or ()),
        onnx=onnx,
        backends=_backends(backends),
        expected={} if expected is None else golden_outputs(expected),
    )


def golden_outputs(expected: Any) -> dict[str, Array]:
    """Return golden outputs by name: from a file of numpy, or from arrays in a dict, in a list, or alone.

    Raises:
        InputError: They are no numbers, or the file cannot be read.
    """
    if isinstance(expected, str | PathLike):
        expected = _in_file(Path(expected))
    if not isinstance(expected, Mapping):
        arrays = expected if isinstance(expected, list | tuple) else [expected]
        expected = {str(place): array for place, array in enumerate(arrays)}
    found = {str(name): _numbers(name, array) for name, array in expected.items()}
    if not found:
        raise InputError("expected holds no output")
    return found


def _in_file(path: Path) -> Any:
    try:
        loaded = np.load(path)  # never pickled objects: that is numpy's default, and it stays
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} holds no arrays: {error}\nFix:  numpy.savez(path, outputs)") from error
    if isinstance(loaded, np.ndarray):
        return loaded
    with loaded:
        return {name: loaded[name] for name in loaded.files}


def _numbers(name: str, values: Any) -> Array:
    array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    if array.dtype.kind not in "biuf":
        raise InputError(f"the golden output {name} is an array of {array.dtype}: a model returns numbers")
    return array


def _require_names(class_names: Sequence[Any], labels: Any) -> None:
    if labels is None:
        raise InputError("class_names is given without labels")
    if isinstance(class_names, str):
        raise InputError(f"class_names is {class_names!r}: it must be a list, with a name for every class")
    if other := [name for name in class_names if not isinstance(name, str)]:
        raise InputError(f"{other[0]!r} is among the class names, and is no text but {type(other[0]).__name__}")


def _labels(labels: Any) -> Array:
    wanted = "they must be integers of shape (samples,), the number of the right class for every sample"
    try:
        values = np.asarray(labels.detach().cpu() if hasattr(labels, "detach") else labels)
    except ValueError as error:  # numpy makes no array of them
        raise InputError(f"labels are rows of several lengths: {wanted}") from error
    if values.dtype.kind not in "iu" or values.ndim != 1:
        fix = _label_fix(values)
        raise InputError(
            f"labels are {values.dtype} of shape {values.shape}: {wanted}{fix and f'{chr(10)}Fix:  {fix}'}"
        )
    return values


def _label_fix(labels: Array) -> str:
    """The line that makes the numbers of the classes of labels that are something else; empty where none is known."""
    if labels.ndim == 2 and labels.shape[1] > 1 and labels.dtype.kind in "iufb":
        return "labels=labels.argmax(axis=1)"
    if labels.ndim == 2 and labels.shape[1] == 1:
        return "labels=labels[:, 0]"
    if labels.dtype.kind == "U" and labels.ndim == 1:
        return "labels=[class_names.index(name) for name in labels]"
    is_whole = labels.dtype.kind == "f" and labels.size and bool(np.all(labels == np.round(labels)))
    return "labels=labels.astype(int)" if is_whole and labels.ndim == 1 else ""


def _backends(backends: Any) -> tuple[str, ...]:
    """The names of the backends that were asked for: the type is checked here, because `True` is a likely guess."""
    if backends is None:
        return ()
    if not isinstance(backends, Sequence):
        what = f"backends is {backends!r}: it must be the names of backends of Keras"
        raise InputError(f'{what}, or "all"\nFix:  backends="all"')
    names: tuple[str, ...] = (backends,) if isinstance(backends, str) else tuple(backends)
    names = BACKENDS if names == ("all",) else names
    if unknown := [name for name in names if name not in BACKENDS]:
        raise InputError(f'{unknown[0]!r} is no backend of Keras: there are {", ".join(BACKENDS)}, and "all"')
    return tuple(dict.fromkeys(names))
