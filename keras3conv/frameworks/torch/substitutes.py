"""Replace the tensors of a torch module during a run: by given values, float64 casts, or copies of its buffers."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from keras3conv.frameworks.torch.derived import Derived
from keras3conv.frameworks.torch.tensors import double_precision, named_buffers, named_modules, named_tensors, to_torch
from keras3conv.transforms import Array


def running_tensors(module: nn.Module, values: Mapping[str, Array], *, float64: bool) -> dict[str, torch.Tensor]:
    """Return the tensors that replace a module's own tensors in a run: given values, float64 casts, copies of buffers.

    A parameter that needs none of these is left out. A tied tensor with several names is one tensor in the result,
    under each of its names.
    """
    buffers = dict(named_buffers(module))
    given = _values_of(module, values)
    made: dict[int, torch.Tensor] = {}
    substitutes = {}
    for path, tensor in named_tensors(module) if float64 or values else buffers.items():
        own = given.get(id(tensor))
        casts = float64 and tensor.dtype != double_precision(tensor.dtype)
        if own is not None or casts or path in buffers:
            if id(tensor) not in made:
                made[id(tensor)] = _running(tensor, own, float64=float64)
            substitutes[path] = made[id(tensor)]
    return substitutes


def _running(tensor: torch.Tensor, own: Array | None, *, float64: bool) -> torch.Tensor:
    value = tensor.detach() if own is None else to_torch(np.array(own, order="C")).to(tensor.device)
    if float64:
        value = value.to(double_precision(value.dtype))
    # A module may write a state into its buffers, so it gets copies. Every run then starts from the same state.
    return value.clone() if own is None and value.dtype == tensor.dtype else value


@contextmanager
def substituted(module: nn.Module, substitutes: dict[str, torch.Tensor]) -> Iterator[None]:
    """Replace the tensors of a module, in all attributes that contain them, inside the `with` block.

    `torch.func.functional_call` is not used, because it does not restore a submodule that has two names.

    Args:
        module: The module; after the `with` block it has its own tensors again.
        substitutes: Tensors by path; for a tensor with several names its first name counts. If the module assigns a new
            tensor during the `with` block, this dict is updated.
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
    """Yield, for every parameter and buffer once, the dict that contains it, its name and the tensor."""
    for child in {id(child): child for _, child in named_modules(module)}.values():
        for members in (child._parameters, child._buffers):
            yield from ((members, name, tensor) for name, tensor in members.items() if tensor is not None)


def before_running(
    module: nn.Module, substitutes: Mapping[str, torch.Tensor], values: Mapping[str, Array], *, float64: bool
) -> dict[str, torch.Tensor]:
    """Return the values of all buffers before a run, by path, to find the buffers that the run changes.

    Args:
        module: The module.
        substitutes: The tensors with which the module runs, by path.
        values: The given values of the run.
        float64: Whether the run is in float64.
    """
    buffers = dict(named_buffers(module))
    if not values and not float64:
        return buffers
    return {path: substitutes[path].clone() for path in buffers}


def _values_of(module: nn.Module, values: Mapping[str, Array]) -> dict[int, Array]:
    """Return the given values by the id of the tensor; for a tensor with several names, the value of the first name.

    Args:
        module: The module.
        values: Values by the path of the tensor.
    """
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
    """Return the values of computed weights (weight norm) for a run: given ones; in a float64 run also current ones.

    The current values are fixed, because a weight that is computed in float64 would differ from the transferred weight.
    A weight is left out, so that the module computes it, if the tensors that it is computed from are given.

    Args:
        derived: The computed weights of the module, by path.
        values: Values that replace the module's tensors in the run, by path.
        float64: Whether the run is in float64.
    """
    found = {}
    for path, weight in derived.items():
        if path in values or (float64 and values.keys().isdisjoint(weight.parts)):
            own = weight.compute()
            value = to_torch(np.asarray(values[path], order="C")).to(own.device) if path in values else own
            found[path] = value.to(double_precision(value.dtype)) if float64 else value
    return found
