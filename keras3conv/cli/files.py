"""Check and write the files that options name, and parse options with a value."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from keras3conv.alignment.plan import Alignment
from keras3conv.cli.lines import ROOT
from keras3conv.errors import InputError
from keras3conv.model.views import Side
from keras3conv.numerics.judgement import Tolerance
from keras3conv.report.files import require_replaceable
from keras3conv.workflows.files import random_inputs, read_inputs, read_plan

REPORT_SUFFIXES = (".html", ".md", ".json", ".txt")
"""The suffixes of a report file. They are checked before the proofs, which may take minutes."""


def check_reports(paths: Iterable[Path]) -> None:
    """Raise an error if a report cannot be written to each of the paths.

    Raises:
        InputError: A suffix is unknown, or a folder does not exist.
        FileError: A file exists and is not a report.
    """
    for path in paths:
        _check_report(path)


def _check_report(path: Path) -> None:
    if path.suffix.lower() not in REPORT_SUFFIXES:
        raise InputError(
            f"--report {path} has a suffix that no report has: a report is saved as {', '.join(REPORT_SUFFIXES)}"
        )
    if not path.parent.is_dir():
        raise InputError(f"--report {path} cannot be written, because the folder {path.parent} does not exist")
    require_replaceable(path)


def read_plan_or_hints(plan: Path | None, hints: Sequence[str]) -> tuple[Alignment | None, dict[str, str] | None]:
    """Return (plan, None) if a plan file is given, else (None, hints): (None, {"fc": "dense"}), or None for no hints.

    Args:
        plan: The file, if the command was given one.
        hints: The values of the options `--hint`: ["fc=dense"].

    Raises:
        InputError: Both are given.
    """
    if plan and hints:
        raise InputError(
            "--plan and --hint are both given, but hints are only for making a plan: leave one of them out"
        )
    return read_plan(plan) if plan else None, read_hints(hints)


def convert_inputs(path: Path | None, shape: str | None) -> Any:
    """Return the inputs for `convert`: the arrays in a file, random numbers of a shape, or None without either.

    Args:
        path: The file, if the command was given one.
        shape: The shape as text, such as "1,3,224,224".

    Raises:
        InputError: Both a file and a shape are given, or the text is not a shape.
    """
    if shape is None:
        return read_inputs(path)
    if path is not None:
        raise InputError("--inputs and --shape are both given, but the inputs have a shape: leave --shape out")
    sizes = [part.strip() for part in shape.split(",")]
    if not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise InputError(f"--shape {shape} is not a shape: a shape is written as numbers with commas, as 1,3,224,224")
    return random_inputs([int(size) for size in sizes])


def read_axes(options: Sequence[str]) -> dict[str, tuple[int, ...]] | None:
    """Return the values of the options `--dynamic INPUT:AXIS,AXIS`: ["x:2,3"] -> {"x": (2, 3)}; None for no option.

    Raise `InputError` for a value of another form.
    """
    found = {}
    for option in options:
        name, _, axes = option.partition(":")
        parts = axes.split(",")
        if not name or not all(part.strip().isdecimal() for part in parts):
            raise InputError(f"--dynamic {option} does not have the form INPUT:AXES\nFix:  --dynamic x:2,3")
        found[name] = tuple(map(int, parts))
    return found or None


def read_tolerance(text: str | None) -> Tolerance | None:
    """Return the value of the option `--tolerance ABSOLUTE,RELATIVE` ("1e-5,1e-4"); None without the option.

    Raise `InputError` for a value of another form.
    """
    if text is None:
        return None
    try:
        absolute, relative = map(float, text.split(","))
    except ValueError as error:
        raise InputError(
            f"--tolerance {text} must be two numbers with a comma, the absolute and the relative tolerance\n"
            "Fix:  --tolerance 1e-5,1e-4"
        ) from error
    return Tolerance(absolute=absolute, relative=relative)


def read_hints(hints: Sequence[str]) -> dict[str, str] | None:
    """Return the layer pairs of the options `--hint`: ["fc=dense"] -> {"fc": "dense"}; None for no hints.

    Raise `InputError` for a hint of another form.
    """
    named = _assignments(hints, "--hint", "a hint has the form TORCH_LAYER=KERAS_LAYER", "fc=dense")
    return {_path(torch): _path(keras) for torch, keras in named} or None


def read_ignored(entries: Sequence[str]) -> list[tuple[str, str]]:
    """Return the paths and reasons of the options `--ignore`: ["head=not trained"] -> [("head", "not trained")].

    Raise `InputError` for a value of another form.
    """
    return list(_assignments(entries, "--ignore", "an ignored tensor needs a reason: PATH=REASON", "head=not trained"))


def ignoring(plan: Alignment, path: str, reason: str) -> Alignment:
    """Return a plan that ignores a tensor, or the tensors of a layer, for a reason.

    Args:
        plan: The plan (the pairs of tensors).
        path: The path of the tensor or layer; "torch:fc" or "keras:fc" if both models have the path.
        reason: The reason.
    """
    sides: tuple[Side, ...] = "torch", "keras"
    for side in sides:
        if path.startswith(f"{side}:"):
            return plan.ignore(path.removeprefix(f"{side}:"), reason, side=side)
    return plan.ignore(path, reason)


def _path(name: str) -> str:
    """Return the path for a name in a hint: the name itself, or an empty path for the model as a whole."""
    return "" if name == ROOT else name


def _assignments(entries: Sequence[str], option: str, meaning: str, example: str) -> Iterator[tuple[str, str]]:
    for entry in entries:
        name, _, value = entry.partition("=")
        if not name or not value:
            raise InputError(f'{option} {entry} has the wrong form: {meaning}\nFix:  {option} "{example}"')
        yield name, value
