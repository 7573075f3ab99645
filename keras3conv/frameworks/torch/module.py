"""PyTorch: a module as a `ModelView`, its runs recorded, its tensors written. All that imports torch for models."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from keras3conv.errors import RAISED_BY_MODELS, InputError, ModelError, Problem
from keras3conv.frameworks.shared.flow import Follower
from keras3conv.frameworks.shared.inputs import require_numbers
from keras3conv.frameworks.shared.recording import Call, Flattened, Recording, flatten
from keras3conv.frameworks.torch.derived import Derived, derived_tensors, held
from keras3conv.frameworks.torch.modes import evaluating, floats_are, inference, is_compiled, precise
from keras3conv.frameworks.torch.operations import FollowingFlattening
from keras3conv.frameworks.torch.precision import Float64
from keras3conv.frameworks.torch.substitutes import before_running, computed_weights, running_tensors, substituted
from keras3conv.frameworks.torch.tree import layer_view, named_layers, owns_tensors, require_values
from keras3conv.frameworks.torch.values import to_numpy, to_torch
from keras3conv.frameworks.torch.walk import named_modules, named_tensors
from keras3conv.messages import lay_out
from keras3conv.model.views import ModelView, Reader, TensorRef
from keras3conv.numerics.copying import copy_into
from keras3conv.transforms import Array

_LARGE = 1 << 15
"""Elements from which on torch copies with more than one thread."""


def is_module(model: object) -> bool:
    """Whether this is a torch module."""
    return isinstance(model, nn.Module)


def view(module: nn.Module, *, described: bool = True) -> ModelView:
    """Views a module as named tensors, grouped by the module that owns them.

    Args:
        module: The module.
        described: Whether its layers come with their configurations, those without tensors too.

    Raises:
        ModelError: A tensor has no values (a lazy or a meta module), or is of a kind that has no dense values.
    """
    tensors = dict(named_tensors(module))
    require_values(module, tensors)
    derived = derived_tensors(module)
    owners = _by_owner(derived)
    return ModelView(
        side="torch",
        name=type(module).__name__,
        layers=tuple(
            layer_view(path, layer, owners.get(path, {}), described=described)
            for path, layer in named_layers(module)
            if described or owns_tensors(layer)
        ),
        reader=lambda path: to_numpy(derived[path].compute() if path in derived else tensors[path]),
        facts={"format": "live torch module"},
    )


def stored(module: nn.Module) -> tuple[tuple[TensorRef, ...], Reader]:
    """What a file of the module's weights holds, and its reader: not computed weights, but what they are made of."""
    tensors = dict(named_tensors(module))
    layers = (layer_view(path, layer, {}) for path, layer in named_modules(module))
    return tuple(tensor for layer in layers for tensor in layer.tensors), lambda path: to_numpy(tensors[path])


def write(module: nn.Module, values: Mapping[str, Array]) -> None:
    """Writes values into a module's tensors, all or none: after any exception the module is as it was.

    Args:
        module: The module.
        values: Arrays by the path of the tensor, each of the tensor's shape.
    """
    tensors, derived = dict(named_tensors(module)), derived_tensors(module)
    with undone_on_failure(module, values), torch.no_grad():
        for path, value in values.items():
            if path in derived:
                first = tensors[derived[path].parts[0]]
                derived[path].assign(to_torch(value).to(first.device, first.dtype))
            else:
                put(tensors[path], value)


@contextmanager
def undone_on_failure(module: nn.Module, paths: Iterable[str]) -> Iterator[None]:
    """Puts tensors back to the bits that they had, if what is done inside fails.

    Args:
        module: The module.
        paths: The tensors; of a computed weight, what it is computed of.
    """
    tensors, derived = dict(named_tensors(module)), derived_tensors(module)
    touched = [part for path in paths for part in (derived[path].parts if path in derived else (path,))]
    before = {path: tensors[path].detach().clone() for path in touched}
    try:
        yield
    except BaseException:  # an interrupt too
        with torch.no_grad():
            for path, old in before.items():
                tensors[path].copy_(old)
        for weight in derived.values():
            weight.refresh()
        raise


