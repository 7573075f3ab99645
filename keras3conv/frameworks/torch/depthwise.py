"""Compute depthwise convolutions in float64 on a CPU as sums of shifted inputs, several times faster than PyTorch.

PyTorch has no float64 kernel for convolutions with groups: it makes one small convolution for each group, and a
depthwise convolution has as many groups as channels. The sum has one term for each element of the kernel. The
mathematical function is the same; the order of the additions differs.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import torch
from torch import nn

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
