"""Each side is written as an ONNX file by its own exporter, and it is said which exporter that really was."""

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

from keras3conv.errors import Keras3ConvError, MissingExtra
from keras3conv.frameworks.shared.recording import flatten
from keras3conv.validators.onnx.inputs import keras_signature

FEATURE = "validate(onnx=True)"

_LOGGERS = ("torch.onnx", "tf2onnx", "tensorflow", "onnxscript", "onnx_ir", "jax2onnx", "absl")

_KERAS_EXPORTERS = {"tensorflow": "tf2onnx", "jax": "jax2onnx"}
"""What Keras exports with, by backend; on torch it is torch's own exporter."""


_SCOPE = re.compile(r", scope: \S+(?: # \S+)?")
"""What torch's exporter says of the place of a node, which is longer than all that it says of the node."""


_COLOUR = re.compile("\x1b\\[[0-9;]*m")


class ExportFailed(Keras3ConvError):
    """An exporter raised, or is not there: there is no file to run."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """An ONNX file, and how it came to be.

    Attributes:
        path: The file.
        exporter: The exporter that really ran, with its version.
        opset: The version of the default operator set that the file asks for.
        free_batch: Whether the file says that it takes any batch size.
        sorted_keys: Whether outputs that the model returns in a dict stand in the order of their keys; elsewhere it is
            the order in which the model put them there.
        note: What a reader should know: that another exporter was tried first, and what it said.
    """

    path: Path
    exporter: str
    opset: int
    free_batch: bool
    sorted_keys: bool = False
    note: str = ""

    def __str__(self) -> str:
        batch = "any batch size" if self.free_batch else "one batch size"
        told = f"{self.exporter}, opset {self.opset}, {batch}"
        return f"{told}; {self.note}" if self.note else told


def require_packages(backend: str) -> None:
    """Raises `MissingExtra` for the first package that is needed and is not installed."""
    needed = ["onnx", "onnxruntime", "onnxscript"]
    needed += ["tf2onnx"] if backend == "tensorflow" else []
    for package in needed:
        if find_spec(package) is None:
            raise MissingExtra(FEATURE, package, "onnx")


def export_torch(module: Any, inputs: Any, path: Path) -> Exported:
    """Exports a torch module with `torch.onnx.export(dynamo=True)`, for any batch size where the module allows it.

    Args:
        module: The module; its training flags are as before afterwards.
        inputs: What it is called with, as in `validate`.
        path: The file to write.

    Raises:
        ExportFailed: The exporter raised.
    """
    import torch

    from keras3conv.frameworks.torch import module as torch_side

    arguments, keywords = torch_side.call_arguments(module, inputs)
    arguments, keywords = _of_two(arguments), _of_two(keywords)
    shapes = _free_batches(keywords or arguments)
    with torch_side.evaluating(module), torch_side.inference(), _exporting("torch.onnx.export(dynamo=True)"):
        program = torch.onnx.export(
            module, arguments, kwargs=keywords or None, dynamo=True, dynamic_shapes=shapes, verbose=False
        )
        assert program is not None
        program.save(str(path))
    exporter = f"torch {version('torch')} torch.onnx.export(dynamo=True)"
    return _described(path, exporter, "pytorch")


def export_keras(model: Any, inputs: Any, path: Path) -> Exported:
    """Exports a Keras model with `model.export(format="onnx")`, which asks the exporter of its backend.

    On the torch backend Keras chooses between two exporters without a word; here it is noticed which. Where the one
    for any batch size fails, the model is exported for the one batch size of the inputs, and that is said.

    Args:
        model: The model.
        inputs: What it is called with, as in `validate`.
        path: The file to write.

    Raises:
        ExportFailed: The exporter raised, or is not installed.
    """
    import keras

    from keras3conv.frameworks.keras import model as keras_side

    backend = keras_side.backend()
    package = _KERAS_EXPORTERS.get(backend, "torch")
    if find_spec(package) is None:
        raise ExportFailed(f"Keras on {backend} exports with {package}, which is not installed: pip install {package}")
    exporter = f"Keras {keras.__version__} on {backend}"
    if backend == "torch":
        return _export_keras_on_torch(model, inputs, path, exporter)
    with _exporting(f"{exporter}, model.export"):
        model.export(str(path), format="onnx", verbose=False)
    return replace(_described(path, f"{exporter}: {package} {version(package)}", package), sorted_keys=True)


def _export_keras_on_torch(model: Any, inputs: Any, path: Path, exporter: str) -> Exported:
    from keras3conv.frameworks.torch import module as torch_side

    with torch_side.evaluating(model), _torch_exports() as attempts:
        try:
            with _exporting(f"{exporter}, model.export"):
                model.export(str(path), format="onnx", verbose=False)
        except ExportFailed:
            signature = keras_signature(model, inputs)
            with _exporting(f"{exporter}, model.export with an input_signature"):
                model.export(str(path), format="onnx", verbose=False, input_signature=signature)
    told, note = _which_torch_exporter(attempts)
    described = _described(path, f"{exporter}: torch {version('torch')} {told}", "pytorch")
    return replace(described, note="; ".join(filter(None, (note, described.note))), sorted_keys=not attempts[-1].dynamo)


@dataclass(kw_only=True)
class _Attempt:
    """A call of `torch.onnx.export`: with which exporter, and what it raised."""

    dynamo: bool
    raised: str = ""


@contextlib.contextmanager
def _torch_exports() -> Iterator[list[_Attempt]]:
    """Notes every call of `torch.onnx.export` for a while; whole graphs, which its C++ part prints, are kept back."""
    import torch

    original: Callable[..., Any] = torch.onnx.export
    print_graph = torch._C._jit_onnx_log
    attempts: list[_Attempt] = []

    def noting(*args: Any, **kwargs: Any) -> Any:
        attempt = _Attempt(dynamo=bool(kwargs.get("dynamo", True)))
        attempts.append(attempt)
        try:
            return original(*args, **kwargs)
        except BaseException as error:
            attempt.raised = f"raised {_first_line(error)}"
            raise

    torch.onnx.export, torch._C._jit_onnx_log = noting, lambda *_: None
    try:
        yield attempts
    finally:
        torch.onnx.export, torch._C._jit_onnx_log = original, print_graph


def _which_torch_exporter(attempts: list[_Attempt]) -> tuple[str, str]:
    """The exporter that wrote the file, which is the last one tried, and what became of those before."""
    *before, last = attempts
    failed = [
        f"the {_kind(attempt)} exporter, tried before, {attempt.raised or 'could not save'}" for attempt in before
    ]
    if not last.dynamo:
        failed = failed or ["Keras takes it for free batch sizes"]
    return f"torch.onnx.export(dynamo={last.dynamo}), which is the {_kind(last)} exporter", "; ".join(failed)


def _kind(attempt: _Attempt) -> str:
    return "dynamo" if attempt.dynamo else "TorchScript"


@contextlib.contextmanager
def _exporting(what: str) -> Iterator[None]:
    """Keeps an exporter quiet for a while; whatever it raises becomes one error, with what it had printed."""
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
        except BaseException as error:  # exporters raise whatever the code of the model, or a compiler, raised
            said = [line.strip() for line in printed.getvalue().splitlines() if line.strip()]
            after = f" (it had printed: {said[-1][:200]})" if said else ""
            raise ExportFailed(f"{what} raised {_first_line(error)}{after}") from error


@contextlib.contextmanager
def _loggers_to(stream: io.StringIO) -> Iterator[None]:
    """The messages of the exporters' loggers go into a stream for a while, and nowhere else."""
    handler = logging.StreamHandler(stream)
    found = [logging.getLogger(name) for name in _LOGGERS]
    before = [(logger, logger.propagate, logger.handlers[:]) for logger in found]
    for logger in found:
        logger.propagate, logger.handlers = False, [handler]
    try:
        yield
    finally:
        for logger, propagate, handlers in before:
            logger.propagate, logger.handlers = propagate, handlers


