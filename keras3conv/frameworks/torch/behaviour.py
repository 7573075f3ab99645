"""Find out what a module computes, whatever its class is called, by running a copy of it with chosen parameters.

Two kinds of modules are recognized, because many model families define their own classes for them:

- Convolutions that compute their kernel from their weight, as weight standardization does: the kernel that the copy
  passes to torch's convolution function is compared with the weight. Source of the usual formula: Qiao et al.,
  "Micro-Batch Training with Batch-Channel Normalization and Weight Standardization".
- Normalizations that multiply by `1 + weight` ("centred" norms): neither their names nor their attributes show whether
  they add 1 to the weight, so the output of the copy is compared with the formula.
"""

import copy
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from keras3conv.errors import RAISED_BY_MODELS
from keras3conv.frameworks.torch.centred import CentredLayerNorm, CentredRMSNorm
from keras3conv.frameworks.torch.depthwise import CONVOLUTIONS


def copy_with(module: nn.Module, parameters: Mapping[str, torch.Tensor]) -> nn.Module:
    """Return a copy of a module with other parameters; a run of the copy does not change the module's tensors.

    Args:
        module: The module; its submodules are shared with the copy.
        parameters: The new parameters by name; all other parameters are copied.
    """
    twin = copy.copy(module)
    vars(twin)["_parameters"] = {
        name: None if own is None else nn.Parameter(parameters.get(name, own.detach().clone()), requires_grad=False)
        for name, own in module._parameters.items()
    }
    vars(twin)["_buffers"] = {
        name: None if tensor is None else tensor.clone() for name, tensor in module._buffers.items()
    }
    return twin


