"""Export each model to ONNX with the exporter of its framework, and record which exporter really ran."""

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from keras3conv.errors import Keras3ConvError, message_of, require
from keras3conv.validators.onnx.inputs import dynamic_shapes, keras_signature, with_batch_of_two

FEATURE = "validate(onnx=True)"

_LOGGERS = ("torch.onnx", "tf2onnx", "tensorflow", "onnxscript", "onnx_ir", "jax2onnx", "absl")

_KERAS_EXPORTERS = {"tensorflow": "tf2onnx", "jax": "jax2onnx"}
"""The package with which Keras exports to ONNX, by backend; on the torch backend Keras uses torch's exporter."""

_SCOPE = re.compile(r", scope: \S+(?: # \S+)?")
"""A pattern for the scope of a node in messages of torch's exporter.

The scope is removed from messages, because it is longer than the message.
"""

_COLOUR = re.compile("\x1b\\[[0-9;]*m")


class ExportFailed(Keras3ConvError):
    """An exporter to ONNX raised an exception, or is not installed."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """An exported ONNX file.

    Attributes:
        path: The file.
        exporter: The exporter that really ran, with its version.
        opset: Version of the default operator set that the file imports.
        free_batch: Whether the file declares a dynamic batch size.
        sorted_keys: Whether outputs that the model returns in a dict are sorted by key in the file; False if they are
            in the order of the dict.
        note: A remark for the report, such as the error of another exporter that was tried before this one.
    """

    path: Path
    exporter: str
    opset: int
    free_batch: bool
    sorted_keys: bool = False
    note: str = ""

    def __str__(self) -> str:
        batch = "any batch size" if self.free_batch else "one batch size"
        description = f"{self.exporter}, opset {self.opset}, {batch}"
        return f"{description}; {self.note}" if self.note else description


def require_packages(backend: str) -> None:
    """Raise `MissingExtra`, which names all packages that an export to ONNX needs and that are not installed."""
    packages = ["onnx", "onnxruntime", "onnxscript"]
    if backend == "tensorflow":
        packages.append("tf2onnx")
    require(FEATURE, *packages)


def export_torch(module: Any, inputs: Any, path: Path) -> Exported:
    """Export a torch module with `torch.onnx.export(dynamo=True)`, with a dynamic batch size if the module allows it.

    Args:
        module: The module; its training flags are restored.
        inputs: Its inputs, as in `validate`.
        path: The file to write.

    Raises:
        ExportFailed: The exporter raised.
    """
    import torch

    from keras3conv.frameworks.torch import module as torch_side

    arguments, keywords = torch_side.call_arguments(module, inputs)
    arguments, keywords = with_batch_of_two(arguments), with_batch_of_two(keywords)
    shapes = dynamic_shapes(keywords or arguments)
    with torch_side.evaluating(module), torch_side.inference(), _exporting("torch.onnx.export(dynamo=True)"):
        program = torch.onnx.export(
            module, arguments, kwargs=keywords or None, dynamo=True, dynamic_shapes=shapes, verbose=False
        )
        assert program is not None
        program.save(str(path))
    exporter = f"torch {version('torch')} torch.onnx.export(dynamo=True)"
    return _checked(path, exporter, "pytorch")


def export_keras(model: Any, inputs: Any, path: Path) -> Exported:
    """Export a Keras model with `model.export(format="onnx")`, which calls the exporter of its backend.

    On the torch backend, Keras chooses silently between two exporters; the result records which exporter ran. If the
    export with a dynamic batch size fails, the model is exported for the batch size of the inputs, and the result has a
    note about it.

    Args:
        model: The model.
        inputs: Its inputs, as in `validate`.
        path: The file to write.

    Raises:
        ExportFailed: The exporter raised, or is not installed.
    """
    import keras

    from keras3conv.frameworks.keras import model as keras_side

    backend = keras_side.backend()
    package = _KERAS_EXPORTERS.get(backend, "torch")
    if find_spec(package) is None:
        raise ExportFailed(
            f"Keras on {backend} exports with {package}, which is not installed: pip install {package}, or set "
            "KERAS_BACKEND=torch"
        )
    exporter = f"Keras {keras.__version__} on {backend}"
    if backend == "torch":
        return _export_keras_on_torch(model, inputs, path, exporter)
    with _exporting(f"{exporter}, model.export"):
        model.export(str(path), format="onnx", verbose=False)
    return replace(_checked(path, f"{exporter}: {package} {version(package)}", package), sorted_keys=True)


def _export_keras_on_torch(model: Any, inputs: Any, path: Path, exporter: str) -> Exported:
    from keras3conv.frameworks.torch import module as torch_side

    with torch_side.evaluating(model), _recorded_torch_exports() as attempts:
        try:
            with _exporting(f"{exporter}, model.export"):
                model.export(str(path), format="onnx", verbose=False)
        except ExportFailed:
            signature = keras_signature(model, inputs)
            with _exporting(f"{exporter}, model.export with an input_signature"):
                model.export(str(path), format="onnx", verbose=False, input_signature=signature)
    torch_exporter, note = _which_torch_exporter(attempts)
    exported = _checked(path, f"{exporter}: torch {version('torch')} {torch_exporter}", "pytorch")
    return replace(exported, note="; ".join(filter(None, (note, exported.note))), sorted_keys=not attempts[-1].dynamo)


@dataclass(kw_only=True)
class _Attempt:
    """A call of `torch.onnx.export`.

    Attributes:
        dynamo: Whether the call used the dynamo exporter; False for the TorchScript exporter.
        raised: The exception, in words; empty if there was none.
    """

    dynamo: bool
    raised: str = ""


@contextlib.contextmanager
def _recorded_torch_exports() -> Iterator[list[_Attempt]]:
    """Record the calls of `torch.onnx.export` in the block, and suppress the graphs that its C++ code prints."""
    import torch

    original: Callable[..., Any] = torch.onnx.export
    print_graph = torch._C._jit_onnx_log
    attempts: list[_Attempt] = []

    def recorded(*args: Any, **kwargs: Any) -> Any:
        attempt = _Attempt(dynamo=bool(kwargs.get("dynamo", True)))
        attempts.append(attempt)
        try:
            return original(*args, **kwargs)
        except BaseException as error:
            attempt.raised = f"raised {_first_line(error)}"
            raise

    torch.onnx.export, torch._C._jit_onnx_log = recorded, lambda *_: None
    try:
        yield attempts
    finally:
        torch.onnx.export, torch._C._jit_onnx_log = original, print_graph


def _which_torch_exporter(attempts: list[_Attempt]) -> tuple[str, str]:
    """Return the exporter that wrote the file (the last one that was tried), and a note on those that failed before."""
    *before, last = attempts
    notes = [f"used after the {_kind(one)} exporter, which {one.raised or 'could not save'}" for one in before]
    if not last.dynamo and not notes:
        notes = ["Keras uses it for dynamic batch sizes"]
    return f"torch.onnx.export(dynamo={last.dynamo}), which is the {_kind(last)} exporter", "; ".join(notes)


def _kind(attempt: _Attempt) -> str:
    return "dynamo" if attempt.dynamo else "TorchScript"


@contextlib.contextmanager
def _exporting(step: str) -> Iterator[None]:
    """Suppress the output of an exporter in the block; turn an exception into `ExportFailed` with `step`."""
    printed = io.StringIO()
    with contextlib.ExitStack() as contexts:
        contexts.enter_context(contextlib.redirect_stdout(printed))
        contexts.enter_context(contextlib.redirect_stderr(printed))
        contexts.enter_context(warnings.catch_warnings())
        contexts.enter_context(_loggers_to(printed))
        warnings.simplefilter("ignore")
        try:
            yield
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException as error:  # exporters raise whatever the model's code or a compiler raised
            lines = [line.strip() for line in printed.getvalue().splitlines() if line.strip()]
            last_line = f" (last printed line: {lines[-1][:200]})" if lines else ""
            raise ExportFailed(f"{step} raised {_first_line(error)}{last_line}") from error


@contextlib.contextmanager
def _loggers_to(stream: io.StringIO) -> Iterator[None]:
    """Redirect the messages of the exporters' loggers into a stream within the block."""
    handler = logging.StreamHandler(stream)
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [(logger, logger.propagate, logger.handlers[:]) for logger in loggers]
    for logger in loggers:
        logger.propagate, logger.handlers = False, [handler]
    try:
        yield
    finally:
        for logger, propagate, handlers in before:
            logger.propagate, logger.handlers = propagate, handlers


