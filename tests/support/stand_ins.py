"""Replacements for classes of packages that may not be installed: same names, same attributes, same function.

Where a package is installed, the tests use its own classes.
"""

import sys
from importlib.util import find_spec
from types import ModuleType

import torch

from benchmarks._torchvision import declare_operators


class Conv1D(torch.nn.Module):
    """The Conv1D of GPT-2: a Linear whose weight has the shape (in, out)."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf, self.nx = nf, nx
        self.weight = torch.nn.Parameter(torch.empty(nx, nf))
        self.bias = torch.nn.Parameter(torch.zeros(nf))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        rows = inputs.view(-1, inputs.size(-1))
        return torch.addmm(self.bias, rows, self.weight).view(*inputs.size()[:-1], self.nf)


class LayerScale(torch.nn.Module):
    """The layer scale of timm: a factor for each channel on the last axis."""

    def __init__(self, dim: int, init_values: float = 1e-5, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace
        self.gamma = torch.nn.Parameter(init_values * torch.ones(dim))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.mul_(self.gamma) if self.inplace else inputs * self.gamma


class FrozenBatchNorm2d(torch.nn.Module):
    """Torchvision's batch normalisation whose tensors are all buffers."""

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.ones(num_features))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        weight, bias, mean, variance = (buffer[:, None, None] for buffer in self.buffers())
        scale = weight * (variance + self.eps).rsqrt()
        return inputs * scale + (bias - mean * scale)


class Normalize(torch.nn.Module):
    """Torchvision's normalisation of images by constants."""

    def __init__(self, mean: list[float], std: list[float], inplace: bool = False) -> None:
        super().__init__()
        self.mean, self.std, self.inplace = mean, std, inplace

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        mean, std = (torch.tensor(value, dtype=inputs.dtype)[:, None, None] for value in (self.mean, self.std))
        return (inputs - mean) / std


class LayerNorm2d(torch.nn.LayerNorm):
    """Torchvision's layer normalisation over the channels of an image."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return super().forward(inputs.movedim(1, -1)).movedim(-1, 1)


class TimmLayerNorm2d(LayerNorm2d):
    """Timm's layer normalisation over the channels of an image, with other constructor arguments."""

    def __init__(self, num_channels: int, eps: float = 1e-6, affine: bool = True) -> None:
        super().__init__(num_channels, eps=eps, elementwise_affine=affine)


class StdConv2d(torch.nn.Conv2d):
    """Timm's convolution that standardises its kernel."""

    def __init__(
        self, in_channel: int, out_channels: int, kernel_size: int, stride: int = 1, eps: float = 1e-6
    ) -> None:
        super().__init__(in_channel, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False)
        self.eps = eps

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        rows = self.weight.reshape(1, self.out_channels, -1)
        weight = torch.nn.functional.batch_norm(rows, None, None, training=True, momentum=0.0, eps=self.eps)
        return self._conv_forward(inputs, weight.reshape_as(self.weight), self.bias)


class ScaledStdConv2d(torch.nn.Conv2d):
    """Timm's convolution that standardises its kernel and scales each output channel by a gain."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, gamma: float = 1.7, eps: float = 1e-6
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size)
        self.gain = torch.nn.Parameter(torch.ones(out_channels, 1, 1, 1))
        self.scale = gamma * self.weight[0].numel() ** -0.5
        self.eps = eps

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        rows, gain = self.weight.reshape(1, self.out_channels, -1), (self.gain * self.scale).view(-1)
        weight = torch.nn.functional.batch_norm(
            rows, None, None, weight=gain, training=True, momentum=0.0, eps=self.eps
        )
        return self._conv_forward(inputs, weight.reshape_as(self.weight), self.bias)


TimmLayerNorm2d.__name__ = TimmLayerNorm2d.__qualname__ = "LayerNorm2d"

STAND_INS: tuple[tuple[str, type], ...] = (
    ("transformers.pytorch_utils", Conv1D),
    ("timm.layers.layer_scale", LayerScale),
    ("timm.layers.norm", TimmLayerNorm2d),
    ("timm.layers.std_conv", StdConv2d),
    ("timm.layers.std_conv", ScaledStdConv2d),
    ("torchvision.models.convnext", LayerNorm2d),
    ("torchvision.ops.misc", FrozenBatchNorm2d),
    ("torchvision.transforms.transforms", Normalize),
)


def install() -> None:
    """Register every class under the module name of its package, unless the package is installed."""
    if find_spec("torchvision") is not None:
        declare_operators()  # transformers imports it, too
    for package, cls in STAND_INS:
        if find_spec(package.partition(".")[0]) is None:
            cls.__module__ = package
            sys.modules.setdefault(package, ModuleType(package))
            setattr(sys.modules[package], cls.__name__, cls)
