"""Read the tasks of a sweep from a TOML file or from Python dicts, and collect all errors in them (`Fault`)."""

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from keras3conv.errors import InputError
from keras3conv.messages import count
from keras3conv.workflows.sweep.expansion import Expanded, expand
from keras3conv.workflows.sweep.lines import Place, key_lines, line_of
from keras3conv.workflows.sweep.task import KEYS, STEPS, Task, read_value

NAME = re.compile(r"[A-Za-z0-9_+=][A-Za-z0-9._+=-]*")
"""The pattern that a task's name must match, because the name is also that of a folder."""

_SETTINGS = ("name", "jobs")
_TABLES = ("sweep", "defaults", "task")


@dataclass(frozen=True, kw_only=True, order=True)
class Fault:
    """An error in the definition of the tasks.

    `line` is the line of the error in the sweep file, or the number of the task; `where` is the same in words
    ("line 12", "task 3"); `fact` says in a sentence what is wrong.
    """

    line: int
    where: str
    fact: str


@dataclass(frozen=True, kw_only=True)
class LocatedTask:
    """A task with the location of its definition.

    Attributes:
        task: The task.
        line: The line of its table in the sweep file; for a task from a dict, the number of the dict, from 1.
        where: `line` in words: "line 12", "task 3".
        lines: The line of each key of the task in the sweep file; empty for a task from a dict.
    """

    task: Task
    line: int
    where: str
    lines: Mapping[str, int]

    def fault(self, key: str, fact: str) -> Fault:
        """Return a fault of this task, at the line of one of its keys."""
        line = self.lines.get(key, self.line)
        where = f"line {line}" if self.lines else self.where
        return Fault(line=line, where=where, fact=f"{self.task.name}: {fact}")


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """The tasks of a sweep, as they were read from a file or from dicts.

    Attributes:
        title: The path of the sweep file, or words for tasks from dicts; messages begin with it.
        name: The name of the sweep, which is also stored in the folder of the results.
        placed: The tasks that could be read, with the lines of their definitions.
        faults: The errors in the definitions of the tasks.
        jobs: The number of processes at a time; 0 if it is not given.
    """

    title: str
    name: str
    placed: tuple[LocatedTask, ...]
    faults: tuple[Fault, ...]
    jobs: int = 0

    def require(self, faults: Iterable[Fault] = ()) -> None:
        """Raise `InputError`, which lists all faults, if there are any.

        Args:
            faults: Further faults, besides those that were found while the tasks were read.
        """
        found = sorted({*self.faults, *faults})
        if not found:
            return
        width = max(len(fault.where) for fault in found)
        lines = [f"  {fault.where:<{width}}  {fault.fact}" for fault in found]
        raise InputError("\n".join([f"{self.title}: {count(len(found), 'problem')}, so nothing was run", *lines]))


@dataclass(frozen=True, kw_only=True)
class _Source:
    """The origin of a sweep: the folder from which its paths start and, for a file, the line of each key."""

    folder: Path
    lines: Mapping[Place, int] | None

    def line(self, *place: str | int) -> int:
        if self.lines is None:
            return int(place[1]) + 1 if len(place) > 1 else 0
        return line_of(self.lines, place)

    def where(self, *place: str | int) -> str:
        number = self.line(*place)
        return f"task {number}" if self.lines is None else f"line {number}"

    def fault(self, fact: str, *place: str | int) -> Fault:
        return Fault(line=self.line(*place), where=self.where(*place), fact=fact)


