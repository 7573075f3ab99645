"""An ONNX file is run in onnxruntime, on the CPU."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from keras3conv.errors import InputError, ModelError
from keras3conv.transforms import Array
from keras3conv.validators.onnx.inputs import fitted, ordered

_QUIET = 4
"""Of onnxruntime's levels of severity, the one at which only what is fatal is printed."""


def run(path: Path, feeds: Mapping[str, Array] | Sequence[Array], *, twice: bool = False) -> dict[str, Array]:
    """Runs a file.

    Args:
        path: The file; it must have been checked.
        feeds: An array for every input, by the file's names or in the file's order; each is cast to the type that the
            file asks for.
        twice: Whether it is run once more, to see that it returns the same: what is random agrees with nothing.

    Returns:
        The outputs by name, in the file's order.

    Raises:
        ModelError: onnxruntime refuses the file, or the inputs; the message holds what it said. Or the file returns
            something else when it is run again, or what is no array.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _QUIET
    with _refusals(path):
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        _refuse_what_is_no_tensor(path, (*session.get_inputs(), *session.get_outputs()))
        given = _given(path, session.get_inputs(), feeds)
        names = [output.name for output in session.get_outputs()]
        outputs = session.run(names, given)
        again = session.run(names, given) if twice else outputs
    for name, first, second in zip(names, outputs, again, strict=True):
        if not np.array_equal(first, second, equal_nan=np.asarray(first).dtype.kind == "f"):
            raise ModelError(f"{path.name} returns another {name} when it is run again: something in it is random")
    return dict(zip(names, map(np.asarray, outputs), strict=True))


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """Makes whatever onnxruntime raises one error of ours; its exceptions have no base of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    try:
        yield
    except (
        state.EPFail,
        state.EngineError,
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NoModel,
        state.NoSuchFile,
        state.NotImplemented,
        state.RuntimeException,
        ValueError,
    ) as error:
        raise ModelError(f"onnxruntime refuses {path.name}: {_gist(str(error))}") from error


_PROLOGUE = re.compile(
    r"^\[ONNXRuntimeError\] : \d+ : (\w+) : (?:Load model from .*? failed:)?(?:/\S+ .*?\) (?=[A-Z]))?"
)
"""What onnxruntime says before it comes to the point: a number, a path, and a place in its own code."""


def _gist(said: str) -> str:
    """What onnxruntime said, without its own source lines: "FAIL: Unsupported model IR version: 14"."""
    lines = said.strip().splitlines() or ["nothing was said"]
    return _PROLOGUE.sub(r"\1: ", lines[0])[:400]


def _refuse_what_is_no_tensor(path: Path, entries: Sequence[Any]) -> None:
    for entry in entries:
        if not entry.type.startswith("tensor(") or entry.type == "tensor(string)":
            raise ModelError(f"{path.name}: {entry.name} is a {entry.type}; only arrays of numbers can be compared")


def _given(path: Path, wanted: Sequence[Any], feeds: Mapping[str, Array] | Sequence[Array]) -> dict[str, Array]:
    names = [entry.name for entry in wanted]
    try:
        arrays = ordered(feeds, names, path.name)
        return {
            entry.name: fitted(array, _dtype(entry.type), f"{path.name}: {entry.name}")
            for entry, array in zip(wanted, arrays, strict=True)
        }
    except InputError as error:
        raise ModelError(str(error)) from error


def _dtype(name: str) -> str:
    """The dtype of a type that onnxruntime writes "tensor(float)"."""
    inner = name.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(inner, inner)