def _described(path: Path, exporter: str, producer: str) -> Exported:
    """What the file itself says; raises `ExportFailed` where onnx's own checker refuses it.

    Args:
        path: The file.
        exporter: Who was asked to write it.
        producer: The name that this exporter gives itself in a file; where the file has another one, it is said.
    """
    import onnx

    with _exporting(f"onnx.checker, on what {exporter} wrote,"):
        onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load_model(str(path), load_external_data=False)
    stored = {tensor.name for tensor in model.graph.initializer}
    given = [entry for entry in model.graph.input if entry.name not in stored]
    batches = [entry.type.tensor_type.shape.dim[0] for entry in given if entry.type.tensor_type.shape.dim]
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    free = bool(batches) and all(not batch.HasField("dim_value") for batch in batches)
    wrote = f"{model.producer_name} {model.producer_version}".strip() or "somebody without a name"
    note = "" if model.producer_name == producer else f"the file says that {wrote} wrote it, and not {producer}"
    return Exported(path=path, exporter=exporter, opset=opset, free_batch=free, note=note)


def _of_two(arguments: Any) -> Any:
    """The arguments with a batch of one doubled: a size of one is taken for a constant by torch's exporter.

    The first tensor tells the size of the batch; beside a larger one a size of one is broadcast, and stays.
    """
    import torch

    if _batch_size(arguments) != 1:
        return arguments

    def twice(value: Any) -> Any:
        return torch.cat([value, value]) if value.ndim and value.shape[0] == 1 else value

    return _mapped(arguments, twice, lambda value: value)


def _batch_size(arguments: Any) -> int | None:
    import torch

    tensors = [tensor for _, tensor in flatten(arguments, lambda value: isinstance(value, torch.Tensor))]
    return tensors[0].shape[0] if tensors and tensors[0].ndim else None


def _free_batches(arguments: Any) -> Any:
    """Which axes the exporter may leave free: the first of every tensor that shares the batch size."""
    import torch

    batch = _batch_size(arguments)

    def axes(value: Any) -> Any:
        shares = batch is not None and value.ndim and value.shape[0] == batch
        return {0: torch.export.Dim.AUTO} if shares else None

    return _mapped(arguments, axes, lambda _: None)


def _mapped(value: Any, of_tensor: Callable[[Any], Any], of_rest: Callable[[Any], Any]) -> Any:
    """The same nested tuples, lists and dicts, with every leaf replaced."""
    import torch

    if isinstance(value, torch.Tensor):
        return of_tensor(value)
    if isinstance(value, dict):
        return {name: _mapped(item, of_tensor, of_rest) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_mapped(item, of_tensor, of_rest) for item in value)
    return of_rest(value)


def _first_line(error: BaseException) -> str:
    """The class of an exception, and the line of its message that says most."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    wrapped = bool(lines) and lines[0].startswith("Exception encountered when calling ")  # which is Keras', of a layer
    first = _COLOUR.sub("", " ".join(lines[: 1 + wrapped]))
    cause = next((line for line in lines if line.startswith("<class ")), first)
    cause = _SCOPE.sub("", cause)
    return f"{type(error).__name__}: {cause[:300]}" if cause else type(error).__name__
