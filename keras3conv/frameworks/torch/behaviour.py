"""Run a copy of a module with chosen parameters, to find out what the module computes whatever its class is called."""

import copy
from collections.abc import Mapping

import torch
from torch import nn


def overrides(module: nn.Module, *methods: str) -> bool:
    """Return True if a user's class overrides one of the given methods of its torch.nn base class."""
    functions = [getattr(type(module), name, None) for name in methods]
    return any(not str(getattr(function, "__module__", "")).startswith("torch.nn.") for function in functions)


def copy_with(module: nn.Module, parameters: Mapping[str, torch.Tensor]) -> nn.Module:
    """Return a copy of a module with other parameters; a run of the copy does not change the module's tensors.

    Args:
        module: The module; its submodules are shared with the copy.
        parameters: The new parameters by name; all other parameters are copied.
    """
    twin = copy.copy(module)
    own = {name: tensor.detach().clone() for name, tensor in module._parameters.items() if tensor is not None}
    missing = {name: None for name, tensor in module._parameters.items() if tensor is None}
    vars(twin)["_parameters"] = {
        **{name: nn.Parameter(tensor, requires_grad=False) for name, tensor in (own | dict(parameters)).items()},
        **missing,
    }
    vars(twin)["_buffers"] = {
        name: None if tensor is None else tensor.clone() for name, tensor in module._buffers.items()
    }
    return twin


def pattern(shape: tuple[int, ...], phase: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return a tensor of distinct values between -1 and 1 that do not depend on a random generator.

    Args:
        shape: The shape.
        phase: A number; tensors with different phases have different values.
        dtype: The dtype.
    """
    count = torch.Size(shape).numel()
    return torch.sin(torch.arange(count, dtype=torch.float64) * 1.7 + phase).reshape(shape).to(dtype)
