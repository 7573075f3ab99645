"""Save a Keras model and run it in a new process with another backend.

The process reads a folder with `model.keras`, `inputs.npz`, `inputs.json` (the nested structure of the inputs) and
`own_code.json` (the modules of custom classes). It writes `outputs-BACKEND.npz`, or `refused-BACKEND.json` with a
reason. Arrays are read without pickles.
"""

import importlib
import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras3conv.errors import RAISED_BY_MODELS, ModelError, message_of
from keras3conv.frameworks.keras.tree import layers_of
from keras3conv.frameworks.shared.recording import Recording
from keras3conv.transforms import Array

Place = tuple[str, str]
"""The name of a Python module, and the name of an attribute in the module."""

TIMEOUT = 600.0
"""The time in seconds after which a process is killed."""

_LAST_LINES = 12


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """The result of a process that could not load the model; this does not prove a difference between backends."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Death:
    """The result of a process that failed or timed out, with the last lines of its output."""

    said: str


def save(model: Any, inputs: Any, folder: Path) -> None:
    """Save a model and its inputs, so that another process can run the model.

    Raises:
        ModelError: Keras cannot save the model, the inputs cannot be saved, or another process cannot import a custom
            class of the model. The message is one line: the reason why the comparison of the backends is skipped.
    """
    from keras3conv.frameworks.keras import files as keras_files

    try:
        keras_files.save(model, folder / "model.keras", overwrite=False)
    except (ValueError, TypeError, OSError, KeyError, AttributeError, NotImplementedError) as error:
        first = message_of(error).strip().splitlines()[0] if message_of(error).strip() else type(error).__name__
        raise ModelError(f"Keras cannot save {model.name}: {type(error).__name__}: {first}") from error
    found, hidden = places(model, folder / "model.keras")
    if hidden:
        first = next(iter(hidden))
        raise ModelError(
            f"{', '.join(hidden.values())}, where no other process can import it: put it into a module, "
            f"my_layers.py, and import it from there: from my_layers import {first}"
        )
    (folder / "own_code.json").write_text(json.dumps(found))
    arrays: dict[str, Array] = {}
    tree = _tree(inputs, arrays)
    np.savez(folder / "inputs.npz", **arrays)  # type: ignore[arg-type]
    (folder / "inputs.json").write_text(json.dumps(tree))


def run_all(
    folder: Path, backends: Sequence[str], timeout: float | None = None
) -> Mapping[str, Recording | Refusal | Death]:
    """Run a saved model with several backends at the same time, each in its own process; return the results by backend.

    Args:
        folder: The folder that `save` wrote.
        backends: The backends of Keras.
        timeout: The time limit in seconds for all processes together; `TIMEOUT` by default.
    """
    started = {name: _start(folder, name) for name in backends}
    deadline = time.monotonic() + (TIMEOUT if timeout is None else timeout)
    try:
        return {name: _result(folder, name, process, deadline) for name, process in started.items()}
    finally:
        for process in started.values():
            if process.poll() is None:
                process.kill()
                process.wait()


def main(folder: Path, backend: str) -> None:
    """Load the model, run it once and write its outputs; the entry point of the new process.

    Args:
        folder: The folder that `save` wrote, in which the outputs are written, too.
        backend: The backend on which Keras runs in this process, for the name of the output file.
    """
    from keras3conv.frameworks.keras import files as keras_files
    from keras3conv.frameworks.keras import model as keras_side

    if keras_side.backend() != backend:
        raise ModelError(
            f"the new process must run Keras on {backend}, but Keras runs on {keras_side.backend()}"
            ": set KERAS_BACKEND before Keras is imported"
        )
    try:
        own = imported(json.loads((folder / "own_code.json").read_text()))
        model = keras_files.load(folder / "model.keras", own)
    except (ModelError, ImportError, *RAISED_BY_MODELS) as error:
        is_ours = isinstance(error, ModelError)  # wraps an exception of Keras
        cause = error.__cause__ if is_ours and isinstance(error.__cause__, Exception) else error
        reason = f"{type(cause).__name__}: {keras_side.error_message(cause)}"
        (folder / f"refused-{backend}.json").write_text(json.dumps(reason))
        return
    with np.load(folder / "inputs.npz", allow_pickle=False) as arrays:
        inputs = _inputs(json.loads((folder / "inputs.json").read_text()), arrays)
    with keras_side.precise():
        outputs = keras_side.run(model, inputs, watch=False).outputs
    # numpy cannot save bfloat16; float32 represents all of its values.
    wide = {
        f"output {name}": array if array.dtype.kind in "fiub" else array.astype(np.float32)
        for name, array in outputs.items()
    }
    np.savez(folder / f"outputs-{backend}.npz", **wide)  # type: ignore[arg-type]


def _start(folder: Path, backend: str) -> "subprocess.Popen[str]":
    """Start a process that runs a saved model with one Keras backend, with the import path of this process."""
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment["TF_CPP_MIN_LOG_LEVEL"] = "3"
    command = [sys.executable, "-m", "keras3conv.frameworks.processes", str(folder), backend]
    log = (folder / f"log-{backend}.txt").open("w")
    with log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, text=True)


def _result(
    folder: Path, backend: str, process: "subprocess.Popen[str]", deadline: float
) -> Recording | Refusal | Death:
    try:
        status = process.wait(timeout=max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return Death(said="the process timed out\n" + _last_lines(folder, backend))
    refused, made = folder / f"refused-{backend}.json", folder / f"outputs-{backend}.npz"
    if status == 0 and refused.exists():
        return Refusal(reason=str(json.loads(refused.read_text())))
    if status != 0 or not made.exists():
        return Death(said=f"exit status {status}\n" + _last_lines(folder, backend))
    with np.load(made, allow_pickle=False) as arrays:
        return Recording(outputs={name.removeprefix("output "): arrays[name] for name in arrays.files})


def _last_lines(folder: Path, backend: str) -> str:
    text = (folder / f"log-{backend}.txt").read_text(errors="replace")
    return "\n".join(f"      {line}" for line in text.strip().splitlines()[-_LAST_LINES:])


def _tree(value: Any, arrays: dict[str, Array]) -> Any:
    """Return the nested structure of a model's inputs for JSON, with the names of the arrays in place of the arrays.

    Args:
        value: The inputs.
        arrays: The arrays by these names; new ones are added.

    Raises:
        ModelError: An array does not have numbers.
    """
    if isinstance(value, dict):
        return {"dict": {str(name): _tree(item, arrays) for name, item in value.items()}}
    if isinstance(value, tuple | list):
        return {"tuple" if isinstance(value, tuple) else "list": [_tree(item, arrays) for item in value]}
    if value is None or isinstance(value, bool | int | float | str):
        return {"value": value}
    array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    if array.dtype.kind not in "fiub":
        raise ModelError(f"an input of dtype {array.dtype} cannot be passed to another process; convert it to numbers")
    name = f"array {len(arrays)}"
    arrays[name] = array
    return {"array": name}


def _inputs(tree: Mapping[str, Any], arrays: Mapping[str, Array]) -> Any:
    ((kind, value),) = tree.items()
    if kind == "dict":
        return {name: _inputs(item, arrays) for name, item in value.items()}
    if kind in ("tuple", "list"):
        made = [_inputs(item, arrays) for item in value]
        return tuple(made) if kind == "tuple" else made
    return value if kind == "value" else arrays[value]


def places(model: keras.layers.Layer, saved: Path) -> tuple[dict[str, Place], dict[str, str]]:
    """Find the modules from which another process can import the custom classes and functions of a saved model.

    Args:
        model: The model.
        saved: The `.keras` file of the model.

    Returns:
        For each custom name in the file, its module and attribute; and for names that cannot be imported, the reason.
    """
    objects = dict(_custom_objects(model))
    found: dict[str, Place] = {}
    hidden: dict[str, str] = {}
    for name in sorted(_names(saved) & objects.keys()):
        module = objects[name].__module__
        is_importable = getattr(sys.modules.get(module), name, None) is objects[name]
        if module.startswith("keras3conv.") and not is_importable:
            continue  # loading a file registers this class
        if "<locals>" in objects[name].__qualname__:
            hidden[name] = f"{name} is defined inside of a function"
        elif module == "__main__":
            hidden[name] = f"{name} is defined in the program itself (__main__)"
        elif not is_importable:
            hidden[name] = f"{module} has no {name} at its top level"
        else:
            found[name] = module, name
    return found, hidden


def imported(places: Mapping[str, Iterable[str]]) -> dict[str, Any]:
    """Import custom classes and functions; return them by name, as the `custom_objects` with which Keras loads a model.

    Args:
        places: For each name in the file of the model, the module and the attribute in it.

    Raises:
        ImportError: A module, or the attribute in it, does not exist.
    """
    objects = {}
    for name, (module, attribute) in places.items():
        try:
            objects[name] = getattr(importlib.import_module(module), attribute)
        except AttributeError as error:
            raise ImportError(
                f"the Python module {module} has no {attribute}, which the model needs: define it there"
            ) from error
    return objects


def _custom_objects(model: keras.layers.Layer) -> Iterator[tuple[str, Any]]:
    """Yield the custom classes and functions of a model's layers and of their attributes, each after its name."""
    for layer in layers_of(model):
        for value in (layer, *vars(layer).values()):
            part = value if _is_function(value) else type(value)
            if (part is value or hasattr(value, "get_config")) and not _is_of_keras(part.__module__):
                yield part.__name__, part


def _is_function(value: object) -> bool:
    return callable(value) and hasattr(value, "__qualname__") and not isinstance(value, type)


def _is_of_keras(module: str | None) -> bool:
    return module is None or module == "keras" or module.startswith("keras.")


def _names(saved: Path) -> set[str]:
    """Return the names of the custom classes and functions in the `.keras` file of a model."""
    with zipfile.ZipFile(saved) as archive:
        return set(_names_in(json.loads(archive.read("config.json"))))


def _names_in(config: object) -> Iterator[str]:
    if isinstance(config, dict):
        name, inner = config.get("class_name"), config.get("config")
        if name == "function" and isinstance(inner, str):
            yield inner.rpartition(">")[2]  # a registered function has the name of its package before its own
        elif isinstance(name, str) and not str(config.get("module")).startswith("keras"):
            yield name
        for value in config.values():
            yield from _names_in(value)
    elif isinstance(config, list):
        for value in config:
            yield from _names_in(value)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
