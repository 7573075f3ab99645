"""Define the torch networks that `speed` measures, and their example inputs: ResNets, dense layers, a transformer."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks._torchvision import torchvision_models

IMAGE = 224


def perceptron() -> nn.Module:
    """Return fifty small layers, whose time is dominated by the cost of a call, not of arithmetic."""
    return nn.Sequential(*(part for _ in range(50) for part in (nn.Linear(64, 64), nn.ReLU())))


class Encoder(nn.Module):
    """Four blocks of attention and two dense layers, 256 wide."""

    def __init__(self, width: int = 256, heads: int = 4, blocks: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.packed = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(blocks))
        self.merged = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.inner = nn.ModuleList(nn.Linear(width, 4 * width) for _ in range(blocks))
        self.outer = nn.ModuleList(nn.Linear(4 * width, width) for _ in range(blocks))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * blocks))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map tokens (batch, steps, width) to tokens of the same shape."""
        batch, steps, width = x.shape
        for number, packed in enumerate(self.packed):
            parts = packed(self.norms[2 * number](x)).reshape(batch, steps, 3, self.heads, width // self.heads)
            query, key, value = parts.permute(2, 0, 3, 1, 4)
            found = nn.functional.scaled_dot_product_attention(query, key, value)
            x = x + self.merged[number](found.transpose(1, 2).reshape(batch, steps, width))
            x = x + self.outer[number](nn.functional.gelu(self.inner[number](self.norms[2 * number + 1](x))))
        return x


def _images(batch: int) -> torch.Tensor:
    return torch.randn(batch, 3, IMAGE, IMAGE)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[], torch.Tensor]]] = {
    "ResNet-18, 1 image": (lambda: torchvision_models().resnet18(), lambda: _images(1)),
    "ResNet-18, 8 images": (lambda: torchvision_models().resnet18(), lambda: _images(8)),
    "ResNet-50, 1 image": (lambda: torchvision_models().resnet50(), lambda: _images(1)),
    "ResNet-50, 8 images": (lambda: torchvision_models().resnet50(), lambda: _images(8)),
    "50 dense layers": (perceptron, lambda: torch.randn(1, 64)),
    "transformer, 128 steps": (Encoder, lambda: torch.randn(1, 128, 256)),
}
"""Functions that return a network and its input, by the name in the tables."""

CONVOLUTIONAL = tuple(name for name in NETWORKS if name.startswith("ResNet"))


def in_keras_layout(tensor: torch.Tensor) -> Any:
    """Return the input of the Keras model: images with the channels last."""
    moved = tensor.permute(0, 2, 3, 1).contiguous() if tensor.ndim == 4 else tensor
    return np.ascontiguousarray(moved.numpy())
