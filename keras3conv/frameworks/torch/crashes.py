"""Avoid calls with which torch itself crashes the process."""

from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

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
