"""Define a task of a sweep: the models, the inputs, the options and the steps."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from keras3conv.validators.running.options import BACKENDS

Step = Literal["align", "transfer", "convert", "validate"]
"""The possible steps of a task, in execution order."""

STEPS: tuple[Step, ...] = get_args(Step)
DTYPES = ("float32", "float64", "float16", "bfloat16")

PROOFS = ("structure", "roundtrip", "hyperparameters", "float64", "activations", "outputs", "gradients")
"""The names of the proofs that the key `proofs` of a task can request, without those that need another key."""

OPTIONAL_PROOFS = ("expected", "backends", "onnx", "accuracy")
"""The proofs that run only if the task has the key `expected`, `backends`, `onnx` or `labels`."""

TIME_LIMIT = 3600.0
"""The time limit of a task in seconds, if none is given."""

LIMITS = ("time_limit", "memory_limit", "cpus", "gpus")
"""The keys of a task that only set limits: they cannot change the result, but can stop the task before it has one."""

_SIZE = re.compile(r"(\d+(?:\.\d+)?) *(KiB|MiB|GiB|TiB|kB|KB|MB|GB|TB)?")
_UNITS = {
    **{unit: 1024**power for power, unit in enumerate(("KiB", "MiB", "GiB", "TiB"), 1)},
    **{unit: 1000**power for power, unit in enumerate(("kB", "MB", "GB", "TB"), 1)},
    "KB": 1000,
}


@dataclass(frozen=True, kw_only=True)
class Task:
    """One model to convert, or two models to align, to transfer and to validate.

    Paths are relative to `folder`, in which the process of the task runs. The options have the meaning and the names
    of the options of `align`, `transfer`, `convert` and `validate`.

    Attributes:
        name: The name, unique in a sweep; also the name of the folder with the results of the task.
        folder: The folder from which the paths of the task start.
        model: The model to convert: a file or a factory.
        torch: The torch side: a file or a factory.
        keras: The Keras side: a file or a factory.
        torch_weights: The weights to load into a torch module.
        keras_weights: The weights to load into a Keras model.
        entry: The state dict to read, if a torch checkpoint contains several.
        do: The steps to run.
        write: The names of the files that a transfer writes; the suffix selects the framework and the format.
        plan: The plan to use, as `align -o` wrote it.
        hints: Known pairs of layers.
        ignore: The layers and tensors to ignore, each with a reason.
        inputs: The file with the inputs of the torch module, or of the model to convert.
        keras_inputs: The file with the inputs of the Keras model.
        shape: The shape of random inputs, instead of a file.
        proofs: The proofs to run; all by default.
        tolerance: The allowed difference: the absolute and the relative one.
        training: Whether differences that matter only in training are failures.
        labels: The file with the labels of the inputs.
        class_names: The file with the names of the classes.
        onnx: Whether to compare both sides in onnxruntime as well.
        backends: Other backends on which the saved Keras model is run.
        expected: The file with the expected outputs.
        channels: The layout of images in a converted model: "first" or "last".
        cast: Whether values may lose precision in narrower dtypes.
        accept_difference: Whether to transfer although the outputs are known to differ.
        backend: The backend of Keras; by default the one of the environment.
        dtype: The default dtype of both frameworks while the factories make the models.
        time_limit: The time limit in seconds.
        memory_limit: The memory limit in bytes; 0 for an equal share of the memory of the machine.
        cpus: The number of processors that the task needs.
        gpus: The number of GPUs that the task needs on Ray.
    """

    name: str
    folder: str = "."
    model: str = ""
    torch: str = ""
    keras: str = ""
    torch_weights: str = ""
    keras_weights: str = ""
    entry: str = ""
    do: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    plan: str = ""
    hints: Mapping[str, str] = field(default_factory=dict)
    ignore: Mapping[str, str] = field(default_factory=dict)
    inputs: str = ""
    keras_inputs: str = ""
    shape: tuple[int, ...] = ()
    proofs: tuple[str, ...] = ()
    tolerance: tuple[float, ...] = ()
    training: bool = False
    labels: str = ""
    class_names: str = ""
    onnx: bool = False
    backends: tuple[str, ...] = ()
    expected: str = ""
    channels: str = ""
    cast: bool = False
    accept_difference: bool = False
    backend: str = ""
    dtype: str = "float32"
    time_limit: float = TIME_LIMIT
    memory_limit: int = 0
    cpus: int = 1
    gpus: float = 0

    @property
    def sides(self) -> str:
        """The models of the task in one line: the model to convert, or "net.pt <-> net.keras"."""
        return self.model or f"{self.torch} <-> {self.keras}"

    def located(self, argument: str) -> str:
        """Return the path of a file or factory, with the folder of the task: "nets.py:make" -> "dir/nets.py:make".

        A factory in a module ("package.module:make") has no path, and is returned unchanged.
        """
        path, colon, name = argument.rpartition(":")
        if colon and path.endswith(".py"):
            return f"{Path(self.folder) / path}:{name}"
        is_module = colon and not (Path(self.folder) / argument).exists()
        return argument if is_module else str(Path(self.folder) / argument)

    def to_json(self) -> dict[str, Any]:
        """Return the task as JSON data."""
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "Task":
        """Return the task from JSON data that `to_json` made."""
        values: dict[str, Any] = {key: tuple(one) if isinstance(one, list) else one for key, one in data.items()}
        return Task(**values)


KEYS = tuple(one.name for one in fields(Task) if one.name != "folder")
"""The keys that a task can have in a sweep file, except `matrix`."""

MODELS = ("model", "torch", "keras")
WEIGHTS = ("torch_weights", "keras_weights")
DATA_FILES = ("plan", "inputs", "keras_inputs", "labels", "class_names", "expected")
EXPANDABLE = (*MODELS, *WEIGHTS)
"""The task keys whose value may be a list or a glob of files; the sweep then has one task for each file."""

_TEXTS = ("name", *MODELS, *WEIGHTS, *DATA_FILES, "entry", "channels", "backend", "dtype")
_TEXT_LISTS = ("do", "write", "proofs", "backends")
_TEXT_MAPS = ("hints", "ignore")
_FLAGS = ("training", "onnx", "cast", "accept_difference")
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "do": STEPS,
    "backend": BACKENDS,
    "dtype": DTYPES,
    "channels": ("first", "last"),
    "proofs": (*PROOFS, *OPTIONAL_PROOFS),
    "backends": (*BACKENDS, "all"),
}


def read_value(key: str, value: Any) -> Any:
    """Return a value of a sweep file, converted to the type that `Task` has for the key.

    Raises:
        ValueError: The value has another type, or is not among the choices; the message says which values are allowed.
    """
    made = _read(key, value)
    if choices := _CHOICES.get(key):
        for one in made if isinstance(made, tuple) else (made,):
            if one not in choices:
                raise ValueError(f"{one!r} is not allowed here; the allowed values are {', '.join(choices)}")
    return made


def _read(key: str, value: Any) -> Any:
    if key in _TEXTS:
        return _require(value, isinstance(value, str), "a text")
    if key in _TEXT_LISTS:
        return tuple(_texts(value))
    if key in _TEXT_MAPS:
        is_map = isinstance(value, Mapping) and all(isinstance(one, str) for one in value.values())
        return dict(_require(value, is_map, "a table of texts"))
    if key in _FLAGS:
        return _require(value, isinstance(value, bool), "true or false")
    if key in ("shape", "cpus"):
        sizes = value if key == "shape" else [value]
        are_sizes = isinstance(sizes, list | tuple) and all(_is_number(size, int) and size > 0 for size in sizes)
        wanted = "a list of sizes, as [1, 3, 224, 224]" if key == "shape" else "a number from 1"
        if isinstance(sizes, list) and any(isinstance(size, list) for size in sizes):
            wanted += ' (a model with several inputs needs a file of them: inputs = "inputs.npz")'
        _require(value, are_sizes, wanted)
        return tuple(sizes) if key == "shape" else value
    if key == "tolerance":
        is_pair = isinstance(value, list | tuple) and len(value) == 2 and all(_is_number(one, float) for one in value)
        return tuple(map(float, _require(value, is_pair, "two numbers, the absolute and the relative tolerance")))
    if key == "memory_limit":
        return read_size(value)
    is_amount = _is_number(value, float) and (value > 0 or (key == "gpus" and value == 0))
    return float(_require(value, is_amount, "a number of seconds" if key == "time_limit" else "a number"))


def read_size(value: Any) -> int:
    """Return a number of bytes: from a number, or from a text such as "4 GiB"; raise `ValueError` otherwise."""
    if _is_number(value, int) and value > 0:
        return int(value)
    found = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None or not float(found[1]):
        raise ValueError(f'{value!r} is not an amount of memory; write it as "4 GiB"')
    return int(float(found[1]) * _UNITS.get(found[2], 1))


def _is_number(value: object, kind: type) -> bool:
    return isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)


def _texts(value: Any) -> list[str]:
    values = [value] if isinstance(value, str) else value
    are_texts = isinstance(values, list | tuple) and all(isinstance(one, str) for one in values)
    return list(_require(values, are_texts, "a text, or a list of texts"))


def _require(value: Any, holds: bool, needed: str) -> Any:
    if not holds:
        raise ValueError(f"the value must be {needed}, but is {value!r}")
    return value
