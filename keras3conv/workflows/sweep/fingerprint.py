"""Compute the fingerprint of a task: the digest of everything that its result depends on."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from keras3conv.report.environment import installed_versions
from keras3conv.report.overview import Row
from keras3conv.workflows.factories import factory_of
from keras3conv.workflows.sweep.task import DATA_FILES, LIMITS, MODELS, WEIGHTS, Task

Digests = dict[str, tuple[int, int, str]]
"""For each file, its size in bytes, its modification time in nanoseconds, and its sha256."""

_BLOCK = 1 << 20


def fingerprint(task: Task, known: Mapping[str, tuple[int, int, str]]) -> tuple[str, Digests]:
    """Return the fingerprint of a task (a digest), and the digests of the files that the fingerprint covers.

    The fingerprint covers the options, the content of every file that the task names, and the versions of the packages.
    It does not cover the limits of time and memory, nor the folder in which the task runs.

    Args:
        task: The task; its files exist.
        known: Files whose digests are known; a file with the same size and time of change is not read again.
    """
    digests = {str(path): _digest(path, known) for path in _files(task)}
    options = {key: value for key, value in task.to_json().items() if key not in (*LIMITS, "folder")}
    content = [options, sorted(digest[2] for digest in digests.values()), installed_versions()]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest(), digests


def is_done(row: Row, task: Task, expected: str) -> bool:
    """Return whether the result of an earlier run is still valid, so that a task need not run again.

    The result is not valid if a limit stopped the task and the limit is higher now, or if a file of code that the task
    imported has changed.

    Args:
        row: The result.
        task: The task as it is now.
        expected: The fingerprint of the task as it is now.
    """
    if row.fingerprint != expected or row.status in ("lost", "not run"):
        return False
    if row.status == "timed out" and task.time_limit > row.time_limit:
        return False
    if row.status == "out of memory" and task.memory_limit > row.memory_limit:
        return False
    return all(_sha256(Path(path)) == sha256 for path, sha256 in row.sources.items())


def changed_files(row: Row, digests: Digests) -> Iterator[str]:
    """Yield the files of an earlier result that have other content now: those that the task names, then its code.

    Args:
        row: The result.
        digests: The digests of the files that the task names now.
    """
    for path, (_, _, sha256) in row.digests.items():
        if path in digests and digests[path][2] != sha256:
            yield path
    for path, sha256 in row.sources.items():
        if path not in row.digests and _sha256(Path(path)) != sha256:
            yield path


def _files(task: Task) -> list[Path]:
    """Return the files that a task names: data, models, weights and the code of factories."""
    folder, found = Path(task.folder), []
    for key in (*DATA_FILES, *MODELS, *WEIGHTS):
        argument = getattr(task, key)
        factory = factory_of(task.located(argument)) if argument and key in MODELS else None
        if factory is not None:
            found += [Path(factory[0])] if factory[0].endswith(".py") else []
        elif argument:
            path = folder / argument
            found += sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    return list(dict.fromkeys(found))


def _digest(path: Path, known: Mapping[str, tuple[int, int, str]]) -> tuple[int, int, str]:
    facts = path.stat()
    if (before := known.get(str(path))) and before[:2] == (facts.st_size, facts.st_mtime_ns):
        return facts.st_size, facts.st_mtime_ns, before[2]
    return facts.st_size, facts.st_mtime_ns, _sha256(path)


def _sha256(path: Path) -> str:
    if not path.is_file():
        return ""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            found.update(block)
    return found.hexdigest()
