"""Expand a table of a sweep file, which may have globs, lists of files and a matrix, to one or more tasks."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras3conv.workflows.sweep.task import EXPANDABLE, KEYS

_GLOB = re.compile(r"[*?]|\[[^\]]+\]")
_SUFFIXES = (".weights.h5", ".safetensors.index.json", ".pth.tar")
_FORBIDDEN_IN_NAMES = re.compile(r"[^A-Za-z0-9._+=-]+")
_NUMBERS = re.compile(r"(\d+)")

Problems = list[tuple[str, str]]
"""The invalid keys of a task table, each with the reason."""


@dataclass(frozen=True, kw_only=True)
class Expanded:
    """One of the tasks that a table of a sweep file expands to: its name, and its values by key ("torch")."""

    name: str
    values: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class _Axis:
    """A key of a task table with several values; the table gives one task for each value."""

    key: str
    values: Sequence[Any]


def expand(table: Mapping[str, Any], folder: Path) -> tuple[list[Expanded], Problems]:
    """Return a task for every combination of the values of a table's axes, and the problems of the table.

    An axis is a key of `matrix`, or a key for models or weights whose value is a list or a glob. The texts of a task
    can name the value of an axis: "{backend}", and "{stem}" for the name of the file without its suffix. A problem is
    an invalid key, and the reason as a sentence; if there is one, no tasks are returned.

    Args:
        table: The table of the sweep file, as it was read.
        folder: The folder from which globs start.
    """
    problems: Problems = []
    values = {key: value for key, value in table.items() if key in KEYS}
    matrix = table.get("matrix", {})
    if not isinstance(matrix, Mapping):
        return [], [("matrix", f"the matrix must be a table of lists, but is {matrix!r}")]
    axes = [
        *(_files(key, values[key], folder, problems) for key in EXPANDABLE if _is_several(values.get(key))),
        *(_axis(key, value, folder, problems) for key, value in matrix.items()),
    ]
    if len(paths := [axis.key for axis in axes if axis.key in EXPANDABLE and axis.key not in matrix]) > 1:
        problems.append(
            (
                paths[1],
                f'{paths[0]} has several files too, so name the file of this key with "{{stem}}", its name',
            )
        )
    if problems:
        return [], problems
    return [_chosen(values, axes, choice) for choice in itertools.product(*(axis.values for axis in axes))], []


def stem(path: str) -> str:
    """Return the name of a file without its suffix, or the name of a factory."""
    where, _, name = path.rpartition(":")
    if where and name.replace(".", "").isidentifier():
        return name
    last = Path(path).name
    for suffix in _SUFFIXES:
        if last.endswith(suffix):
            return last.removesuffix(suffix)
    return Path(last).stem


def _is_several(value: Any) -> bool:
    return isinstance(value, list | tuple) or (isinstance(value, str) and bool(_GLOB.search(value)))


def _axis(key: str, value: Any, folder: Path, problems: Problems) -> _Axis:
    if key not in KEYS or key == "name":
        problems.append(("matrix", f"{key} is not a key that a matrix can vary"))
    elif key in EXPANDABLE and _is_several(value):
        return _files(key, value, folder, problems)
    elif not isinstance(value, list | tuple) or not value:
        problems.append(("matrix", f"the key {key} of the matrix must be a list of values, but is {value!r}"))
    return _Axis(key=key, values=value if isinstance(value, list | tuple) else ())


def _files(key: str, value: Any, folder: Path, problems: Problems) -> _Axis:
    """Return the axis (values, one per task) of a key whose value is a list of files and globs.

    Args:
        key: The key.
        value: The list, or a single glob.
        folder: The folder from which globs start.
        problems: Receives a problem if a glob matches nothing, or the list is invalid.
    """
    found: list[str] = []
    for pattern in [value] if isinstance(value, str) else value:
        if not isinstance(pattern, str):
            problems.append((key, f"the name of a file must be a text, but is {pattern!r}"))
        elif _GLOB.search(pattern) and not (folder / pattern).exists():
            matches = _matches(pattern, folder)
            if not matches:
                problems.append((key, f"no file matches the pattern {pattern}"))
            found += matches
        else:
            found.append(pattern)
    if not value:
        problems.append((key, "the list of files is empty"))
    return _Axis(key=key, values=list(dict.fromkeys(found)))


def _matches(pattern: str, folder: Path) -> list[str]:
    """Return the paths that match a glob, with numbers in their names sorted as numbers."""
    if Path(pattern).is_absolute():
        start = Path(Path(pattern).anchor)
        found = [str(path) for path in start.glob(str(Path(pattern).relative_to(start)))]
    else:
        found = [path.relative_to(folder).as_posix() for path in folder.glob(pattern)]
    return sorted(
        found, key=lambda path: [(int(part), "") if part.isdigit() else (0, part) for part in _NUMBERS.split(path)]
    )


def _chosen(values: Mapping[str, Any], axes: Sequence[_Axis], choice: Sequence[Any]) -> Expanded:
    chosen = {axis.key: value for axis, value in zip(axes, choice, strict=True)}
    words = {key: _label(key, value) for key, value in chosen.items()}
    if files := [key for key in chosen if key in EXPANDABLE]:
        words["stem"] = words[files[0]]
    filled = {key: _filled(value, words) for key, value in {**values, **chosen}.items()}
    name = values.get("name")
    if isinstance(name, str) and name:
        is_complete = not axes or any(f"{{{word}}}" in name for word in words)
        made = str(filled["name"]) if is_complete else "-".join([str(filled["name"]), *_labels(axes, words)])
        return Expanded(name=made, values={key: value for key, value in filled.items() if key != "name"})
    own = [_label(key, filled[key]) for key in ("model", "torch") if filled.get(key) and key not in chosen][:1]
    made = _FORBIDDEN_IN_NAMES.sub("_", "-".join([*own, *_labels(axes, words)])).lstrip(".-") or "task"
    return Expanded(name=made, values={key: value for key, value in filled.items() if key != "name"})


def _labels(axes: Sequence[_Axis], words: Mapping[str, str]) -> list[str]:
    return [words[axis.key] for axis in axes]


def _label(key: str, value: Any) -> str:
    """Return the text that a value of a key with several values adds to the task's name: "1x3x32x32" for a shape.

    Args:
        key: The key of the task table.
        value: One of its values; of a file, the name without its suffix is added.
    """
    if key in EXPANDABLE:
        return stem(str(value))
    if isinstance(value, list | tuple):
        return ("x" if key == "shape" else "+").join(map(str, value))
    return str(value)


def _filled(value: Any, words: Mapping[str, str]) -> Any:
    """Return a value of a task with the names of axes in braces, such as "{backend}", replaced by texts.

    Args:
        value: The value, in which texts may be nested in lists and dicts.
        words: The text for each name; other braces stay.
    """
    if isinstance(value, str):
        for word, text in words.items():
            value = value.replace(f"{{{word}}}", text)
        return value
    if isinstance(value, list | tuple):
        return [_filled(one, words) for one in value]
    if isinstance(value, Mapping):
        return {key: _filled(one, words) for key, one in value.items()}
    return value
