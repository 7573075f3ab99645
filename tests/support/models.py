"""Models for tests, written as a user would write them."""

from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody gives it
from torch import nn

ModuleType = TypeVar("ModuleType", bound=nn.Module)


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut; the definition order differs from the call order."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride) if stride > 1 else nn.Identity()
        self.norm_b = nn.BatchNorm2d(outputs, eps=1e-3)
        self.conv_b = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.head = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=0 if stride > 1 else 1),
            nn.BatchNorm2d(outputs, eps=1e-3),
            nn.ReLU(),
        )
        self.stride = stride

    def padded(self, x: torch.Tensor) -> torch.Tensor:
        """Pad as Keras' padding="same" does at stride 2: the odd row is at the end."""
        return F.pad(x, (0, 1, 0, 1)) if self.stride > 1 else x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.shortcut(x) + self.norm_b(self.conv_b(self.head(self.padded(x)))))


class NaiveBlock(ResidualBlock):
    """The same block with a symmetric padding of one, which is a common mistake."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(inputs, outputs, stride)
        self.head[0] = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)

    def padded(self, x: torch.Tensor) -> torch.Tensor:
        return x


class ResNet8(nn.Module):
    """The ResNet8 of MLPerf Tiny, for images of 32 x 32 with values from 0 to 255."""

    def __init__(self, block: type[ResidualBlock] = ResidualBlock) -> None:
        super().__init__()
        self.classifier = nn.Linear(64, 10)
        self.stages = nn.Sequential(block(16, 16, 1), block(16, 32, 2), block(32, 64, 2))
        self.entry_norm = nn.BatchNorm2d(16, eps=1e-3)
        self.entry = nn.Conv2d(3, 16, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stages(F.relu(self.entry_norm(self.entry(x))))
        return self.classifier(F.avg_pool2d(x, 8).flatten(1)).softmax(-1)


def randomize(module: ModuleType, seed: int = 0) -> ModuleType:
    """Fill every floating-point tensor with random values far from zero; variances are positive."""
    random = np.random.default_rng(seed)
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if tensor.is_floating_point():
                values = random.uniform(0.5, 1.5, tuple(tensor.shape))
                if not name.endswith("var"):
                    inputs = tensor.numel() // max(1, len(tensor)) if tensor.ndim else 1
                    values *= random.choice([-1, 1], tuple(tensor.shape)) / np.sqrt(max(1, inputs))
                tensor.copy_(torch.from_numpy(values))
    module.eval()
    return module