def _by_owner(derived: Mapping[str, Derived]) -> dict[str, dict[str, Derived]]:
    owners: dict[str, dict[str, Derived]] = {}
    for path, weight in derived.items():
        owners.setdefault(weight.owner, {})[path] = weight
    return owners


def put(target: torch.Tensor, value: Array) -> None:
    """`target.copy_(value)`; torch is slow to copy a large permuted array, and shares the work between threads."""
    here = target.device.type == "cpu" and not target.is_conj() and not target.is_neg()
    if here and value.size > _LARGE and not value.flags.c_contiguous and target.shape == value.shape:
        copy_into(to_numpy(target), value)
        torch.autograd.graph.increment_version(target)
    else:
        target.copy_(to_torch(value))


def run(
    module: nn.Module,
    inputs: object,
    *,
    record: Callable[[str], bool] | None = None,
    tensors: Mapping[str, Array] | None = None,
    float64: bool = False,
    watch: bool = True,
) -> Recording:
    """Runs a module once, in evaluation mode and without gradients, and records what ran.

    Args:
        module: The module; its training flags and tensors are as before afterwards, its buffers too.
        inputs: What it is called with: a tensor or array, a tuple of positional arguments, a dict of keywords.
        record: Of which layers (by path) the arrays are kept. The order of the calls is always kept.
        tensors: Values to run with in the place of its own, by path.
        float64: Whether floating-point tensors, and inputs, are cast to float64 for this run.
        watch: Whether the layers are watched at all; without it the run costs what the module costs.

    Raises:
        ModelError: The module raised; the message names the layer.
    """
    device = next((tensor.device for _, tensor in named_tensors(module)), torch.device("cpu"))
    args, kwargs = arguments(inputs, device, float64=float64)
    substitutes, derived = running_tensors(module, tensors or {}, float64=float64), derived_tensors(module)
    calls: list[Call] = []
    stack: list[str] = []
    follower = Follower(sees_everything=True)
    before = before_running(module, substitutes, tensors or {}, float64=float64)
    with ExitStack() as contexts:
        contexts.enter_context(torch.no_grad())
        attributes = contexts.enter_context(evaluating(module))
        contexts.enter_context(held(derived, computed_weights(derived, tensors or {}, float64=float64)))
        if watch:
            contexts.enter_context(_hooks(module, calls, stack, record or (lambda path: False), follower))
        if float64:
            contexts.enter_context(Float64(module))
            contexts.enter_context(floats_are(torch.float64))
        try:
            with substituted(module, substitutes):
                outputs = module(*args, **kwargs)
        except RAISED_BY_MODELS as error:
            raise _call_error(module, stack, args, kwargs, error) from error
    flat = dict(flatten(outputs, lambda value: isinstance(value, torch.Tensor)))
    return Recording(
        calls=tuple(sorted(calls, key=lambda call: call.place)),
        outputs={name: _copy(value) for name, value in flat.items()},
        changed=(*(path for path, old in before.items() if not _same(old, substitutes[path])), *attributes),
        flows=follower.flows() if watch else None,
    )


def float64_parameter(parameter: torch.Tensor) -> nn.Parameter:
    """A parameter's values in float64, as a parameter of its own."""
    return nn.Parameter(parameter.detach().to(torch.float64, copy=True), requires_grad=parameter.requires_grad)


def input_arrays(inputs: object) -> dict[str, Array]:
    """The inputs of a torch module, flat, as arrays: positional ones "0", "1", ..., keywords by name."""
    args, kwargs = arguments(inputs, torch.device("cpu"), float64=False)
    flat = dict(flatten([*args], _is_tensor)) | dict(flatten(kwargs, _is_tensor))
    return {name: to_numpy(value) for name, value in flat.items()}


