"""Define the function modes of a float64 run of torch: float64 in the place of float32, and other kernels.

Kernels are replaced where torch is slow in float64, refuses a float32 constant, or computes a gradient with one.

A matrix product refuses operands of two dtypes. In a float64 run one of them may be a float32 constant that is no
parameter and no buffer, such as a matrix of interpolation weights or the kernel of a blur: it is converted to float64,
which does not change its values.

On a CPU, PyTorch has no float64 kernel for convolutions with groups: it makes one small convolution for each group, and
a depthwise convolution has as many groups as channels. Here it is a sum of shifted inputs with one term for each
element of the kernel, several times faster. The mathematical function is the same; the order of the additions differs.
PyTorch has no float64 kernel for `grouped_mm` either, which multiplies groups of rows: they are multiplied one by one.

In float64, too, PyTorch differentiates `hardsigmoid` with 1/6 and `celu` with 1/alpha in float32. Models that write
such a function as other operations (`relu6(x + 3) / 6`) have the exact gradient.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody gives it
from torch import nn
from torch.overrides import TorchFunctionMode

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
    """Converts float32 operands beside float64 ones, and computes depthwise convolutions as sums.

    Gradients have no constants in float32. Calls any other torch function unchanged.
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


CONVOLUTIONS = {torch.conv1d: 1, torch.conv2d: 2, torch.conv3d: 3}
"""The convolution functions of torch that modules and Keras call, each with the number of spatial axes."""

_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_DEFAULTS: dict[str, Any] = {"bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1}


def depthwise(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> torch.Tensor | None:
    """Compute a call of a convolution function as a sum if it is a depthwise convolution of float64 tensors on the CPU.

    Args:
        function: A function in `CONVOLUTIONS`.
        args: The positional arguments of the call.
        kwargs: The keyword arguments of the call.

    Returns:
        The result of the call; None for any other convolution.
    """
    axes = CONVOLUTIONS[function]
    given = {**_DEFAULTS, **dict(zip(_ARGUMENTS, args, strict=False)), **kwargs}
    return _convolution(axes, **given) if _is_depthwise(axes, given) else None


def _is_depthwise(axes: int, arguments: dict[str, Any]) -> bool:
    """Return whether a convolution is depthwise (one input channel per group), and can be computed as a sum.

    Args:
        axes: The number of spatial axes.
        arguments: The arguments of the convolution function, by name.
    """
    values, groups = arguments["input"], arguments["groups"]
    return bool(
        groups > 1
        and values.ndim == axes + 2
        and values.shape[1] == groups
        and values.dtype == arguments["weight"].dtype == torch.float64
        and values.device.type == "cpu"
    )


def _convolution(
    axes: int,
    input: torch.Tensor,  # noqa: A002 - the name in torch
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: int | Sequence[int],
    padding: int | str | Sequence[int],
    dilation: int | Sequence[int],
    groups: int,
) -> torch.Tensor:
    stride, dilation = _for_each(axes, stride), _for_each(axes, dilation)
    padded = nn.functional.pad(input, _margins(axes, padding, weight.shape[2:], dilation))
    multiplier = weight.shape[0] // groups
    if multiplier > 1:
        padded = padded.repeat_interleave(multiplier, dim=1)
    result: torch.Tensor = _ShiftedSum.apply(  # type: ignore[no-untyped-call]  # torch does not annotate it
        padded, weight, stride, dilation
    )
    return result if bias is None else result + bias.reshape(-1, *(1,) * axes)


def _for_each(axes: int, value: int | Sequence[int]) -> tuple[int, ...]:
    """Return an argument of a convolution as a number for each spatial axis; torch also accepts a single number.

    Args:
        axes: The number of spatial axes.
        value: The stride, padding or dilation in a call.
    """
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * axes if len(values) == 1 else values


def _margins(
    axes: int, padding: int | str | Sequence[int], kernel: Sequence[int], dilation: Sequence[int]
) -> list[int]:
    """Return the padding of a convolution as the argument of `torch.nn.functional.pad`, last axis first.

    Args:
        axes: The number of spatial axes.
        padding: The argument of the convolution: "same", "valid", or numbers.
        kernel: The size of the kernel along each axis.
        dilation: The dilation along each axis.
    """
    if padding == "valid":
        pairs = [(0, 0)] * axes
    elif padding == "same":
        totals = [step * (size - 1) for size, step in zip(kernel, dilation, strict=True)]
        pairs = [(total // 2, total - total // 2) for total in totals]
    else:
        assert not isinstance(padding, str), "torch has no other names of paddings"
        pairs = [(size, size) for size in _for_each(axes, padding)]
    return [size for pair in reversed(pairs) for size in pair]


class _ShiftedSum(torch.autograd.Function):
    """The autograd function of a depthwise convolution of padded inputs: the output and its gradients."""

    @staticmethod
    def forward(
        context: Any, values: torch.Tensor, weight: torch.Tensor, stride: tuple[int, ...], dilation: tuple[int, ...]
    ) -> torch.Tensor:
        context.save_for_backward(values, weight)
        context.steps = stride, dilation
        result: torch.Tensor | None = None
        for window, factor in _terms(values, weight, stride, dilation):
            if result is None:
                result = values[window] * factor
            else:
                result.addcmul_(values[window], factor)
        assert result is not None, "a kernel has at least one element"
        return result

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None, None]:
        (gradient,), (values, weight) = gradients, context.saved_tensors
        of_values, of_weight = torch.zeros_like(values), []
        spatial = [0, *range(2, values.ndim)]
        for window, factor in _terms(values, weight, *context.steps):
            of_values[window] += gradient * factor
            of_weight.append((gradient * values[window]).sum(spatial))
        return of_values, torch.stack(of_weight, 1).reshape(weight.shape), None, None


def _terms(
    values: torch.Tensor, weight: torch.Tensor, stride: Sequence[int], dilation: Sequence[int]
) -> Iterator[tuple[tuple[slice, ...], torch.Tensor]]:
    """Yield, for each element of a depthwise kernel, the window of the inputs and the factor of each channel.

    Yields:
        The slices that select the window from `values`, and the factors in a shape that multiplies with the window.
    """
    axes = list(zip(values.shape[2:], weight.shape[2:], stride, dilation, strict=True))
    lengths = [(size - step * (kernel - 1) - 1) // by * by + 1 for size, kernel, by, step in axes]
    for number, place in enumerate(product(*(range(kernel) for _, kernel, _, _ in axes))):
        starts = [index * step for index, step in zip(place, dilation, strict=True)]
        windows = (slice(start, start + length, by) for start, length, by in zip(starts, lengths, stride, strict=True))
        elements: torch.Tensor = weight[:, 0].flatten(1)[:, number]
        factor = elements.reshape(-1, *(1,) * len(axes))
        yield (slice(None), slice(None), *windows), factor


_ROOT_OF_MEAN_SQUARE = (torch.rms_norm, nn.functional.rms_norm)


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
