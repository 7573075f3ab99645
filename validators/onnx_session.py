"""An ONNX file is run in onnxruntime, on the CPU."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from keras3conv.errors import ModelError
from keras3conv.transforms import Array

_QUIET = 4
"""Of onnxruntime's levels of severity, the one at which only what is fatal is printed."""


def run(path: Path, arrays: Sequence[Array]) -> dict[str, Array]:
    """Runs a file once.

    Args:
        path: The file; it must have been checked.
        arrays: An array for every input, in the file's order; each is cast to the type that the file asks for.

    Returns:
        The outputs by name, in the file's order.

    Raises:
        ModelError: onnxruntime refuses the file, or the inputs; the message holds what it said.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _QUIET
    with _refusals(path):
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        feeds = _feeds(path, session.get_inputs(), arrays)
        outputs = session.run(None, feeds)
        return dict(zip([output.name for output in session.get_outputs()], map(np.asarray, outputs), strict=True))


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
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"onnxruntime refuses {path.name}: {said[0][:400]}") from error


def _feeds(path: Path, wanted: Sequence[Any], arrays: Sequence[Array]) -> Mapping[str, Array]:
    if len(wanted) != len(arrays):
        names = ", ".join(entry.name for entry in wanted)
        raise ModelError(
            f"{path.name} takes {len(wanted)} inputs ({names}), and the model was called with {len(arrays)}"
        )
    return {
        entry.name: np.ascontiguousarray(array, dtype=_dtype(entry.type))
        for entry, array in zip(wanted, arrays, strict=True)
    }


def _dtype(name: str) -> str:
    """The dtype of a type that onnxruntime writes "tensor(float)"."""
    inner = name.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(inner, inner)
