"""Define the function modes of a float64 run of torch: float64 in the place of float32, and other kernels.

Kernels are replaced where torch is slow in float64, refuses a float32 constant, or computes a gradient with one.

A matrix product refuses operands of two dtypes. In a float64 run one of them may be a float32 constant that is no
parameter and no buffer, such as a matrix of interpolation weights or the kernel of a blur: it is converted to float64,
which does not change its values.

PyTorch has no float64 kernel for `grouped_mm`, which multiplies groups of rows: they are multiplied one by one.

In float64, too, PyTorch differentiates `hardsigmoid` with 1/6 and `celu` with 1/alpha in float32. Models that write
such a function as other operations (`relu6(x + 3) / 6`) have the exact gradient.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody gives it
from torch import nn
from torch.overrides import TorchFunctionMode

from keras3conv.frameworks.torch.depthwise import CONVOLUTIONS, depthwise
from keras3conv.frameworks.torch.tensors import tensors_in

_NAMES = (
    *("matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "mv", "dot", "inner", "vdot", "addmm", "addmv", "addbmm"),
    *("baddbmm", "einsum", "tensordot", "multi_dot", "chain_matmul", "cdist", "linear", "bilinear"),
    *("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
    *("scaled_dot_product_attention", "grid_sample", "lerp", "scatter_reduce"),
)
_OF_ONE_DTYPE = frozenset(
    getattr(owner, name) for owner in (torch, torch.Tensor, torch.linalg, F) for name in _NAMES if hasattr(owner, name)
)
"""The functions whose tensors must all have the same dtype."""

_BOTH = {torch.float32, torch.float64}

_FILLED = frozenset({torch.zeros, torch.ones})
"""The functions that create a float32 tensor, into which a function of Keras may copy float64 values."""


def _hardsigmoid(input: torch.Tensor, inplace: bool = False) -> torch.Tensor:  # noqa: A002 - the name in torch
    made = F.hardtanh(input + 3, 0, 6) / 6
    return input.copy_(made) if inplace else made


def _celu(input: torch.Tensor, alpha: float = 1.0, inplace: bool = False) -> torch.Tensor:  # noqa: A002
    made: torch.Tensor = torch.ops.aten.elu(input, alpha, 1, 1 / alpha)
    return input.copy_(made) if inplace else made


_WITH_EXACT_GRADIENTS: Mapping[Any, Callable[..., torch.Tensor]] = {
    F.hardsigmoid: _hardsigmoid,
    F.celu: _celu,
    torch.celu: _celu,
}
"""The functions whose gradient torch computes with a float32 constant, each with one that has the exact gradient."""


class Float64Kernels(TorchFunctionMode):
    """Converts a float32 operand to float64 if another operand is float64; computes depthwise convolutions as sums.

    So gradients are computed without float32 constants, too. Any other torch function is called unchanged.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a torch function with its operands in one dtype; compute a depthwise convolution as a sum."""
        kwargs = kwargs or {}
        if func is torch.Tensor.float and args[0].dtype == torch.float64:
            return args[0]  # Keras' reductions of segments ask for float32 to get a floating-point tensor
        if func in _FILLED and kwargs.get("dtype") is None:
            kwargs = {**kwargs, "dtype": torch.float64}
        if func in _WITH_EXACT_GRADIENTS and {one.dtype for one in tensors_in((args, kwargs))} == {torch.float64}:
            return _WITH_EXACT_GRADIENTS[func](*args, **kwargs)
        if func in _OF_ONE_DTYPE and {one.dtype for one in tensors_in((args, kwargs))} >= _BOTH:
            args, kwargs = _in_float64(args), _in_float64(kwargs)
        sums = depthwise(func, args, kwargs) if func in CONVOLUTIONS else None
        sums = _products(*args, **kwargs) if func in _GROUPED else sums
        return func(*args, **kwargs) if sums is None else sums


_GROUPED = tuple(
    getattr(owner, name) for owner, name in ((F, "grouped_mm"), (torch, "_grouped_mm")) if hasattr(owner, name)
)
"""The functions that multiply each group of rows by the matrix of the group."""


def _products(
    rows: torch.Tensor, matrices: torch.Tensor, offs: torch.Tensor | None = None, **others: Any
) -> torch.Tensor | None:
    """Return the product of each group of rows and its matrix; None if the tensors are not float64, or no groups.

    Args:
        rows: The rows of all groups.
        matrices: The matrix of each group.
        offs: The index at which each group ends.
        others: Further arguments of `grouped_mm`.
    """
    is_plain = all(other is None for other in others.values())
    if offs is None or not is_plain or rows.dtype != torch.float64 or (rows.ndim, matrices.ndim) != (2, 3):
        return None
    ends = [0, *offs.tolist()]
    made = [rows[start:end] @ matrix for start, end, matrix in zip(ends, ends[1:], matrices, strict=False)]
    return torch.cat([*made, rows.new_zeros(len(rows) - ends[-1], matrices.shape[-1])])


def _in_float64(value: Any) -> Any:
    """Return a nested structure with its float32 tensors in float64."""
    if isinstance(value, torch.Tensor):
        return value.to(torch.float64) if value.dtype == torch.float32 else value
    if isinstance(value, dict):
        return {name: _in_float64(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(map(_in_float64, value))
    return value


_ROOT_OF_MEAN_SQUARE = (torch.rms_norm, F.rms_norm)

_EPSILON = 3
"""The index of the epsilon among the arguments of torch's functions for RMS normalization."""


class Float64(TorchFunctionMode):
    """Replaces float32 by float64 in the arguments of torch functions: `x.float()`, `dtype=torch.float32`.

    Complex numbers of two float32 become those of two float64.

    A float64 run checks the function that a model computes, without its rounding. Constants belong to the function: an
    RMSNorm without an epsilon uses the machine epsilon of float32, also for half precision. In this mode it still uses
    that of float32.

    Args:
        module: The module to run, with its own tensors. If they are float64, the machine epsilon of float64 is used.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        tensors = (*module.parameters(), *module.buffers())
        own = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
        self.epsilon = None if own == {torch.float64} else torch.finfo(torch.float32).eps

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a torch function, with float64 in the place of float32 in its arguments."""
        if func is torch.Tensor.float:
            return args[0].double()
        if getattr(func, "__name__", "") == "cfloat":
            return args[0].cdouble()
        kwargs = {name: _as_float64(value) for name, value in (kwargs or {}).items()}
        if func in _ROOT_OF_MEAN_SQUARE:
            given = args[_EPSILON] if len(args) > _EPSILON else kwargs.get("eps")
            kwargs["eps"] = self.epsilon if given is None else given
            args = args[:_EPSILON]
        return func(*map(_as_float64, args), **kwargs)


def _as_float64(value: Any) -> Any:
    if value is torch.complex64:
        return torch.complex128
    return torch.float64 if value is torch.float32 else value
