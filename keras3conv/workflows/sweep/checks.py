"""Check all tasks of a sweep before the first one runs: whether files can be read and factories imported."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from keras3conv import formats
from keras3conv.errors import FileError, InputError, Keras3ConvError, message_of
from keras3conv.formats.keras import json as keras_json
from keras3conv.messages import with_article
from keras3conv.workflows.factories import factory_of
from keras3conv.workflows.sweep.reading import Fault, LocatedTask
from keras3conv.workflows.sweep.task import DATA_FILES, MODELS, WEIGHTS

IMPORT_SECONDS = 300.0
"""The time limit, in seconds, for importing the factories of all tasks."""

_SIDE_OF_KEY = {"torch_weights": "torch", "keras_weights": "keras"}


def faults_of_files(placed: Sequence[LocatedTask]) -> list[Fault]:
    """Return a fault (an error in the definition of a task) for every file that does not exist or cannot be read.

    Of the files of models only the header is read.
    """
    return [fault for one in placed for fault in _of_files(one)]


def faults_of_factories(placed: Sequence[LocatedTask]) -> list[Fault]:
    """Return a fault (an error in the definition of a task) for every factory that cannot be imported."""
    faults: list[Fault] = []
    factories: dict[tuple[str, str], list[tuple[LocatedTask, str]]] = {}
    for one in placed:
        for key in MODELS:
            argument = getattr(one.task, key)
            try:
                is_factory = bool(argument) and factory_of(one.task.located(argument)) is not None
            except InputError as error:
                faults.append(one.fault(key, _first_line(error)))
                continue
            if is_factory:
                factories.setdefault((one.task.folder, argument), []).append((one, key))
    answers = import_factories(list(factories), next((one.task.backend for one in placed), ""))
    for factory, users in factories.items():
        if fact := answers[factory]:
            faults += [one.fault(key, fact) for one, key in users]
    return faults


def import_factories(factories: Sequence[tuple[str, str]], backend: str) -> dict[tuple[str, str], str]:
    """Import factories in other processes, without calling them; return the error of each, empty for none.

    A process imports one factory after another. If the process ends during an import, a new process imports the
    remaining factories.

    Args:
        factories: For each factory, the folder from which it is imported, and its name.
        backend: The backend of Keras.
    """
    answers: dict[tuple[str, str], str] = {}
    while remaining := [factory for factory in factories if factory not in answers]:
        folder = remaining[0][0]
        batch = [factory for factory in remaining if factory[0] == folder]
        said, ending = _import_in_process(folder, [argument for _, argument in batch], backend)
        answers |= dict(zip(batch, said, strict=False))
        if len(said) < len(batch):
            answers[batch[len(said)]] = f"{batch[len(said)][1]} cannot be imported: {ending}"
    return answers


def _import_in_process(folder: str, arguments: Sequence[str], backend: str) -> tuple[list[str], str]:
    """Import factories in one process, which may end (crash) during one of the imports.

    Args:
        folder: The folder from which they are imported.
        arguments: The factories.
        backend: The backend of Keras; empty for its default.

    Returns:
        The error of each factory that was imported before the process ended, empty for none, and why the process ended.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TF_CPP_MIN_LOG_LEVEL": "3"}
    if backend:
        environment["KERAS_BACKEND"] = backend
    command = [sys.executable, "-m", "keras3conv.workflows.sweep.imports", *arguments]
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    ) as process:
        try:
            output, _ = process.communicate(timeout=IMPORT_SECONDS)
            ending = f"the process ended with exit status {process.returncode}"
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            ending = f"the import takes longer than {IMPORT_SECONDS:g} seconds"
    lines = output.decode(errors="replace").splitlines()
    return [str(json.loads(line)) for line in lines], ending


def _of_files(one: LocatedTask) -> Iterator[Fault]:
    """Yield the faults (errors in the definition) of the files that a task reads and writes."""
    task = one.task
    for key in DATA_FILES:
        path = getattr(task, key)
        if path and not Path(one.task.located(path)).is_file():
            yield one.fault(key, f"{path} does not exist")
    for key in (*MODELS, *WEIGHTS):
        path = getattr(task, key)
        if (
            path
            and (key in WEIGHTS or _names_a_file(one, path))
            and (fact := _unreadable(one.task.located(path), key, task.entry))
        ):
            yield one.fault(key, fact)
    sides = set()
    for name in task.write:
        try:
            sides.add(formats.side_of(Path(name)))
        except FileError as error:
            yield one.fault("write", _first_line(error))
    if len(sides) > 1:
        yield one.fault("write", "the files belong to both frameworks, but a transfer writes files of one framework")


def _names_a_file(one: LocatedTask, argument: str) -> bool:
    try:
        return factory_of(one.task.located(argument)) is None
    except InputError:
        return False


@cache
def _unreadable(path: str, key: str, entry: str) -> str:
    """Return the reason why a file of a model cannot be read, empty if it can; only its header is read.

    Args:
        path: The file.
        key: The key of the task that names it; it tells which framework the file must be of.
        entry: The name of the state dict, if a torch checkpoint holds several.
    """
    file = Path(path)
    if not file.exists():
        return f"{path} does not exist"
    try:
        side = "keras" if formats.is_architecture(file) else formats.side_of(file)
        if _SIDE_OF_KEY.get(key, key) not in ("model", side):
            return f"{path} is {with_article(side)} file, but the key {key} needs a file of the other framework"
        if formats.is_architecture(file):
            keras_json.read(file)
        else:
            formats.read(file, entry=entry if side == "torch" else "")
    except Keras3ConvError as error:
        return _first_line(error)
    return ""


def _first_line(error: Keras3ConvError) -> str:
    return message_of(error).partition("\n")[0]
