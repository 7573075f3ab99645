"""Run a live torch module; `view` creates its view, `writing` writes its tensors, `adapter` puts them together."""

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import numpy as np
import torch
from torch import nn

from keras3conv.errors import RAISED_BY_MODELS, InputError, ModelError, Problem, message_of
from keras3conv.frameworks.shared.flow import Follower
from keras3conv.frameworks.shared.inputs import flatten, require_numbers
from keras3conv.frameworks.shared.inputs_given import input_arrays, no_input
from keras3conv.frameworks.shared.recording import Call, CallRecorder, Recording
from keras3conv.frameworks.torch.derived import derived_tensors
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
from keras3conv.frameworks.torch.tensors import (
    double_precision,
    floating_tensors,
    named_tensors,
    tensors_in,
    to_numpy,
    to_torch,
    version_of,
)
from keras3conv.frameworks.torch.view import view
from keras3conv.frameworks.torch.writing import write
from keras3conv.messages import lay_out
from keras3conv.transforms import Array


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


__all__ = [
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
