"""Run an ONNX file in onnxruntime, on the CPU."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from keras3conv.errors import InputError, ModelError, message_of
from keras3conv.messages import with_article
from keras3conv.transforms import Array
from keras3conv.validators.onnx.inputs import cast, in_file_order

_QUIET = 4
"""The log level with which onnxruntime only prints fatal errors."""


def run(path: Path, feeds: Mapping[str, Array] | Sequence[Array], *, twice: bool = False) -> dict[str, Array]:
    """Run an ONNX file that passed the check of `preflight`.

    Args:
        path: The file.
        feeds: An array for every input, by name or in the file's order; it is cast to the dtype of the input.
        twice: Whether to run the file again, and raise `ModelError` if its outputs change.

    Returns:
        The outputs by name, in the file's order.

    Raises:
        ModelError: onnxruntime rejects the file or the inputs, the outputs are random, or an output is not an array of
            numbers.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _QUIET
    with _refusals(path):
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        _require_tensors(path, (*session.get_inputs(), *session.get_outputs()))
        arrays = _input_arrays(path, session.get_inputs(), feeds)
        names = [output.name for output in session.get_outputs()]
        outputs = session.run(names, arrays)
        second_outputs = session.run(names, arrays) if twice else outputs
    for name, first, second in zip(names, outputs, second_outputs, strict=True):
        if not np.array_equal(first, second, equal_nan=np.asarray(first).dtype.kind == "f"):
            raise ModelError(f"{path.name} draws random numbers: its output {name} changes when the file is run again")
    return dict(zip(names, map(np.asarray, outputs), strict=True))


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """Convert the exceptions of onnxruntime in the block to `ModelError`; they have no common base class."""
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
        raise ModelError(
            f"onnxruntime cannot run {path.name}: {_without_source_location(message_of(error))}"
        ) from error


_PROLOGUE = re.compile(
    r"^\[ONNXRuntimeError\] : \d+ : (\w+) : (?:Load model from .*? failed:)?(?:/\S+ .*?\) (?=[A-Z]))?"
)
"""A pattern for the start of onnxruntime's messages: an error number, a path, and a location in its source code."""


def _without_source_location(message: str) -> str:
    """Return a message's first line without the location in onnxruntime: "FAIL: Unsupported model IR version: 14"."""
    lines = message.strip().splitlines() or ["without a message"]
    return _PROLOGUE.sub(r"\1: ", lines[0])[:400]


def _require_tensors(path: Path, entries: Sequence[Any]) -> None:
    for entry in entries:
        if not entry.type.startswith("tensor(") or entry.type == "tensor(string)":
            raise ModelError(
                f"{path.name}: the value {entry.name} is {with_article(entry.type)}, but only arrays of numbers can be "
                "compared"
            )


def _input_arrays(path: Path, inputs: Sequence[Any], feeds: Mapping[str, Array] | Sequence[Array]) -> dict[str, Array]:
    names = [entry.name for entry in inputs]
    try:
        arrays = in_file_order(feeds, names, path.name)
        return {
            entry.name: cast(array, _dtype(entry.type), f"{path.name}: {entry.name}")
            for entry, array in zip(inputs, arrays, strict=True)
        }
    except InputError as error:
        raise ModelError(message_of(error)) from error


def _dtype(name: str) -> str:
    """Return the numpy dtype of an onnxruntime type: "float32" for "tensor(float)"."""
    inner = name.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(inner, inner)
