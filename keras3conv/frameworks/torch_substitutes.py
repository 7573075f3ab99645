"""What a torch module runs with in the place of its own tensors: given values, float64, copies of its buffers."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from keras3conv.frameworks.torch_derived import Derived
from keras3conv.frameworks.torch_tree import named_tensors
from keras3conv.frameworks.torch_values import to_torch
from keras3conv.transforms import Array


def running_tensors(module: nn.Module, values: Mapping[str, Array], *, float64: bool) -> dict[str, torch.Tensor]:
    """Tensors to run with: the given values, the module's own where it must be cast, and copies of its buffers."""
    buffers = dict(module.named_buffers())
    changing = dict(module.named_parameters()) if float64 or values else {}
    given = _values_of(module, values)
    substitutes = {}
    for path, tensor in [*changing.items(), *buffers.items()]:
        own = given.get(id(tensor))
        value = tensor.detach() if own is None else to_torch(np.array(own, order="C")).to(tensor.device)
        if float64 and value.is_floating_point():
            value = value.double()
        # A module with a state writes it into its buffers: into a copy, so that every run begins alike.
        value = value.clone() if path in buffers else value
        if own is not None or value.dtype != tensor.dtype or path in buffers:
            substitutes[path] = value
    return substitutes


def _values_of(module: nn.Module, values: Mapping[str, Array]) -> dict[int, Array]:
    """The values that are given, by the id of the tensor: of several names of one, torch wants a single entry."""
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


__all__ = ["computed_weights", "running_tensors"]
