"""Run one backward pass of a torch module in float64, without changing the module."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from keras3conv.errors import RAISED_BY_MODELS, ModelError, Problem
from keras3conv.frameworks.shared.inputs import flatten
from keras3conv.frameworks.shared.recording import Backward
from keras3conv.frameworks.torch import module as torch_side
from keras3conv.frameworks.torch.derived import derived_tensors
from keras3conv.frameworks.torch.float64 import Float64, Float64Kernels
from keras3conv.frameworks.torch.modes import default_dtype
from keras3conv.frameworks.torch.observing import computed_weights, held, running_tensors, substituted
from keras3conv.messages import lay_out
from keras3conv.transforms import Array


def backward(
    module: nn.Module,
    inputs: object,
    tensors: Mapping[str, Array],
    weights: Mapping[str, Array],
    *,
    of: Collection[str],
    training: Collection[str] = (),
    in_parts: Collection[str] = (),
) -> Backward:
    """Return the gradients of a weighted sum of all output elements.

    Args:
        module: The module.
        inputs: A tensor or array, a tuple of positional arguments, or a dict of keyword arguments.
        tensors: Values that replace the module's tensors in this pass, by path.
        weights: For each output by name, the weight of each of its elements in the sum.
        of: The paths of the tensors whose gradients are returned.
        training: The paths of the modules that run in training mode; all others run in evaluation mode.
        in_parts: The paths of the weights (weight norm) that the module computes in this pass; see the file `in_parts`.

    Raises:
        ModelError: The module raised, or torch cannot differentiate an output.
    """
    device = next(module.parameters(), torch.zeros(())).device
    args, kwargs = torch_side.call_arguments(module, inputs, float64=True)
    substitutes = running_tensors(module, tensors, float64=True)
    derived = derived_tensors(module, in_parts)
    computed = computed_weights(derived, tensors, float64=True)
    first_names = _first_names(module)
    places = {path: first_names.get(path, path) for path in of}
    # The substitutes are copies already; a computed weight may share the memory of its value.
    own = substitutes | {path: weight.clone() for path, weight in computed.items()}
    wanted = {path: own[path].detach().requires_grad_() for path in dict.fromkeys(places.values()) if path in own}
    values = {path: wanted.get(path, tensor) for path, tensor in substitutes.items()}
    computed = {path: wanted.get(path, tensor) for path, tensor in computed.items()}
    modes = (torch.enable_grad(), torch_side.precise(), torch_side.evaluating(module), _training(module, training))
    with ExitStack() as contexts:
        contexts.enter_context(default_dtype(torch.float64))  # of tensors that the module creates
        float64 = (Float64Kernels(), ContiguousGroupNorm(), Float64(module))
        for mode in (*modes, held(derived, computed), *float64):
            contexts.enter_context(mode)
        try:
            with substituted(module, values):
                outputs = module(*args, **kwargs)
            flat = dict(flatten(outputs, lambda value: isinstance(value, torch.Tensor)))
            loss = sum((flat[name] * torch_side.to_torch(weight).to(device)).sum() for name, weight in weights.items())
            found: tuple[torch.Tensor | None, ...] = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
        except RAISED_BY_MODELS as error:
            problem = Problem(torch=type(module).__name__, fact=f"{type(error).__name__}: {error}")
            raise ModelError(lay_out("torch raised an exception in the backward pass", [problem])) from error
    gradients = {
        path: torch.zeros_like(tensor) if gradient is None else gradient
        for (path, tensor), gradient in zip(wanted.items(), found, strict=True)
    }
    others = {path: tensor for path, tensor in values.items() if path not in wanted}
    return Backward(
        gradients={path: torch_side.to_numpy(gradients[own]) for path, own in places.items() if own in gradients},
        states={path: torch_side.to_numpy(tensor) for path, tensor in others.items()},
    )


def _first_names(module: nn.Module) -> dict[str, str]:
    """Return a dict from each name of a parameter to its first name; a tied parameter has several names."""
    first = {id(parameter): path for path, parameter in module.named_parameters()}
    return {path: first[id(parameter)] for path, parameter in module.named_parameters(remove_duplicate=False)}


@contextmanager
def _training(module: nn.Module, paths: Collection[str]) -> Iterator[None]:
    """Set some modules to training mode inside the `with` block; `evaluating`, in which this runs, restores them."""
    for path in paths:
        module.get_submodule(path).training = True
    yield


_GROUP_NORMS = (nn.functional.group_norm, torch.group_norm)
"""The group normalisations that modules call; inside the first one, a mode does not see the second."""


class ContiguousGroupNorm(TorchFunctionMode):
    """Gives group normalisations contiguous inputs.

    With an input in the memory layout "channels last" that needs no gradient, the backward pass of torch 2.13 crashes
    the process (a segmentation fault), for example if the normalisation is the first layer of a model.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a torch function; copy the input of a group normalisation if its memory layout makes torch crash."""
        if func in _GROUP_NORMS and args and not args[0].requires_grad:
            args = (args[0].contiguous(), *args[1:])
        return func(*args, **(kwargs or {}))
