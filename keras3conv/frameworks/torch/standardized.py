"""Handle convolutions that standardize their kernel to mean zero and variance one for each output, times a gain.

The standardized kernel corresponds to the kernel of a plain convolution. The classes are known by name, also as base
classes, because the tensor that they store has the name of any other weight.

Source of the formula: Qiao et al., "Micro-Batch Training with Batch-Channel Normalization and Weight Standardization".
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

_STANDARDIZED = frozenset(
    {
        "timm.layers.std_conv.StdConv2d",
        "timm.layers.std_conv.StdConv2dSame",
        "timm.layers.std_conv.ScaledStdConv2d",
        "timm.layers.std_conv.ScaledStdConv2dSame",
        "transformers.models.bit.modeling_bit.WeightStandardizedConv2d",
    }
)


def is_standardized(module: nn.Module) -> bool:
    """Return whether the class of a module, or one of its base classes, standardizes its kernel."""
    cls: type = type(module)
    return _standardizes(cls)


@lru_cache(maxsize=1024)
def _standardizes(cls: type) -> bool:
    return any(f"{base.__module__}.{base.__qualname__}" in _STANDARDIZED for base in cls.__mro__)


def parts_of(module: nn.Module) -> tuple[str, ...]:
    """Return the names of the tensors from which the kernel is computed."""
    return ("weight", "gain") if "gain" in module._parameters else ("weight",)


def standard_kernel(module: Any) -> torch.Tensor:
    """Return the standardized kernel."""
    with torch.no_grad():
        rows = module.weight.reshape(1, len(module.weight), -1)
        gain = (module.gain * module.scale).view(-1) if "gain" in module._parameters else None
        standard = nn.functional.batch_norm(rows, None, None, gain, training=True, momentum=0.0, eps=module.eps)
        return standard.reshape(module.weight.shape)


def write_kernel(module: Any, value: torch.Tensor) -> None:
    """Write the tensors from which the module computes a kernel, as close to the kernel as possible.

    Without a gain, the variance v of a kernel is below one: v = s / (s + epsilon), with s the variance that is written.
    """
    rows = value.double().reshape(len(value), -1)
    variance = rows.var(1, correction=0)
    with torch.no_grad():
        if "gain" in module._parameters:
            factor = variance.rsqrt().nan_to_num(posinf=0)
            module.gain.copy_(((variance * (1 + module.eps)).sqrt() / module.scale).reshape(module.gain.shape))
        else:
            factor = (module.eps / (1 - variance).clamp(min=2.0**-40)).sqrt()
        module.weight.copy_((rows * factor[:, None]).reshape(value.shape))


@contextmanager
def convolving_with(module: nn.Module, value: torch.Tensor) -> Iterator[None]:
    """Make the module convolve with a kernel, without standardizing it, while the block runs."""
    forward = module.forward

    def with_kernel(*arguments: Any, **keywords: Any) -> Any:
        replacement = _KernelReplaced(value)
        with replacement:
            result = forward(*arguments, **keywords)
        if not replacement.was_used:
            raise RuntimeError(f"{type(module).__name__} does not standardise its weight by batch_norm")
        return result

    vars(module)["forward"] = with_kernel
    try:
        yield
    finally:
        del vars(module)["forward"]


class _KernelReplaced(TorchFunctionMode):
    """Replace the result of the standardization by a kernel."""

    def __init__(self, kernel: torch.Tensor) -> None:
        super().__init__()
        self.kernel, self.was_used = kernel, False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is nn.functional.batch_norm and args[0].shape == (1, len(self.kernel), self.kernel[0].numel()):
            self.was_used = True
            return self.kernel.reshape(args[0].shape)
        return func(*args, **(kwargs or {}))


__all__ = ["convolving_with", "is_standardized", "parts_of", "standard_kernel", "write_kernel"]