def pattern(shape: tuple[int, ...], phase: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return a tensor of distinct values between -1 and 1 that do not depend on a random generator.

    Args:
        shape: The shape.
        phase: A number; tensors with different phases have different values.
        dtype: The dtype.
    """
    count = torch.Size(shape).numel()
    return torch.sin(torch.arange(count, dtype=torch.float64) * 1.7 + phase).reshape(shape).to(dtype)


_SMALL = 2.0**-10
"""A factor that makes the variance of a kernel about as small as the usual epsilon."""

_known_kernels: dict[Hashable, tuple[str, ...]] = {}
"""A cache of `kernel_parts` by class, attributes and shapes, because a model has many convolutions of one kind."""


def kernel_parts(module: nn.Module) -> tuple[str, ...]:
    """Return the names of the parameters from which a convolution computes its kernel; empty for a plain weight."""
    shapes = tuple((name, tensor is not None and tensor.shape) for name, tensor in module._parameters.items())
    cls: Any = type(module)
    key = (cls, cls.forward, cls._conv_forward, shapes, repr(module))
    if key not in _known_kernels:
        _known_kernels[key] = _observed_parts(module)
    return _known_kernels[key]


def _observed_parts(module: nn.Module) -> tuple[str, ...]:
    """Run copies of a convolution, and return the names of the parameters that its kernel depends on.

    The result is empty if the kernel is the weight itself.
    """
    own = {name: tensor for name, tensor in module._parameters.items() if tensor is not None and name != "bias"}
    first = {name: pattern(tuple(tensor.shape), 0.2) for name, tensor in own.items()}
    try:
        kernel = _kernel(module, first)
        if kernel is None or torch.equal(kernel, first["weight"]):
            return ()
        others = {name: pattern(tuple(tensor.shape), 1.1) for name, tensor in own.items()}
        changed = {name: _kernel(module, first | {name: others[name]}) for name in own}
    except RAISED_BY_MODELS:
        return ()
    return tuple(name for name, other in changed.items() if other is not None and not torch.equal(other, kernel))


def computed_kernel(module: nn.Module) -> torch.Tensor:
    """Return the kernel with which a convolution module convolves; it may be computed from the module's weight."""
    kernel = _kernel(module, {})
    assert kernel is not None  # kernel_parts has observed a kernel
    return kernel


def _kernel(module: nn.Module, parameters: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
    """Run a copy of a convolution with other parameters, and return the kernel with which the copy convolves.

    Args:
        module: The convolution.
        parameters: The new parameters of the copy, by name.

    Returns:
        The kernel; None if no convolution with a kernel of the weight's shape is called.
    """
    twin: Any = copy_with(module, parameters)
    weight = twin._parameters["weight"]
    if (bias := twin._parameters.get("bias")) is not None:
        twin._parameters["bias"] = nn.Parameter(bias.to(weight), requires_grad=False)
    pads = (0,) * len(twin.kernel_size) if isinstance(twin.padding, str) else twin.padding
    sizes = [step * (size - 1) + 1 + pad for size, step, pad in zip(twin.kernel_size, twin.dilation, pads, strict=True)]
    mode = _KernelMode(weight.shape)
    with torch.no_grad(), mode:
        twin.forward(torch.zeros((1, twin.in_channels, *sizes)).to(weight))
    return mode.kernel


def write_kernel(module: nn.Module, value: torch.Tensor) -> None:
    """Write parameters into a convolution, so that the kernel computed from them is as close as possible to a value."""
    parts = kernel_parts(module)
    found = {"weight": value}
    if not torch.equal(_kernel(module, {"weight": value}), value):  # type: ignore[arg-type]
        found = _with_gain(module, value, parts) if len(parts) > 1 else _without_gain(module, value)
    with torch.no_grad():
        for name, tensor in found.items():
            module._parameters[name].copy_(tensor)  # type: ignore[union-attr]


def _with_gain(module: nn.Module, value: torch.Tensor, parts: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """Return parameters from which a convolution computes a requested kernel: a weight of variance one, and gains.

    Args:
        module: The convolution.
        value: The requested kernel.
        parts: The names of the parameters from which the module computes its kernel: "weight" and the gain.

    Returns:
        The new parameters by name.
    """
    wide = value.double()
    weight = wide * _for_outputs(_rows(wide).std(1, correction=0), value).reciprocal().nan_to_num(posinf=0)
    gain = next(name for name in parts if name != "weight")
    ones = {"weight": weight, gain: torch.ones_like(module._parameters[gain], dtype=torch.float64)}  # type: ignore[arg-type]
    made = _kernel(module, ones)
    ratio = (_rows(wide).norm(dim=1) / _rows(made).norm(dim=1)).nan_to_num()  # type: ignore[arg-type]
    return {"weight": weight, gain: ratio.reshape(ones[gain].shape)}


def _without_gain(module: nn.Module, value: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the weight whose standardized kernel has the given value.

    A standardized kernel has the variance v = s / (s + epsilon) < 1, where s is the variance of the weight. The epsilon
    is derived from the kernels of two weights that are multiples of the value. The weight is a multiple, too.

    Args:
        module: The convolution, which standardizes its weight.
        value: The kernel.

    Returns:
        The new parameters by name.
    """
    wide = value.double()
    squares = []
    for factor in (1.0, _SMALL):
        made = _kernel(module, {"weight": wide * factor})
        squares.append((factor * _rows(wide).norm(dim=1) / _rows(made).norm(dim=1)) ** 2)  # type: ignore[arg-type]
    epsilon = (squares[1] - _SMALL**2 * squares[0]) / (1 - _SMALL**2)
    factor = (epsilon / (1 - (squares[0] - epsilon)).clamp(min=2.0**-40)).clamp(min=0).sqrt().nan_to_num(posinf=0)
    return {"weight": wide * _for_outputs(factor, value)}


def _rows(kernel: torch.Tensor) -> torch.Tensor:
    """Return a kernel as a matrix with a row for each output."""
    return kernel.reshape(len(kernel), -1)


def _for_outputs(values: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Reshape a vector with one value for each output channel, so that it broadcasts along the kernel's first axis."""
    return values.reshape(-1, *(1,) * (kernel.ndim - 1))


@contextmanager
def convolving_with(module: nn.Module, value: torch.Tensor) -> Iterator[None]:
    """Make a convolution module use a given kernel instead of the one it computes, inside the `with` block."""
    forward = module.forward

    def with_kernel(*arguments: Any, **keywords: Any) -> Any:
        mode = _KernelMode(value.shape, value)
        with mode:
            result = forward(*arguments, **keywords)
        if mode.kernel is None:
            raise RuntimeError(f"{type(module).__name__} does not pass its kernel to a convolution function of torch")
        return result

    vars(module)["forward"] = with_kernel
    try:
        yield
    finally:
        del vars(module)["forward"]


class _KernelMode(TorchFunctionMode):
    """Intercepts convolution functions: stores the kernel that they get, and replaces it if a kernel is given."""

    def __init__(self, shape: tuple[int, ...], instead: torch.Tensor | None = None) -> None:
        super().__init__()
        self.shape, self.instead = shape, instead
        self.kernel: torch.Tensor | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        keywords = dict(kwargs or {})
        if func in CONVOLUTIONS:
            positional = dict(zip(("input", "weight"), args, strict=False))
            keywords, args = positional | keywords, args[2:]
            if keywords["weight"].shape == self.shape:
                self.kernel = keywords["weight"]
                keywords["weight"] = self.kernel if self.instead is None else self.instead
            args = (keywords.pop("input"), keywords.pop("weight"), *args)
        return func(*args, **keywords)


_TOLERANCE = 1e-4
"""The relative error up to which outputs agree; the layers compute in float32, and some round their input first."""


@dataclass(frozen=True, kw_only=True)
class CentredNorm:
    """The class (`CentredRMSNorm` or `CentredLayerNorm`) that is equivalent to a user's module.

    Attributes:
        kind: The qualified name of the class.
        config: The constructor arguments of the class.
    """

    kind: str
    config: Mapping[str, Any]


_known_norms: dict[Hashable, CentredNorm | None] = {}
"""A cache of the recognized norms by class, attributes and parameter sizes: a model has many norms of one kind."""


def centred_norm(module: nn.Module, config: Mapping[str, Any]) -> CentredNorm | None:
    """Return the description of a module that normalizes and multiplies by `1 + weight`; None for any other module."""
    shapes = tuple((name, tensor is not None and tensor.shape) for name, tensor in module._parameters.items())
    key = (type(module), type(module).forward, repr(sorted(config.items(), key=lambda entry: entry[0])), shapes)
    if key not in _known_norms:
        _known_norms[key] = _recognized_norm(module, config)
    return _known_norms[key]


def _recognized_norm(module: nn.Module, config: Mapping[str, Any]) -> CentredNorm | None:
    parameters = {
        name: pattern(tuple(tensor.shape), phase) / 2
        for (name, tensor), phase in zip(module._parameters.items(), (0.3, 0.9), strict=False)
        if tensor is not None
    }
    twin = copy_with(module, parameters)
    for cls, arguments in _possible_norms(config, parameters):
        norm = cls(**arguments)
        # The inputs are as small as the epsilon, so that the output depends on it.
        inputs = pattern((2, 3, len(parameters["weight"])), 0.1) * norm.eps**0.5
        if _returns(twin, inputs, copy_with(norm, parameters)(inputs)):
            return CentredNorm(kind=f"{cls.__module__}.{cls.__name__}", config=arguments)
    return None


def _possible_norms(
    config: Mapping[str, Any], parameters: Mapping[str, torch.Tensor]
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Yield the norms with `1 + weight` to compare a module with, each as its class and its constructor arguments.

    Each number between 0 and 1 in the attributes of the module may be the epsilon.

    Args:
        config: The plain attributes of the module.
        parameters: Its parameters by name: a weight, and perhaps a bias.
    """
    size, bias = len(parameters["weight"]), "bias" in parameters
    for value in dict.fromkeys(value for value in config.values() if isinstance(value, float) and 0 < value < 1):
        if not bias:
            yield CentredRMSNorm, {"dim": size, "eps": value}
        yield CentredLayerNorm, {"normalized_shape": (size,), "eps": value, "bias": bias}


def _returns(module: nn.Module, inputs: torch.Tensor, expected: torch.Tensor) -> bool:
    try:
        with torch.no_grad():
            found = module.forward(inputs.clone())
    except RAISED_BY_MODELS:
        return False
    if not isinstance(found, torch.Tensor) or found.shape != expected.shape:
        return False
    return torch.allclose(found.to(expected.dtype), expected, rtol=_TOLERANCE, atol=_TOLERANCE)
