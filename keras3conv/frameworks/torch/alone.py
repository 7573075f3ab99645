"""Build a torch module that holds only one layer of another module, or a few layers that belong together."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import nn

from keras3conv.frameworks.torch.tensors import named_tensors, tensors_in
from keras3conv.transforms import Array, Arrays

Arguments = Callable[[tuple[Any, ...]], tuple[Any, ...]]
"""A function that returns the positional arguments of the first layer for the inputs of the module."""

Select = Callable[[Arrays], Array]
"""A function that selects one of the outputs of the last layer, and orders its axes."""


class Alone(nn.Module):
    """A module that contains some layers of another module, under the same paths, and calls them.

    Args:
        layers: The layers by path.
        arguments: Returns the positional arguments of the first layer for the inputs of the module.
        select: Selects one of the outputs of the last layer and orders its axes, without changing values.
        joined: Whether all layers take the same input and their outputs are concatenated; else they are called in
            sequence.
    """

    def __init__(
        self, layers: Mapping[str, nn.Module], arguments: Arguments, select: Select, *, joined: bool = False
    ) -> None:
        super().__init__()
        for path, layer in layers.items():
            self._place(path, layer)
        self._layers, self._arguments, self._select, self._joined = tuple(layers.values()), arguments, select, joined

    def _place(self, path: str, layer: nn.Module) -> None:
        *parents, name = path.split(".")
        owner: nn.Module = self
        for parent in parents:
            if parent not in owner._modules:
                owner.add_module(parent, nn.Module())
            owner = owner.get_submodule(parent)
        owner.add_module(name, layer)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Return one output of the last layer, as the function `select` chooses it and orders its axes."""
        value: Any = self._arguments(inputs)
        if self._joined:
            value = torch.cat([layer(*value) for layer in self._layers], -1)
        else:
            for layer in self._layers:
                value = layer(*value) if isinstance(value, tuple) else layer(value)
        first, *others = tensors_in(value)
        # The selection moves values: apply it to their positions to learn where each one goes.
        places = np.arange(first.numel()).reshape(tuple(first.shape))
        chosen = self._select((places, *(np.zeros(tuple(other.shape), int) for other in others)))
        return first.reshape(-1)[torch.from_numpy(np.ascontiguousarray(chosen))]


def copy_of_layer(module: nn.Module, path: str) -> nn.Module:
    """Return a copy of a layer; if the layer is on the meta device, the copy is on the CPU, with undefined values.

    Raises:
        AttributeError: The module has no layer with this path.
    """
    copied = deepcopy(module.get_submodule(path))
    if any(tensor.is_meta for _, tensor in named_tensors(copied)):
        copied = copied.to_empty(device="cpu")
    return copied
