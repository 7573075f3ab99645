"""Run a torch module with the rounding of Keras: in Keras' compute dtype, and with Keras' formula of the variance."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode


@contextmanager
def rounding_of_keras(dtype: str, device: torch.device, *, squares: bool) -> Iterator[None]:
    """Make torch round as Keras does inside the `with` block.

    Args:
        dtype: The narrow dtype in which layers of Keras compute; empty for none.
        device: The device of the module.
        squares: Whether Keras computes a variance as the mean of the squares minus the square of the mean.
    """
    with ExitStack() as contexts:
        if dtype:
            contexts.enter_context(torch.autocast(device.type, dtype=getattr(torch, dtype)))
        if squares:
            contexts.enter_context(_VarianceOfSquares())
        yield


class _VarianceOfSquares(TorchFunctionMode):
    """Computes the variance of group and instance normalisations by Keras' formula: E(x^2) - E(x)^2.

    So does `keras.ops.moments` on the torch backend. The difference of two nearly equal numbers loses digits if the
    mean of a group is large next to its deviation.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is functional.group_norm:
            return _group_norm(*args, **kwargs)
        if func is functional.instance_norm and args[0].ndim > 2:
            return _instance_norm(*args, **kwargs)
        return func(*args, **kwargs)


def _group_norm(
    x: torch.Tensor,
    num_groups: int,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
) -> torch.Tensor:
    groups = x.reshape(len(x), num_groups, -1, *x.shape[2:])  # (samples, groups, channels of a group, ...)
    axes = tuple(range(2, groups.ndim))
    mean = groups.mean(axes, keepdim=True)
    variance = groups.square().mean(axes, keepdim=True) - mean.square()
    each = (1, num_groups, -1, *(1,) * (x.ndim - 2))
    factor = torch.rsqrt(variance + eps) * (1 if weight is None else weight.reshape(each))
    summand = (0 if bias is None else bias.reshape(each)) - mean * factor
    return (groups * factor + summand).reshape(x.shape)


def _instance_norm(
    x: torch.Tensor,
    running_mean: torch.Tensor | None = None,
    running_var: torch.Tensor | None = None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> torch.Tensor:
    if not use_input_stats:
        return functional.instance_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    return _group_norm(x, x.shape[1], weight, bias, eps)
