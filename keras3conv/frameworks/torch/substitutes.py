"""What a torch module runs with in the place of its own tensors: given values, float64, copies of its buffers."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from keras3conv.frameworks.torch.derived import Derived
from keras3conv.frameworks.torch.values import to_torch
from keras3conv.frameworks.torch.walk import named_buffers, named_modules, named_tensors
from keras3conv.transforms import Array


def running_tensors(module: nn.Module, values: Mapping[str, Array], *, float64: bool) -> dict[str, torch.Tensor]:
    """Tensors to run with: the given values, the module's own where it must be cast, and copies of its buffers.

    A tensor that has several names is one tensor here too, and stands under all of them.
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
    # A module with a state writes it into its buffers: into a copy, so that every run begins alike.
    return value.clone() if own is None and value.dtype == tensor.dtype else value


@contextmanager
def substituted(module: nn.Module, substitutes: dict[str, torch.Tensor]) -> Iterator[None]:
    """Puts tensors in the places of a module's own for a while: in every place where one of these stands.

    Not `torch.func.functional_call`: it leaves a module that stands under two names with what it was given.

    Args:
        module: The module; afterwards each of its tensors is where it was.
        substitutes: Tensors by path; of a tensor with several names the one under its first name counts. What the
            module put in the place of one, is in its place here afterwards.
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
    """Where the modules keep their tensors, each place once."""
    for child in {id(child): child for _, child in named_modules(module)}.values():
        for members in (child._parameters, child._buffers):
            yield from ((members, name, tensor) for name, tensor in members.items() if tensor is not None)


def before_running(
    module: nn.Module, substitutes: Mapping[str, torch.Tensor], values: Mapping[str, Array], *, float64: bool
) -> dict[str, torch.Tensor]:
    """What the buffers hold before a run that may change them; their own tensors where these are what it starts from.

    Args:
        module: The module.
        substitutes: What `running_tensors` made of the values.
        values: The values that it runs with.
        float64: Whether it runs in float64.
    """
    buffers = dict(named_buffers(module))
    if not values and not float64:
        return buffers
    return {path: substitutes[path].clone() for path in buffers}


def _values_of(module: nn.Module, values: Mapping[str, Array]) -> dict[int, Array]:
    """The values that are given, by the id of the tensor: a tensor with several names takes those of the first."""
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
    """The weights to run with where a module computes them: the given values, and in float64 those that it has.

    Computed anew in float64 they would be others than the ones that are moved.
    """
    found = {}
    for path, weight in derived.items():
        if float64 or path in values:
            own = weight.compute()
            value = to_torch(np.asarray(values[path], order="C")).to(own.device) if path in values else own
            found[path] = value.double() if float64 else value
    return found


__all__ = ["before_running", "computed_weights", "running_tensors", "substituted"]
