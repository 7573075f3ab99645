"""Define the regularization layers of Keras that torch.nn lacks."""

import torch
from torch import nn


class SharedDropout(nn.Dropout):
    """A dropout with one mask for all values along some axes, as `keras.layers.Dropout` with a `noise_shape`.

    With all axes but the batch axis shared, it drops whole examples, which is known as stochastic depth.

    Args:
        p: The probability of dropping a value; the other values are divided by 1 - p.
        shared: The axes along which the mask is the same.
    """

    kind = "keras3conv.frameworks.torch.layers.SharedDropout"  # a name for keras3conv; nothing is imported

    def __init__(self, p: float, shared: tuple[int, ...]) -> None:
        super().__init__(p)
        self.shared = shared

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the input; in training some values are dropped, the same ones along the shared axes."""
        if not self.training:
            return inputs
        sizes = [1 if axis in self.shared else size for axis, size in enumerate(inputs.shape)]
        return inputs * super().forward(inputs.new_ones(sizes))


class GaussianNoise(nn.Module):
    """Add normal noise in training, as `keras.layers.GaussianNoise`.

    Args:
        stddev: The standard deviation of the noise.
    """

    kind = "keras3conv.frameworks.torch.layers.GaussianNoise"  # a name for keras3conv; nothing is imported

    def __init__(self, stddev: float) -> None:
        super().__init__()
        self.stddev = stddev

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the input, in training with noise."""
        return inputs + self.stddev * torch.randn_like(inputs) if self.training else inputs


class GaussianDropout(nn.Module):
    """Multiply by normal noise with mean 1 in training, as `keras.layers.GaussianDropout`.

    Args:
        rate: The rate of a dropout with the same variance, rate / (1 - rate); below 1.
    """

    kind = "keras3conv.frameworks.torch.layers.GaussianDropout"  # a name for keras3conv; nothing is imported

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the input, in training multiplied by noise."""
        if not self.training:
            return inputs
        stddev: float = (self.rate / (1 - self.rate)) ** 0.5
        return inputs * (1 + stddev * torch.randn_like(inputs))
