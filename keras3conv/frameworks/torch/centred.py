"""Recognize normalization layers that multiply by `1 + weight` ("centred" norms), by running them.

Many model families define their own class for such a layer. Neither its name nor its attributes show whether it adds 1
to the weight. So a copy of the layer is run with known weights, and its output is compared with the formula.
"""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from keras3conv.errors import RAISED_BY_MODELS
from keras3conv.frameworks.torch.behaviour import copy_with, overrides, pattern

_TOLERANCE = 1e-4
"""The relative error up to which outputs agree; the layers compute in float32, and some round their input first."""


class CentredRMSNorm(nn.Module):
    """An RMSNorm over the last axis that multiplies by one plus its weight.

    Args:
        dim: The size of the last axis.
        eps: The number that is added to the mean square.
    """

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.dim, self.eps = dim, eps
        self.weight = nn.Parameter(torch.zeros(dim))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the input, normalized and multiplied by one plus the weight."""
        mean_square = inputs.square().mean(-1, keepdim=True)
        return inputs * torch.rsqrt(mean_square + self.eps) * (1.0 + self.weight)


class CentredLayerNorm(nn.LayerNorm):
    """A LayerNorm over the last axis that multiplies by one plus its weight."""

    def __init__(self, normalized_shape: tuple[int, ...], eps: float = 1e-5, bias: bool = True) -> None:
        super().__init__(normalized_shape, eps, bias=bias)
        nn.init.zeros_(self.weight)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the input, normalized and multiplied by one plus the weight."""
        return nn.functional.layer_norm(inputs, self.normalized_shape, 1.0 + self.weight, self.bias, self.eps)


@dataclass(frozen=True, kw_only=True)
class CentredNorm:
    """The class of this file (`CentredRMSNorm` or `CentredLayerNorm`) that is equivalent to a user's module.

    Attributes:
        kind: The qualified name of the class.
        config: The constructor arguments of the class.
    """

    kind: str
    config: Mapping[str, Any]


_known: dict[Hashable, CentredNorm | None] = {}
"""A cache of the recognized norms by class, attributes and parameter sizes: a model has many norms of one kind."""


def centred_norm(module: nn.Module, config: Mapping[str, Any]) -> CentredNorm | None:
    """Return the description of a module that normalizes and multiplies by `1 + weight`; None for any other module."""
    if not may_be_norm(module):
        return None
    shapes = tuple((name, tensor is not None and tensor.shape) for name, tensor in module._parameters.items())
    key = (type(module), type(module).forward, repr(sorted(config.items(), key=lambda entry: entry[0])), shapes)
    if key not in _known:
        _known[key] = _recognize(module, config)
    return _known[key]


def may_be_norm(module: nn.Module) -> bool:
    """Return True if a module may be a norm: it has its own `forward`, a weight per channel, and maybe a bias."""
    own = {name: tensor for name, tensor in module._parameters.items() if tensor is not None}
    if "weight" not in own or not own.keys() <= {"weight", "bias"} or module._modules or module._buffers:
        return False
    shape = own["weight"].shape
    channels = len(shape) == 1 and shape[0] > 1 and all(tensor.shape == shape for tensor in own.values())
    is_plain = "forward" not in vars(module) and not isinstance(module, torch.jit.ScriptModule)
    return channels and is_plain and overrides(module, "forward")


def _recognize(module: nn.Module, config: Mapping[str, Any]) -> CentredNorm | None:
    parameters = {
        name: pattern(tuple(tensor.shape), phase) / 2
        for (name, tensor), phase in zip(module._parameters.items(), (0.3, 0.9), strict=False)
        if tensor is not None
    }
    twin = copy_with(module, parameters)
    for norm in _candidates(config, parameters):
        reference = copy_with(norm, parameters)
        # The inputs are as small as the epsilon, so that the output depends on it.
        inputs = pattern((2, 3, len(parameters["weight"])), 0.1) * norm.eps**0.5
        if _computes(twin, inputs, reference(inputs)):
            return CentredNorm(kind=f"{__name__}.{type(norm).__name__}", config=_config(norm))
    return None


def _candidates(config: Mapping[str, Any], parameters: Mapping[str, torch.Tensor]) -> Iterator[Any]:
    """Yield the norms with `1 + weight` to compare a module with, each with a possible epsilon.

    Each number between 0 and 1 in the attributes of the module may be the epsilon.

    Args:
        config: The plain attributes of the module.
        parameters: Its parameters by name: a weight, and perhaps a bias.
    """
    size = len(parameters["weight"])
    for value in dict.fromkeys(value for value in config.values() if isinstance(value, float) and 0 < value < 1):
        if "bias" not in parameters:
            yield CentredRMSNorm(size, value)
        yield CentredLayerNorm((size,), value, bias="bias" in parameters)


def _computes(module: nn.Module, inputs: torch.Tensor, expected: torch.Tensor) -> bool:
    try:
        with torch.no_grad():
            found = module.forward(inputs.clone())
    except RAISED_BY_MODELS:
        return False
    if not isinstance(found, torch.Tensor) or found.shape != expected.shape:
        return False
    return torch.allclose(found.to(expected.dtype), expected, rtol=_TOLERANCE, atol=_TOLERANCE)


def _config(norm: CentredRMSNorm | CentredLayerNorm) -> dict[str, Any]:
    if isinstance(norm, CentredRMSNorm):
        return {"dim": norm.dim, "eps": norm.eps}
    return {"normalized_shape": norm.normalized_shape, "eps": norm.eps, "bias": norm.bias is not None}
