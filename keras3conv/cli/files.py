"""Read and write the files that options name (plans, inputs, labels), and parse options with a value."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras3conv.alignment.plan import Alignment
from keras3conv.errors import AlignmentError, BudgetExceeded, FileError, InputError, MalformedCheckpoint
from keras3conv.numerics.difference import Tolerance

_MAX_PLAN = 256 << 20

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
    from keras3conv.formats.safe.source import Source

    source = Source.pin(path)
    if source.size > _MAX_PLAN:
        raise BudgetExceeded(f"{path} has {source.size:,} bytes; the limit for a plan is {_MAX_PLAN:,}")
    with source.open() as file:
        content = bytes(source.read(file, 0, source.size))
    try:
        return Alignment.from_json(content.decode("utf-8"))
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
    from keras3conv.formats.safe import npy

    try:
        arrays = npy.read(path)
    except MalformedCheckpoint as error:
        raise InputError(f"{error}\nFix:  numpy.savez(path, x)") from error
    if not isinstance(arrays, dict):
        return arrays
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    if all(name == f"arr_{place}" for place, name in enumerate(arrays)):
        return tuple(arrays.values())
    return arrays


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
    from keras3conv.formats.safe.source import Source

    source = Source.pin(path)
    try:
        with source.open() as file:
            return bytes(source.read(file, 0, source.size)).decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
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
