"""Find the constants in a torch module that are not weights and are stored as float32."""

from collections.abc import Iterator, Set

import torch
from torch import nn

from keras3conv.frameworks.torch.tensors import named_modules


def float32_constants(module: nn.Module, mapped: Set[str]) -> Iterator[str]:
    """Yield the paths of float32 tensors with fractional values that are constants: no parameters, and in no pair.

    Args:
        module: The module.
        mapped: The paths of the tensors that the plan pairs.
    """
    for path, child in named_modules(module):
        for name, value in {**vars(child), **child._buffers}.items():
            full = f"{path}.{name}" if path else name
            is_constant = isinstance(value, torch.Tensor) and not isinstance(value, nn.Parameter) and full not in mapped
            if is_constant and value.dtype == torch.float32 and not torch.equal(value, value.round()):
                yield full
