"""Runs torch code in float64 where it asks for float32 itself, as norms do that are careful in short dtypes."""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class Float64(TorchFunctionMode):
    """Inside of it, what would become float32 becomes float64: `x.float()`, `x.to(torch.float32)`, `dtype=...`.

    A proof in float64 is about the function that a model computes; rounding on the way is no part of it.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Calls the function with float64 in the place of float32."""
        if func is torch.Tensor.float:
            return args[0].double()
        kwargs = {name: _widened(value) for name, value in (kwargs or {}).items()}
        return func(*map(_widened, args), **kwargs)


def _widened(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value
