"""Regularisation that torch.nn does not have."""

import torch
from torch import nn


class SharedDropout(nn.Dropout):
    """A dropout that decides once for all values along some axes, as a noise shape says to `keras.layers.Dropout`.

    With every axis but that of the batch shared, whole examples are dropped: that is known as stochastic depth.

    Args:
        p: How likely a value is to be dropped; what stays is divided by 1 - p.
        shared: The axes along which there is one decision.
    """

    kind = "keras3conv.frameworks.torch.layers.SharedDropout"

    def __init__(self, p: float, shared: tuple[int, ...]) -> None:
        super().__init__(p)
        self.shared = shared

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Of the shape that was given."""
        if not self.training:
            return inputs
        sizes = [1 if axis in self.shared else size for axis, size in enumerate(inputs.shape)]
        return inputs * super().forward(inputs.new_ones(sizes))


class GaussianNoise(nn.Module):
    """Adds normal noise in training, as `keras.layers.GaussianNoise` does.

    Args:
        stddev: The standard deviation of the noise, in the units of what it is added to.
    """

    kind = "keras3conv.frameworks.torch.layers.GaussianNoise"

    def __init__(self, stddev: float) -> None:
        super().__init__()
        self.stddev = stddev

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Of the shape that was given."""
        return inputs + self.stddev * torch.randn_like(inputs) if self.training else inputs


class GaussianDropout(nn.Module):
    """Multiplies with normal noise around 1 in training, as `keras.layers.GaussianDropout` does.

    Args:
        rate: The rate of the dropout whose noise has the same variance, rate / (1 - rate); below 1.
    """

    kind = "keras3conv.frameworks.torch.layers.GaussianDropout"

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Of the shape that was given."""
        if not self.training:
            return inputs
        stddev: float = (self.rate / (1 - self.rate)) ** 0.5
        return inputs * (1 + stddev * torch.randn_like(inputs))
