"""Classes of packages that the tests can do without: the same names, the same attributes, the same function.

Where a package is installed its own classes are tried.
"""

import sys
from importlib.util import find_spec
from types import ModuleType

import torch

from benchmarks._torchvision import declare_operators
from keras3conv.rules.families.normalization.centred import CENTRED, CENTRED_LAYER_NORMS


class Conv1D(torch.nn.Module):
    """The product of GPT-2: a Linear whose weight is (in, out)."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf, self.nx = nf, nx
        self.weight = torch.nn.Parameter(torch.empty(nx, nf))
        self.bias = torch.nn.Parameter(torch.zeros(nf))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        rows = inputs.view(-1, inputs.size(-1))
        return torch.addmm(self.bias, rows, self.weight).view(*inputs.size()[:-1], self.nf)


class LayerScale(torch.nn.Module):
    """The layer scale of timm: a factor for each channel, the last axis."""

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
    """Torchvision's normalisation of the channels of an image."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return super().forward(inputs.movedim(1, -1)).movedim(-1, 1)


class TimmLayerNorm2d(LayerNorm2d):
    """Timm's, with a constructor of its own."""

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
    """Timm's, which also scales each output by a gain."""

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


def centred_norm(name: str) -> type:
    """Transformers' normalisation whose weight is its distance from one; each family of models has a copy of it."""

    class Norm(torch.nn.Module):
        def __init__(self, dim: int, eps: float = 1e-6) -> None:
            super().__init__()
            self.eps = eps
            self.weight = torch.nn.Parameter(torch.zeros(dim))

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            wide = inputs.float()  # whatever the dtype of the model
            scaled = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
            return (scaled * (1.0 + self.weight.float())).type_as(inputs)

    Norm.__name__ = Norm.__qualname__ = name
    return Norm


def centred_layer_norm(name: str) -> type:
    """Transformers' LayerNorm whose weight is its distance from one."""

    class Norm(torch.nn.LayerNorm):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.layer_norm(inputs, self.normalized_shape, self.weight + 1.0, self.bias, self.eps)

    Norm.__name__ = Norm.__qualname__ = name
    return Norm


TimmLayerNorm2d.__name__ = TimmLayerNorm2d.__qualname__ = "LayerNorm2d"

CENTRED_NORMS = tuple(
    (f"transformers.models.{place.rpartition('.')[0]}", make(place.rpartition(".")[2]))
    for places, make in ((CENTRED, centred_norm), (CENTRED_LAYER_NORMS, centred_layer_norm))
    for place in places
)

STAND_INS: tuple[tuple[str, type], ...] = (
    ("transformers.pytorch_utils", Conv1D),
    *CENTRED_NORMS,
    ("timm.layers.layer_scale", LayerScale),
    ("timm.layers.norm", TimmLayerNorm2d),
    ("timm.layers.std_conv", StdConv2d),
    ("timm.layers.std_conv", ScaledStdConv2d),
    ("torchvision.models.convnext", LayerNorm2d),
    ("torchvision.ops.misc", FrozenBatchNorm2d),
    ("torchvision.transforms.transforms", Normalize),
)


def install() -> None:
    """Puts every class where its package would have it, unless the package is installed."""
    if find_spec("torchvision") is not None:
        declare_operators()  # transformers too imports it
    for package, cls in STAND_INS:
        if find_spec(package.partition(".")[0]) is None:
            cls.__module__ = package
            sys.modules.setdefault(package, ModuleType(package))
            setattr(sys.modules[package], cls.__name__, cls)
