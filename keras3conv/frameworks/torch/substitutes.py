"""Substitute the tensors of a torch module for a run: given values, float64 casts, copies of its buffers."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from keras3conv.frameworks.torch.derived import Derived
from keras3conv.frameworks.torch.tensors import named_buffers, named_modules, named_tensors, to_torch
from keras3conv.transforms import Array


def running_tensors(module: nn.Module, values: Mapping[str, Array], *, float64: bool) -> dict[str, torch.Tensor]:
    """Return the tensors to run with: the given values, casts of the module's own tensors, copies of its buffers.

    A tensor with several names is one tensor here too, under all of its names.
    """
    buffers = dict(named_buffers(module))
    given = _values_of(module, values)
    made: dict[int, torch.Tensor] = {}
    substitutes = {}
    for path, tensor in named_tensors(module) if float64 or values else buffers.items():
        own = given.get(id(tensor))
        casts = float64 and tensor.is_floating_point() and tensor.dtype != torch.float64
        if own is not None or casts or path in buffers:
            if id(tensor) not in made:
                made[id(tensor)] = _running(tensor, own, float64=float64)
            substitutes[path] = made[id(tensor)]
    return substitutes


def _running(tensor: torch.Tensor, own: Array | None, *, float64: bool) -> torch.Tensor:
    value = tensor.detach() if own is None else to_torch(np.array(own, order="C")).to(tensor.device)
    if float64 and value.is_floating_point():
        value = value.double()
    # A module may write a state into its buffers; it gets a copy, so that every run starts from the same state.
    return value.clone() if own is None and value.dtype == tensor.dtype else value


@contextmanager
def substituted(module: nn.Module, substitutes: dict[str, torch.Tensor]) -> Iterator[None]:
    """Replace tensors of a module by others while the block runs, at every attribute that holds them.

    `torch.func.functional_call` does not restore a module that has two names.

    Args:
        module: The module; afterwards it has its own tensors again.
        substitutes: Tensors by path; for a tensor with several names its first name counts. A tensor that the module
            replaced during the block is replaced here as well.
    """
    names: dict[int, list[str]] = {}
    for path, tensor in named_tensors(module):
        if path in substitutes:
            names.setdefault(id(tensor), []).append(path)
    places = [place for place in _places(module) if id(place[2]) in names]
    try:
        for members, name, tensor in places:
            members[name] = substitutes[names[id(tensor)][0]]
        yield
    finally:
        for members, name, tensor in places:
            left = members.get(name)
            if isinstance(left, torch.Tensor):
                substitutes |= dict.fromkeys(names[id(tensor)], left)
            members[name] = tensor


def _places(module: nn.Module) -> Iterator[tuple[dict[str, Any], str, torch.Tensor]]:
    """Yield the dict, the name and the tensor for every parameter and buffer, each once."""
    for child in {id(child): child for _, child in named_modules(module)}.values():
        for members in (child._parameters, child._buffers):
            yield from ((members, name, tensor) for name, tensor in members.items() if tensor is not None)


def before_running(
    module: nn.Module, substitutes: Mapping[str, torch.Tensor], values: Mapping[str, Array], *, float64: bool
) -> dict[str, torch.Tensor]:
    """Return the values of the buffers before a run that may change them.

    Args:
        module: The module.
        substitutes: The result of `running_tensors`.
        values: The values to run with.
        float64: Whether the run is in float64.
    """
    buffers = dict(named_buffers(module))
    if not values and not float64:
        return buffers
    return {path: substitutes[path].clone() for path in buffers}


def _values_of(module: nn.Module, values: Mapping[str, Array]) -> dict[int, Array]:
    """Return the given values by id of the tensor; for a tensor with several names, the value of the first name."""
    if not values:
        return {}
    found: dict[int, Array] = {}
    for path, tensor in named_tensors(module):
        if path in values:
            found.setdefault(id(tensor), values[path])
    return found


def computed_weights(
    derived: Mapping[str, Derived], values: Mapping[str, Array], *, float64: bool
) -> dict[str, torch.Tensor]:
    """Return the computed weights to run with: the given values, and for a float64 run also the current values.

    Computed again in float64 they would differ from the weights that are transferred.
    """
    found = {}
    for path, weight in derived.items():
        if float64 or path in values:
            own = weight.compute()
            value = to_torch(np.asarray(values[path], order="C")).to(own.device) if path in values else own
            found[path] = value.double() if float64 else value
    return found


__all__ = ["before_running", "computed_weights", "running_tensors", "substituted"]