def call_arguments(module: nn.Module, inputs: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a module is called with, as tensors on its device: the positional arguments, and the keywords."""
    device = next((tensor.device for _, tensor in named_tensors(module)), torch.device("cpu"))
    return arguments(inputs, device, float64=False)


def training_modules(module: nn.Module) -> tuple[str, ...]:
    """The paths of the modules that are in training mode."""
    return tuple(path for path, child in module.named_modules() if child.training)


def frozen_parameters(module: nn.Module) -> tuple[str, ...]:
    """The paths of the parameters that no optimiser is to change."""
    return tuple(path for path, tensor in module.named_parameters() if not tensor.requires_grad)


def _is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor)


def arguments(inputs: object, device: torch.device, *, float64: bool) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a module is called with, as tensors on its device; raises `InputError` for what is no input."""

    def convert(value: object) -> object:
        if isinstance(value, np.ndarray):
            require_numbers(value)
            value = to_torch(value)
        if isinstance(value, torch.Tensor):
            floating = value.is_floating_point()
            # A copy: a module may write into what it is given, and the caller's goes into every run.
            return value.to(device=device, dtype=torch.float64 if float64 and floating else value.dtype, copy=True)
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
        raise InputError(
            f"inputs is a {type(inputs).__name__}: it must be a tensor or an array, a tuple of positional arguments, "
            "or a dict of keyword arguments"
        )
    return (convert(inputs),), {}


def _same(first: torch.Tensor, second: torch.Tensor) -> bool:
    return torch.equal(first, second) or torch.equal(torch.nan_to_num(first), torch.nan_to_num(second))


@contextmanager
def _hooks(
    module: nn.Module, calls: list[Call], stack: list[str], record: Callable[[str], bool], follower: Follower
) -> Iterator[None]:
    """Records every call of every module inside `module` into `calls`; `stack` is where an exception came from."""
    handles = []
    counter = iter(range(1 << 62))
    flattened = Flattened()

    def watch(path: str, child: nn.Module) -> None:
        open_calls: list[Call] = []
        owns_tensors = any(True for _ in named_tensors(child))

        def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            stack.append(path)
            tensors = [tensor for _, tensor in flatten((args, kwargs), _is_tensor)]
            follower.enter(path if owns_tensors else "", tensors)
            open_calls.append(
                Call(
                    path=path,
                    place=next(counter),
                    inputs=tuple(map(_copy, tensors)) if record(path) else (),
                    shapes=tuple(tuple(tensor.shape) for tensor in tensors),
                    flattened=flattened.shape(tensors[0]) if tensors else None,
                )
            )

        def after(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: object) -> None:
            stack.pop()
            calls.append(replace(open_calls.pop(), outputs=_arrays(output) if record(path) else ()))
            follower.leave([tensor for _, tensor in flatten(output, _is_tensor)])

        handles.append(child.register_forward_pre_hook(before, with_kwargs=True))
        handles.append(child.register_forward_hook(after, with_kwargs=True))

    try:
        for path, child in module.named_modules():
            watch(path, child)
        with FollowingFlattening(flattened, follower):
            yield
    finally:
        for handle in handles:
            handle.remove()


def _arrays(value: object) -> tuple[Array, ...]:
    return tuple(_copy(tensor) for _, tensor in flatten(value, _is_tensor))


def _copy(tensor: torch.Tensor) -> Array:
    """A copy: what a module returned may be overwritten by an in-place module after it."""
    return np.array(to_numpy(tensor))


def _call_error(
    module: nn.Module, stack: list[str], args: tuple[Any, ...], kwargs: dict[str, Any], error: Exception
) -> ModelError:
    given = [f"{name}: {tuple(tensor.shape)}" for name, tensor in flatten([*args], _is_tensor)]
    given += [f"{name}: {tuple(tensor.shape)}" for name, tensor in flatten(kwargs, _is_tensor)]
    where = stack[-1] if stack else ""
    # Every run but that of the gradients is without them; a module that needs them in its forward has to say so.
    fixes = ("with torch.enable_grad():  # in its forward",) if "does not require grad" in str(error) else ()
    problem = Problem(torch=where or type(module).__name__, fact=f"{type(error).__name__}: {error}", fixes=fixes)
    return ModelError(
        lay_out(
            f"{type(module).__name__} (torch) raised when it was called with {', '.join(given) or 'nothing'}", [problem]
        )
    )


__all__ = [
    "arguments",
    "call_arguments",
    "evaluating",
    "float64_parameter",
    "frozen_parameters",
    "inference",
    "input_arrays",
    "is_compiled",
    "is_module",
    "precise",
    "run",
    "to_numpy",
    "to_torch",
    "training_modules",
    "view",
    "write",
]
