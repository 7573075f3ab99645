"""Define normalization by a fixed mean and variance, which torch.nn lacks."""

import torch
from torch import nn


class Normalization(nn.Module):
    """Subtract a mean and divide by a standard deviation, or the inverse, as `keras.layers.Normalization`.

    Args:
        shape: The shape of the mean and the variance: the sizes of `axis`. None for constants.
        axis: The axes along which the mean and the variance vary.
        mean: A constant mean: a number, or nested lists for several axes.
        variance: A constant variance, likewise.
        invert: Whether to multiply by the standard deviation and add the mean instead.
    """

    kind = "keras3conv.frameworks.torch.layers.Normalization"  # a name for keras3conv; nothing is imported
    smallest = 1e-7
    running_mean: torch.Tensor
    running_var: torch.Tensor

    def __init__(
        self,
        shape: tuple[int, ...] | None = None,
        axis: tuple[int, ...] = (-1,),
        mean: float | tuple[float, ...] | None = None,
        variance: float | tuple[float, ...] | None = None,
        invert: bool = False,
    ) -> None:
        super().__init__()
        self.shape, self.axis, self.mean, self.variance, self.invert = shape, axis, mean, variance, invert
        if mean is None:
            self.register_buffer("running_mean", torch.zeros(shape or ()))
            self.register_buffer("running_var", torch.ones(shape or ()))
            self.register_buffer("count", torch.zeros((), dtype=torch.int32))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the normalized input; the denormalized one with `invert`."""
        if self.mean is None:
            mean, variance = self.running_mean, self.running_var
        else:
            mean, variance = inputs.new_tensor(self.mean), inputs.new_tensor(self.variance)
        mean, deviation = self.along(mean, inputs), self.along(variance, inputs).sqrt().clamp(min=self.smallest)
        return mean + inputs * deviation if self.invert else (inputs - mean) / deviation

    def along(self, values: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Return a mean or a variance reshaped to broadcast over the inputs, along `axis`."""
        sizes = [1] * inputs.ndim
        kept = sorted(axis % inputs.ndim for axis in self.axis)
        for place in range(1, values.ndim + 1):
            sizes[kept[-place]] = values.shape[-place]
        return values.reshape(sizes)