def read_file(path: Path) -> Sweep:
    """Read a sweep file; paths in it are relative to its folder.

    Raises:
        InputError: The file cannot be read, or is not TOML.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not TOML: {error}") from error
    source = _Source(folder=path.resolve().parent, lines=key_lines(text))
    faults = [
        source.fault(f"the table [{name}] is unknown; a sweep file has [sweep], [defaults] and [[task]]", name)
        for name in content
        if name not in _TABLES
    ]
    settings, more = _settings(content.get("sweep", {}), source)
    tables, defaults = content.get("task", []), content.get("defaults", {})
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables) or not tables:
        more.append(source.fault("the file has no table [[task]]", "task"))
        tables = []
    if not isinstance(defaults, dict):
        more.append(source.fault("defaults must be a table, [defaults]", "defaults"))
        defaults = {}
    placed, rest = _tasks(tables, defaults, source)
    name = settings.get("name", path.stem)
    jobs = settings.get("jobs", 0)
    return Sweep(title=str(path), name=name, placed=placed, faults=(*faults, *more, *rest), jobs=jobs)


def read_tasks(tasks: Sequence[Mapping[str, Any]], name: str) -> Sweep:
    """Read tasks from dicts with the keys of a sweep file; paths are relative to the current folder."""
    source = _Source(folder=Path.cwd(), lines=None)
    if not all(isinstance(task, Mapping) for task in tasks):
        raise InputError("every task must be a dict with the keys of a sweep file")
    placed, faults = _tasks(tasks, {}, source)
    if not tasks:
        faults = [source.fault("the list of tasks is empty")]
    return Sweep(title="sweep", name=name, placed=placed, faults=tuple(faults))


def _settings(table: Any, source: _Source) -> tuple[dict[str, Any], list[Fault]]:
    """Return the settings of the table [sweep] in a sweep file, and the faults of those that are invalid."""
    if not isinstance(table, dict):
        return {}, [source.fault("sweep must be a table, [sweep]", "sweep")]
    faults = [source.fault(_unknown(key, _SETTINGS), "sweep", key) for key in table if key not in _SETTINGS]
    settings = {key: value for key, value in table.items() if key in _SETTINGS}
    name, jobs = settings.get("name", "sweep"), settings.get("jobs", 1)
    if not isinstance(name, str) or not name:
        faults.append(source.fault(f"the name of the sweep must be a text, but is {name!r}", "sweep", "name"))
        del settings["name"]
    if not isinstance(jobs, int) or isinstance(jobs, bool) or jobs < 1:
        faults.append(source.fault(f"jobs must be a whole number of at least 1, but is {jobs!r}", "sweep", "jobs"))
        del settings["jobs"]
    return settings, faults


def _tasks(
    tables: Sequence[Mapping[str, Any]], defaults: Mapping[str, Any], source: _Source
) -> tuple[tuple[LocatedTask, ...], list[Fault]]:
    """Return the tasks that the tables `[[task]]` define, and the faults (errors) in these tables.

    Args:
        tables: The tables.
        defaults: The table `[defaults]`: the values of keys that a table does not have.
        source: The folder of the sweep file, and the lines of its keys.
    """
    faults = [*_unknown_keys(defaults, source, "defaults")]
    base, more = _values({key: value for key, value in defaults.items() if key in KEYS}, source, "defaults")
    faults += more
    placed: list[LocatedTask] = []
    for index, table in enumerate(tables):
        place = ("task", index)
        faults += _unknown_keys(table, source, *place)
        found, problems = expand({**base, **table}, source.folder)
        faults += [source.fault(fact, *place, key) for key, fact in problems]
        for one in found:
            task, wrong = _task(one, source, place)
            faults += wrong
            if task is not None:
                placed.append(task)
    return tuple(placed), faults + list(_repeated(placed))


def _task(one: Expanded, source: _Source, place: Place) -> tuple[LocatedTask | None, list[Fault]]:
    values, faults = _values(one.values, source, *place)
    if not NAME.fullmatch(one.name):
        fact = f"the name {one.name!r} contains characters other than letters, digits and . _ + = -"
        return None, [*faults, source.fault(fact, *place, "name")]
    backend = values.pop("backend", "") or os.environ.get("KERAS_BACKEND", "")
    task = Task(**{**values, "name": one.name, "folder": str(source.folder), "backend": backend})
    task = replace(task, do=task.do or (("convert",) if task.model else ("validate",)))
    lines = {} if source.lines is None else {key: source.line(*place, key) for key in KEYS}
    made = LocatedTask(task=task, line=source.line(*place), where=source.where(*place), lines=lines)
    if not faults:  # without a value that is wrong, a task could seem to contradict itself
        faults = [made.fault(key, fact) for key, fact in _contradictions(task)]
    return made, faults


def _values(table: Mapping[str, Any], source: _Source, *place: str | int) -> tuple[dict[str, Any], list[Fault]]:
    """Return the valid values of a task table, converted to the types of `Task`, and the faults of the other values.

    Args:
        table: The table.
        source: The folder of the sweep file, and the lines of its keys.
        place: The names and indices that lead to the table: "task", 0.
    """
    values, faults = {}, []
    for key, value in table.items():
        try:
            values[key] = read_value(key, value)
        except ValueError as error:
            faults.append(source.fault(f"{key}: {error}", *place, key))
    return values, faults


def _unknown_keys(table: Mapping[str, Any], source: _Source, *place: str | int) -> Iterator[Fault]:
    known = (*KEYS, "matrix") if place[0] == "task" else tuple(key for key in KEYS if key != "name")
    for key in table:
        if key not in known:
            yield source.fault(_unknown(key, known), *place, key)


def _unknown(key: str, known: Sequence[str]) -> str:
    if key in STEPS:
        return f'{key} is not a key, but a step of a task: do = ["{key}"]'
    near = difflib.get_close_matches(key, known, 1)
    return (
        f"{key} is not a key; did you mean {near[0]}?"
        if near
        else f"{key} is not a key; the keys are: {', '.join(known)}"
    )


def _contradictions(task: Task) -> Iterator[tuple[str, str]]:
    """Yield each key of a task that contradicts another one, with the reason."""
    asks = partial(_asks, task)
    if task.model and (task.torch or task.keras):
        yield (
            "model",
            (
                "a task has either the key model (one model to convert) or the keys torch and keras (two models to "
                "compare), not both"
            ),
        )
    elif not task.model and not (task.torch and task.keras):
        yield (
            "torch",
            ("a task needs the key model (one model to convert), or the keys torch and keras (two models to compare)"),
        )
    elif task.model and task.do != ("convert",):
        yield "do", 'a single model can only be converted: do = ["convert"]'
    elif not task.model and asks("convert"):
        yield "do", "convert makes the second model, so the task needs the key model, not torch and keras"
    if asks("transfer") and not task.write:
        yield "do", 'a transfer needs the key write, the files to write: write = ["weights.safetensors"]'
    if task.write and not asks("transfer"):
        yield "write", 'the key write is only for a transfer: do = ["transfer"]'
    for name in task.write:
        if name != Path(name).name:
            yield (
                "write",
                (f"{name} must be a file name without a folder, because it is written into the folder of the task"),
            )
    if task.inputs and task.shape:
        yield "shape", "inputs and shape are both given, but the inputs have a shape: leave shape out"
    if task.class_names and not task.labels:
        yield "class_names", "class_names is given without labels, which it needs"
    if task.expected and not (task.inputs or task.keras_inputs):
        yield "expected", "expected is given without inputs, but the expected outputs belong to certain inputs"


def _asks(task: Task, step: str) -> bool:
    return step in task.do


def _repeated(placed: Sequence[LocatedTask]) -> Iterator[Fault]:
    """Yield a fault for each task name that occurs twice; upper and lower case are equal, as in some file systems."""
    first: dict[str, LocatedTask] = {}
    for one in placed:
        other = first.setdefault(one.task.name.lower(), one)
        if other is not one:
            yield one.fault("name", f"the name of this task is taken: {other.where} has a task of the same name")
