"""Read the files that go with models: inputs, labels, class names; read and write plans."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras3conv.alignment.plan import Alignment
from keras3conv.errors import AlignmentError, FileError, InputError
from keras3conv.formats.safe.source import dtype_named
from keras3conv.transforms import Array


def read_plan(path: Path) -> Alignment:
    """Return the plan in a file that `align -o` wrote; raise `FileError` for any other file."""
    try:
        return Alignment.from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}") from error
    except (AlignmentError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: {error}\nFix:  keras3conv align TORCH KERAS -o {path}") from error


def write_plan(plan: Alignment, path: Path, *, overwrite: bool) -> None:
    """Write a plan as JSON, atomically; raise `FileError` if the file exists or cannot be written."""
    from keras3conv.formats.safe.atomic import replacing

    try:
        with replacing(path, overwrite=overwrite) as temporary:
            temporary.write_text(plan.to_json() + "\n", encoding="utf-8")
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror}") from error


def read_inputs(path: Path | None) -> Any:
    """Return the inputs in a file: one array, a tuple (from `numpy.savez(file, a, b)`), or a dict of named arrays.

    Raises:
        InputError: The file is not an .npz or .npy file, or contains objects instead of numbers.
        FileError: The file cannot be read.
    """
    if path is None:
        return None
    try:
        arrays = _arrays(path)
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} contains no arrays: {error}\nFix:  numpy.savez(path, x)") from error
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    if all(name == f"arr_{place}" for place, name in enumerate(arrays)):
        return tuple(arrays.values())
    return dict(arrays)


def random_inputs(shape: Sequence[int], dtype: str = "float32") -> Array:
    """Return random numbers of a shape and a dtype, the same for every call."""
    numbers: Array = np.random.default_rng(0).standard_normal(tuple(shape)).astype(dtype_named(dtype))
    return numbers


def read_labels(path: Path | None) -> Any:
    """Return the labels in a .npy or .npz file; raise like `read_inputs`, or if the file has several arrays."""
    labels = read_inputs(path)
    if isinstance(labels, dict | tuple):
        raise InputError(f"{path}: the file of labels contains {len(labels)} arrays, not one")
    return labels


def read_class_names(path: Path | None) -> list[str] | None:
    """Return the names of the classes, one a line; raise `FileError` if the file cannot be read."""
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path} cannot be read: {error}") from error


def _arrays(path: Path) -> Mapping[str, Array]:
    loaded = np.load(path)  # numpy's default refuses pickled objects
    if isinstance(loaded, np.ndarray):
        return {path.stem: loaded}
    with loaded:
        arrays = {name: loaded[name] for name in loaded.files}
    if not arrays:
        raise ValueError("the file is empty")
    return arrays
