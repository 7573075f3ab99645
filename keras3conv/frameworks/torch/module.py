"""Run a live torch module and write its tensors; the module `view` creates its view."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from keras3conv import formats
from keras3conv.errors import RAISED_BY_MODELS, InputError, ModelError, Problem, message_of
from keras3conv.frameworks.own_classes import require_fields
from keras3conv.frameworks.shared.backup import Backup, restored_by
from keras3conv.frameworks.shared.flow import Follower
from keras3conv.frameworks.shared.inputs import flatten, require_numbers
from keras3conv.frameworks.shared.inputs_given import input_arrays, no_input
from keras3conv.frameworks.shared.recording import Call, CallRecorder, Recording
from keras3conv.frameworks.torch.derived import Derived, derived_tensors, planned_in_parts
from keras3conv.frameworks.torch.float64 import Float64, Float64Kernels
from keras3conv.frameworks.torch.modes import (
    default_dtype,
    evaluating,
    indices_are_checked,
    inference,
    is_compiled,
    precise,
)
from keras3conv.frameworks.torch.observing import (
    Arguments,
    OperationsFollowed,
    before_running,
    computed_weights,
    forward_calls,
    held,
    running_tensors,
    substituted,
)
from keras3conv.frameworks.torch.rounding import rounding_of_keras
from keras3conv.frameworks.torch.state_dicts import notes_on_file, state_dict_of
from keras3conv.frameworks.torch.tensors import (
    double_precision,
    floating_tensors,
    named_tensors,
    overwrite,
    tensors_in,
    to_numpy,
    to_torch,
    version_of,
)
from keras3conv.frameworks.torch.view import stored_tensors, view
from keras3conv.messages import lay_out
from keras3conv.model.views import ModelView, Side
from keras3conv.rules.registry import users_rules
from keras3conv.transforms import Array


def write(
    module: nn.Module,
    values: Mapping[str, Array] | Iterable[tuple[str, Array]],
    in_parts: Collection[str] = (),
) -> None:
    """Write values into the tensors of a module; after any exception all tensors have their old values.

    Args:
        module: The module.
        values: Arrays by the path of the tensor, each of the tensor's shape.
        in_parts: The paths of computed weights (weight norm) for which `values` has the tensors they are computed from.
    """
    tensors, derived = dict(named_tensors(module)), derived_tensors(module, in_parts)
    with _undone_on_failure(tensors, derived) as backup, torch.no_grad():
        for path, value in values.items() if isinstance(values, Mapping) else values:
            parts = derived[path].parts if path in derived else (path,)
            for part in parts:
                backup.keep(part, to_numpy(tensors[part]))
            if path in derived:
                first = tensors[parts[0]]
                derived[path].assign(to_torch(value).to(first.device, first.dtype))
            else:
                overwrite(tensors[path], value)


@contextmanager
def _undone_on_failure(tensors: Mapping[str, torch.Tensor], derived: Mapping[str, Derived]) -> Iterator[Backup]:
    """Yield an empty backup of tensors; if the `with` block raises, restore the values that it has put into the backup.

    Args:
        tensors: The tensors of the module, by path.
        derived: The computed weights of the module, which are then computed again.
    """

    def restore(backup: Backup) -> None:
        for path, old in backup.items():
            overwrite(tensors[path], old)
        for weight in derived.values():
            weight.refresh()

    with restored_by(restore) as backup:
        yield backup


@contextmanager
def restored_on_failure(module: nn.Module, paths: Iterable[str]) -> Iterator[None]:
    """Restore tensors bit for bit if the `with` block raises.

    Args:
        module: The module.
        paths: The paths of the tensors; for a computed weight, the tensors that it is computed from are restored.
    """
    tensors, derived = dict(named_tensors(module)), derived_tensors(module)
    with _undone_on_failure(tensors, derived) as backup:
        for path in paths:
            for part in derived[path].parts if path in derived else (path,):
                backup.keep(part, to_numpy(tensors[part]))
        yield


def run(
    module: nn.Module,
    inputs: object,
    *,
    record: Callable[[str], bool] | None = None,
    tensors: Mapping[str, Array] | None = None,
    float64: bool = False,
    watch: bool = True,
    mode: AbstractContextManager[Any] | None = None,
    in_parts: Collection[str] = (),
) -> Recording:
    """Run a module once, in evaluation mode and without gradients, and record the calls of its submodules.

    Args:
        module: The module; its training flags, parameters and buffers are unchanged afterwards.
        inputs: The inputs: a tensor or array, a tuple of positional arguments, or a dict of keyword arguments.
        record: Selects by path the layers whose input and output arrays are recorded; None for no layer.
        tensors: Values that replace the module's tensors in this run, by path.
        float64: Whether to cast floating-point tensors and inputs to float64 in this run.
        watch: Whether to record layer calls; if False, only the outputs are recorded, and the run is faster.
        mode: A context manager in which the module runs: it changes how torch rounds, or gets all calls of functions.
        in_parts: The paths of computed weights (weight norm) that a float64 run computes; it fixes the others.

    Raises:
        ModelError: The module raised; the message names the layer.
    """
    args, kwargs = call_arguments(module, inputs, float64=float64)
    substitutes, derived = running_tensors(module, tensors or {}, float64=float64), derived_tensors(module)
    whole = {path: weight for path, weight in derived.items() if path not in in_parts}
    recorder = CallRecorder(
        record=record or (lambda path: False), follower=Follower(sees_everything=True), copy=_copy, version=version_of
    )
    running: list[str] = []
    before = before_running(module, substitutes, tensors or {}, float64=float64)
    with ExitStack() as contexts:
        contexts.enter_context(torch.no_grad())
        if float64:  # the first mode, so that the others see a depthwise convolution as one operation
            contexts.enter_context(Float64Kernels())
        if mode is not None:
            contexts.enter_context(mode)
        attributes = contexts.enter_context(evaluating(module))
        contexts.enter_context(held(derived, computed_weights(whole, tensors or {}, float64=float64)))
        if watch:
            running = contexts.enter_context(_recording(module, recorder))
            contexts.enter_context(OperationsFollowed(recorder.follower, recorder.flattened))
        if float64:
            contexts.enter_context(Float64(module))
            contexts.enter_context(default_dtype(torch.float64))
        try:
            with substituted(module, substitutes):
                outputs = module(*args, **kwargs)
        except RAISED_BY_MODELS as error:
            raise call_error(module, running, (args, kwargs), error) from error
    return Recording(
        calls=recorder.calls(),
        outputs={name: _copy(value) for name, value in flatten(outputs, torch.is_tensor)},
        changed=(*(path for path, old in before.items() if not _same(old, substitutes[path])), *attributes),
        flows=recorder.follower.flows() if watch else None,
        functions=frozenset(recorder.follower.functions),
    )


def _recording(module: nn.Module, recorder: CallRecorder) -> AbstractContextManager[list[str]]:
    """Return a context manager in which the recorder gets every call of every submodule, with inputs and outputs.

    It yields the list of the paths of the running modules, the innermost last.
    """
    owners = {path for path, child in module.named_modules() if named_tensors(child)}
    open_calls: dict[str, list[Call]] = {}

    def before(path: str, arguments: Arguments) -> None:
        call = recorder.begin(path, tensors_in(arguments), is_operation=path not in owners)
        open_calls.setdefault(path, []).append(call)

    def after(path: str, arguments: Arguments, output: Any) -> None:
        recorder.end(open_calls[path].pop(), tensors_in(output))

    return forward_calls(module, before=before, after=after)


def training_modules(module: nn.Module) -> tuple[str, ...]:
    """Return the paths of the modules in training mode."""
    return tuple(path for path, child in module.named_modules() if child.training)


def frozen_parameters(module: nn.Module) -> tuple[str, ...]:
    """Return the paths of the parameters that do not require a gradient."""
    return tuple(path for path, tensor in module.named_parameters() if not tensor.requires_grad)


def device_of(module: nn.Module) -> torch.device:
    """Return the device of the first tensor of a module; the CPU for a module without tensors."""
    return next((tensor.device for _, tensor in named_tensors(module)), torch.device("cpu"))


def call_arguments(module: nn.Module, inputs: object, *, float64: bool = False) -> Arguments:
    """Return the positional and keyword arguments of a call, as tensors on the device of the module.

    Args:
        module: The module.
        inputs: A tensor or array, a tuple of positional arguments, or a dict of keyword arguments.
        float64: Whether to cast floating-point tensors.

    Raises:
        InputError: The inputs are neither a tensor, nor an array, a tuple or a dict.
    """
    device = device_of(module)

    def convert(value: object) -> object:
        if isinstance(value, np.ndarray):
            require_numbers(value)
            value = to_torch(value)
        if isinstance(value, torch.Tensor):
            dtype = double_precision(value.dtype) if float64 else value.dtype
            # Copy: a module may write into its inputs, and the same inputs are used for several runs.
            return value.to(device=device, dtype=dtype, copy=True)
        if isinstance(value, dict):
            return {name: convert(item) for name, item in value.items()}
        if isinstance(value, tuple | list):
            return type(value)(convert(item) for item in value)
        return value

    if isinstance(inputs, dict):
        return (), {name: convert(value) for name, value in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(convert(value) for value in inputs), {}
    if not isinstance(inputs, torch.Tensor | np.ndarray):
        raise InputError(no_input(inputs))
    return (convert(inputs),), {}


def _same(first: torch.Tensor, second: torch.Tensor) -> bool:
    return torch.equal(first, second) or torch.equal(torch.nan_to_num(first), torch.nan_to_num(second))


def _copy(tensor: torch.Tensor) -> Array:
    """Return a tensor as an array with its own memory, because an in-place module may overwrite the tensor later."""
    return np.array(to_numpy(tensor))


def call_error(module: nn.Module, running: list[str], arguments: Arguments, error: Exception) -> ModelError:
    """Return the error for a module that raised when it was called.

    Args:
        module: The module.
        running: The paths of the submodules that were running, the innermost last.
        arguments: The arguments of the call.
        error: The exception.
    """
    args, kwargs = arguments
    inputs = [*flatten([*args], torch.is_tensor), *flatten(kwargs, torch.is_tensor)]
    shapes = ", ".join(
        f"{tuple(tensor.shape)}" if name.isdecimal() else f"{name}: {tuple(tensor.shape)}" for name, tensor in inputs
    )
    where = running[-1] if running else ""
    # A module that computes gradients in its forward pass must enable them: all runs but one disable them.
    needs_gradients = "does not require grad" in message_of(error)
    fixes = ("module.forward = torch.enable_grad()(module.forward)",) if needs_gradients else ()
    problem = Problem(torch=where or type(module).__name__, fact=f"{type(error).__name__}: {error}", fixes=fixes)
    headline = f"{type(module).__name__} (torch) raised when it was called with {shapes or 'nothing'}"
    return ModelError(lay_out(headline, [problem]))


@dataclass(frozen=True)
class TorchModule:
    """The adapter of a live torch module: the interface `frameworks.adapter.LiveModel` for torch."""

    source: nn.Module
    side: ClassVar[Side] = "torch"
    is_live: ClassVar[bool] = True

    def view(self, *, described: bool = True, planned: ModelView | None = None) -> ModelView:
        """Return the view of the module: its layers and tensors by name; with `described`, also configurations."""
        found = view(self.source, described=described, in_parts=planned_in_parts(self.source, planned))
        for rule in users_rules() if described else ():
            require_fields(rule, found)
        return found

    def run(self, inputs: object, *, watch: bool = True) -> Recording:
        """Run the module once and record its outputs and, with `watch`, the calls of its submodules."""
        return run(self.source, inputs, watch=watch)

    def write(
        self, values: Iterable[tuple[str, Array]], *, planned: ModelView | None = None, finite: set[str] | None = None
    ) -> None:
        """Write values into parameters and buffers; if one cannot be written, all keep their old values.

        Args:
            values: The path and the new value of each tensor.
            planned: The torch tensors in the plan; see `view`.
            finite: It is left empty: no value is looked at.
        """
        write(self.source, values, planned_in_parts(self.source, planned))

    def torch_tensors(self) -> dict[str, Any]:
        """Return the parameters and buffers of the module by path."""
        return dict(named_tensors(self.source))

    def restored_on_failure(self, paths: tuple[str, ...]) -> AbstractContextManager[None]:
        """Return a context manager that restores the values of some tensors if the `with` block raises."""
        return restored_on_failure(self.source, paths)

    def output(self, path: Path, *, max_shard_size: int | None = None) -> formats.Output:
        """Return the description of the files to which the weights will be saved; nothing is written yet.

        Args:
            path: The file to write; its suffix selects the format.
            max_shard_size: The largest size of a file in bytes; a larger model is divided among several files.
        """
        tensors, read = stored_tensors(self.source)
        return formats.Destination.of(path, tensors, read, max_shard_size=max_shard_size)

    def load_weights(self, path: Path, *, entry: str = "") -> None:
        """Load a state dict into the module; names, shapes and dtypes must be the same.

        A prefix that wrappers put before the names ("module.", "_orig_mod.", "model.") is ignored, and so are tensors
        without it, of a wrapper or a loss, if the others are all of the module; a note for a report lists them.

        Args:
            path: The file.
            entry: The name of the state dict, if the file holds several.

        Raises:
            InputError: The file is a Keras file.
            ModelError: The file does not contain exactly the state dict of the module.
        """
        write(self.source, state_dict_of(self.source, path, entry=entry))

    def build(self, arrays: Mapping[str, Array], keras_inputs: object) -> None:
        """Do nothing, because a torch module has its parameters before it is called."""

    def notes(self) -> tuple[str, ...]:
        """Return notes for a report: whether the module is in training mode, and whether it is compiled."""
        notes = []
        if training_modules(self.source):
            notes.append("the torch module is in training mode; it was run in evaluation mode, and then restored")
        if is_compiled(self.source):
            notes.append("the torch module is compiled; it was run uncompiled")
        notes += notes_on_file(self.source)
        return tuple(notes)


__all__ = [
    "TorchModule",
    "call_arguments",
    "call_error",
    "device_of",
    "evaluating",
    "floating_tensors",
    "frozen_parameters",
    "indices_are_checked",
    "inference",
    "input_arrays",
    "is_compiled",
    "precise",
    "rounding_of_keras",
    "run",
    "to_numpy",
    "to_torch",
    "training_modules",
    "view",
    "write",
]
