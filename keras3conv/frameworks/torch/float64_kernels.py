"""Replace calls of torch functions in a float64 run that are slow, or that refuse a float32 constant.

A matrix product refuses operands of two dtypes. In a float64 run one of them may be a float32 constant that is no
parameter and no buffer, such as a matrix of interpolation weights or the kernel of a blur: it is converted to float64,
which does not change its values.
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody gives it
from torch.overrides import TorchFunctionMode

from keras3conv.frameworks.torch.depthwise import CONVOLUTIONS, depthwise
from keras3conv.frameworks.torch.tensors import tensors_in

_NAMES = (
    *("matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "mv", "dot", "inner", "vdot", "addmm", "addmv", "addbmm"),
    *("baddbmm", "einsum", "tensordot", "multi_dot", "chain_matmul", "cdist", "linear", "bilinear"),
    *("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
    *("scaled_dot_product_attention", "grid_sample", "lerp"),
)
_OF_ONE_DTYPE = frozenset(
    getattr(owner, name) for owner in (torch, torch.Tensor, torch.linalg, F) for name in _NAMES if hasattr(owner, name)
)
"""The functions whose tensors must all have the same dtype."""

_BOTH = {torch.float32, torch.float64}


class Float64Kernels(TorchFunctionMode):
    """Converts float32 operands beside float64 ones, and computes depthwise convolutions as sums.

    Calls any other torch function unchanged.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a torch function, or compute the same in another way."""
        kwargs = kwargs or {}
        if func in _OF_ONE_DTYPE and {torch.float32, torch.float64} <= {
            one.dtype for one in tensors_in((args, kwargs))
        }:
            args, kwargs = _in_float64(args), _in_float64(kwargs)
        sums = depthwise(func, args, kwargs) if func in CONVOLUTIONS else None
        return func(*args, **kwargs) if sums is None else sums


def _in_float64(value: Any) -> Any:
    """Return a nested structure with its float32 tensors in float64."""
    if isinstance(value, torch.Tensor):
        return value.to(torch.float64) if value.dtype == torch.float32 else value
    if isinstance(value, dict):
        return {name: _in_float64(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(map(_in_float64, value))
    return value