def _checked(path: Path, exporter: str, producer: str) -> Exported:
    """Return the description of an exported file; raise `ExportFailed` if onnx's checker rejects the file.

    Args:
        path: The file.
        exporter: The exporter that was called.
        producer: The producer name that this exporter writes; if the file has another name, a note is added.
    """
    import onnx

    with _exporting(f"onnx.checker, on the file of {exporter},"):
        onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load_model(str(path), load_external_data=False)
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [entry for entry in model.graph.input if entry.name not in stored]
    batches = [entry.type.tensor_type.shape.dim[0] for entry in inputs if entry.type.tensor_type.shape.dim]
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    free = bool(batches) and all(not batch.HasField("dim_value") for batch in batches)
    actual = f"{model.producer_name} {model.producer_version}".strip() or "empty"
    note = "" if model.producer_name == producer else f"the producer in the file is {actual}, not {producer}"
    return Exported(path=path, exporter=exporter, opset=opset, free_batch=free, note=note)


def _first_line(error: BaseException) -> str:
    """Return the class of an exception, and the line of its message that names the cause."""
    lines = [line.strip() for line in message_of(error).splitlines() if line.strip()]
    # Keras wraps the exception of a layer; the line after the first one names the cause.
    is_wrapped = bool(lines) and lines[0].startswith("Exception encountered when calling ")
    first = _COLOUR.sub("", " ".join(lines[:2] if is_wrapped else lines[:1]))
    cause = next((line for line in lines if line.startswith("<class ")), first)
    cause = _SCOPE.sub("", cause)
    return f"{type(error).__name__}: {cause[:300]}" if cause else type(error).__name__
