"""Read files with inputs, labels and class names; read and write plans."""

from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np

from keras3conv.alignment.plan import Alignment
from keras3conv.errors import AlignmentError, BudgetExceeded, FileError, InputError, MalformedCheckpoint
from keras3conv.formats.safe.source import Source, dtype_named
from keras3conv.frameworks.shared.inputs_named import OneArray
from keras3conv.frameworks.shared.inputs_random import SEED
from keras3conv.transforms import Array

MOST_BYTES = 256 << 20
"""The maximum size of a plan in bytes."""


def read_plan(path: Path) -> Alignment:
    """Return the plan in a file that `align -o` wrote; raise `FileError` for any other file."""
    source = Source.pin(path)
    if source.size > MOST_BYTES:
        raise BudgetExceeded(f"{path} has {source.size:,} bytes; the limit for a plan is {MOST_BYTES:,}")
    with source.open() as file:
        content = bytes(source.read(file, 0, source.size))
    try:
        return Alignment.from_json(content.decode("utf-8"))
    except (AlignmentError, UnicodeDecodeError) as error:
        reason = "it is no text, so it is not a plan" if isinstance(error, UnicodeDecodeError) else error
        new = quote(str(path.with_name(f"new_{path.stem}.json")))
        raise FileError(f"{path}: {reason}\nFix:  keras3conv align TORCH KERAS -o {new}") from error


def write_plan(plan: Alignment, path: Path, *, overwrite: bool) -> None:
    """Write a plan as JSON, atomically; raise `FileError` if the file exists or cannot be written."""
    from keras3conv.writing.outputs import write_text

    write_text(path, plan.to_json(), overwrite=overwrite)


def read_inputs(path: Path | None, what: str = "inputs", example: str = "x") -> Any:
    """Return the inputs in a file: an array, a tuple (from `numpy.savez(file, a, b)`), or a dict of named arrays.

    The only array of a file is a dict only if it has a name (`numpy.savez(file, x=a)`).

    Args:
        path: The file; None gives None.
        what: The word of an error message for the arrays.
        example: The variable with an array in the line that an error message prints.

    Raises:
        InputError: The file is not an .npz or .npy file, or contains objects instead of numbers.
        FileError: The file cannot be read.
    """
    if path is None:
        return None
    from keras3conv.formats.safe import npy

    try:
        arrays = npy.read(path)
    except MalformedCheckpoint as error:
        name = "save" if path.suffix == ".npy" else "savez"
        raise InputError(f"the {what} cannot be read: {error}\nFix:  numpy.{name}(path, {example})") from error
    if not isinstance(arrays, dict):
        return arrays
    if all(name == f"arr_{place}" for place, name in enumerate(arrays)):
        return tuple(arrays.values()) if len(arrays) > 1 else next(iter(arrays.values()))
    return OneArray(arrays) if len(arrays) == 1 else arrays


def random_origin(shape: Sequence[int]) -> str:
    """Return the note of a report on its inputs: "random inputs of the given shape (1, 3, 32, 32), seed ...".

    Args:
        shape: The shape of the inputs, which `random_inputs` made.
    """
    return f"random inputs of the given shape {tuple(shape)}, seed {SEED}, made by convert"


def random_inputs(shape: Sequence[int], dtype: str = "float32") -> Array:
    """Return an array of random numbers with a shape and a dtype; every call returns the same numbers."""
    numbers: Array = np.random.default_rng(SEED).standard_normal(tuple(shape)).astype(dtype_named(dtype))
    return numbers


def read_labels(path: Path | None) -> Any:
    """Return the labels in a .npy or .npz file; None for no path.

    Raises:
        InputError: The file is not an .npz or .npy file with numbers, or has several arrays.
        FileError: The file cannot be read.
    """
    labels = read_inputs(path, "labels", "labels")
    if isinstance(labels, OneArray):
        return next(iter(labels.values()))
    if isinstance(labels, dict | tuple):
        raise InputError(f"{path} must contain one array of labels, but contains {len(labels)}")
    return labels


def read_class_names(path: Path | None) -> list[str] | None:
    """Return the class names in a text file with one name a line; None for no path.

    Raises:
        FileError: The file cannot be read.
    """
    if path is None:
        return None
    source = Source.pin(path)
    try:
        with source.open() as file:
            return bytes(source.read(file, 0, source.size)).decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise FileError(f"{path} cannot be read: {error}") from error
