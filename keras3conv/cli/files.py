"""Read and write the files that options name (plans, inputs, labels), and parse options with a value."""

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras3conv.alignment.plan import Alignment
from keras3conv.errors import AlignmentError, FileError, InputError
from keras3conv.numerics.difference import Tolerance
from keras3conv.transforms import Array

REPORT_SUFFIXES = (".html", ".md", ".json", ".txt")
"""The suffixes of a report file. They are checked before the proofs, which may take minutes."""


def check_report(path: Path) -> None:
    """Raise `InputError` if the suffix of a report file is unknown, or its folder does not exist."""
    if path.suffix.lower() not in REPORT_SUFFIXES:
        raise InputError(f"--report {path}: a report is saved as {', '.join(REPORT_SUFFIXES)}")
    if not path.parent.is_dir():
        raise InputError(f"--report {path}: the folder {path.parent} does not exist")


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
    from keras3conv.writing.outputs import write_text

    write_text(path, plan.to_json(), overwrite=overwrite)


def convert_inputs(path: Path | None, shape: str | None) -> Any:
    """Return the inputs in a file, or random numbers of a shape, or None; raise `InputError` for both."""
    if shape is None:
        return read_inputs(path)
    if path is not None:
        raise InputError("--inputs and --shape are both given: the inputs have a shape")
    sizes = [part.strip() for part in shape.split(",")]
    if not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise InputError(f"--shape {shape}: a shape is written as numbers with commas, as 1,3,224,224")
    return np.random.default_rng(0).standard_normal([int(size) for size in sizes]).astype("float32")


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


def read_tolerance(text: str | None) -> Tolerance | None:
    """Return the tolerance of `--tolerance ABSOLUTE,RELATIVE`; raise `InputError` for anything else."""
    if text is None:
        return None
    try:
        absolute, relative = map(float, text.split(","))
    except ValueError as error:
        fact = f"--tolerance {text}: two numbers are needed, the absolute and the relative tolerance"
        raise InputError(f"{fact}\nFix:  --tolerance 1e-5,1e-4") from error
    return Tolerance(absolute=absolute, relative=relative)


def read_labels(path: Path | None) -> Any:
    """Return the labels in a .npy or .npz file; raise like `read_inputs`, or if the file has several arrays."""
    labels = read_inputs(path)
    if isinstance(labels, dict | tuple):
        raise InputError(f"--labels {path}: the file contains {len(labels)} arrays, not one")
    return labels


def read_class_names(path: Path | None) -> list[str] | None:
    """Return the names of the classes, one a line; raise `FileError` if the file cannot be read."""
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path} cannot be read: {error}") from error


def read_hints(hints: Sequence[str]) -> dict[str, str] | None:
    """Return the pairs of `torch=keras` hints; raise `InputError` for anything else."""
    return dict(_assignments(hints, "--hint", "a hint has the form TORCH_LAYER=KERAS_LAYER", "fc=dense")) or None


def read_ignored(entries: Sequence[str]) -> list[tuple[str, str]]:
    """Return the paths and reasons of `path=reason` options; raise `InputError` for anything else."""
    return list(_assignments(entries, "--ignore", "an ignored tensor needs a reason: PATH=REASON", "head=not trained"))


def _assignments(entries: Sequence[str], option: str, meaning: str, example: str) -> Iterator[tuple[str, str]]:
    for entry in entries:
        name, _, value = entry.partition("=")
        if not name or not value:
            raise InputError(f'{option} {entry}: {meaning}\nFix:  {option} "{example}"')
        yield name, value


def _arrays(path: Path) -> Mapping[str, Array]:
    loaded = np.load(path)  # numpy's default refuses pickled objects
    if isinstance(loaded, np.ndarray):
        return {path.stem: loaded}
    with loaded:
        arrays = {name: loaded[name] for name in loaded.files}
    if not arrays:
        raise ValueError("the file is empty")
    return arrays
