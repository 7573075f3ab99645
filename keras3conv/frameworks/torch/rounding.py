"""Run a torch module with the rounding of Keras, and find the constants and angles that are rounded to float32."""

from collections.abc import Iterator, Set
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from keras3conv.frameworks.torch.tensors import named_modules
from keras3conv.transforms import Array


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


_SINES = frozenset({torch.sin, torch.cos, torch.Tensor.sin, torch.Tensor.cos, torch.sin_, torch.cos_})

_BITS = 12
"""The number of significant bits that an angle keeps."""


class RoundedSines(TorchFunctionMode):
    """Rounds the angle of every sine and cosine to 12 bits, and collects the angles before.

    Two models whose angles differ by the rounding of float32 then compute with equal angles. The mode covers Keras
    models on the torch backend, too.
    """

    def __init__(self) -> None:
        super().__init__()
        self._angles: list[torch.Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a torch function; the angle of a sine or cosine is rounded first."""
        if func in _SINES and args[0].is_floating_point():
            angle = args[0]
            self._angles.append(torch.unique(angle.detach().double()))
            args = (angle + (_rounded(angle) - angle).detach(), *args[1:])  # the derivative is that of the angle
        return func(*args, **(kwargs or {}))

    def take_angles(self) -> Array:
        """Return the different angles so far, sorted, and forget them."""
        found = torch.unique(torch.cat(self._angles)).cpu().numpy() if self._angles else np.zeros(0)
        self._angles.clear()
        return np.asarray(found)


def _rounded(angle: torch.Tensor) -> torch.Tensor:
    mantissa, exponent = torch.frexp(angle)
    return torch.ldexp(torch.round(mantissa * 2.0**_BITS) / 2.0**_BITS, exponent)


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
