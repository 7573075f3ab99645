"""Runs torch code in float64: what asks for float32 itself, as careful norms do, and what depends on the dtype."""

from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

_ROOT_OF_MEAN_SQUARE = (torch.rms_norm, nn.functional.rms_norm)
_EPSILON = 3
"""The place of the epsilon among their arguments."""


class Float64(TorchFunctionMode):
    """Inside of it, what would become float32 becomes float64: `x.float()`, `x.to(torch.float32)`, `dtype=...`.

    A proof in float64 is about the function that a model computes; rounding on the way is no part of it. A constant
    is: an RMSNorm without an epsilon adds that of float32, for half precision too, and goes on to do so here.

    Args:
        module: The module that is run, with its own tensors: if these are float64, so are its constants.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        tensors = (*module.parameters(), *module.buffers())
        own = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
        self.epsilon = None if own == {torch.float64} else torch.finfo(torch.float32).eps

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Calls the function with float64 in the place of float32."""
        if func is torch.Tensor.float:
            return args[0].double()
        kwargs = {name: _widened(value) for name, value in (kwargs or {}).items()}
        if func in _ROOT_OF_MEAN_SQUARE:
            given = args[_EPSILON] if len(args) > _EPSILON else kwargs.get("eps")
            kwargs["eps"] = self.epsilon if given is None else given
            args = args[:_EPSILON]
        return func(*map(_widened, args), **kwargs)


def _widened(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value
