"""Layers of torch with weight norm and spectral norm, old and new, for tests of conversions to Keras."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrizations

Wrap = Callable[..., nn.Module]


def old(function: Callable[..., Any]) -> Wrap:
    """Return the older, deprecated function without its warning, and without the gradient that cannot be copied."""

    def wrapped(layer: nn.Module, **options: Any) -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made: nn.Module = function(layer, **options)
        attributes = vars(made)
        attributes["weight"] = attributes["weight"].detach()
        return made

    return wrapped


NORMS: dict[str, Wrap] = {"new": parametrizations.weight_norm, "old": old(nn.utils.weight_norm)}
SPECTRAL: dict[str, Wrap] = {"new": parametrizations.spectral_norm, "old": old(nn.utils.spectral_norm)}

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "Linear": (lambda: nn.Linear(4, 5), (2, 3, 4)),
    "Linear without bias": (lambda: nn.Linear(4, 4, bias=False), (2, 4)),
    "Conv1d": (lambda: nn.Conv1d(4, 5, 3, padding=1), (2, 4, 7)),
    "Conv1d, square": (lambda: nn.Conv1d(4, 4, 4, dilation=2), (2, 4, 9)),
    "Conv2d": (lambda: nn.Conv2d(3, 5, (3, 2), stride=2, padding=(1, 0)), (2, 3, 8, 7)),
    "Conv2d, step and gap": (lambda: nn.Conv2d(3, 5, 3, stride=2, dilation=2), (2, 3, 9, 8)),
    "Conv2d, groups": (lambda: nn.Conv2d(4, 6, 3, groups=2, padding=1), (2, 4, 5, 6)),
    "Conv2d, depthwise": (lambda: nn.Conv2d(4, 8, 3, groups=4), (2, 4, 5, 6)),
    "Conv3d": (lambda: nn.Conv3d(2, 3, (1, 2, 2)), (2, 2, 3, 4, 5)),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(4, 6, 4, stride=2, padding=1), (2, 4, 5)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 6, 3, 2, (1, 0), (1, 0)), (2, 4, 5, 3)),
    "ConvTranspose2d, groups": (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), (2, 4, 3, 5)),
    "ConvTranspose2d, gap": (lambda: nn.ConvTranspose2d(4, 6, 3, padding=2, dilation=2), (2, 4, 5, 6)),
}


def made(layer: Callable[[], nn.Module], wrap: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """Return a model with one normalised layer, whose trained tensors are random."""
    torch.manual_seed(0)
    module = nn.Sequential(wrap(layer()), nn.Tanh())
    with torch.no_grad():
        for tensor in module.parameters():
            tensor.copy_(torch.randn_like(tensor) * 0.6 + 0.2)
    return module
