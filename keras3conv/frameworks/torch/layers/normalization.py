"""Normalisation by a mean and a variance that were measured before, or given, which torch.nn does not have."""

import torch
from torch import nn


class Normalization(nn.Module):
    """Subtracts a mean and divides by the root of a variance, or the reverse, as `keras.layers.Normalization` does.

    Args:
        shape: The shape of the mean and the variance: the sizes of the axes that have values of their own. None where
            they are constants.
        axis: The axes that have values of their own, one for each place.
        mean: The mean, if it is a constant: a number, or one for each place, nested for several axes.
        variance: The variance, likewise.
        invert: Whether the mean is added and the root multiplied with.
    """

    kind = "keras3conv.frameworks.torch.layers.Normalization"
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
        """Of the shape that was given."""
        if self.mean is None:
            mean, variance = self.running_mean, self.running_var
        else:
            mean, variance = inputs.new_tensor(self.mean), inputs.new_tensor(self.variance)
        mean, deviation = self.along(mean, inputs), self.along(variance, inputs).sqrt().clamp(min=self.smallest)
        return mean + inputs * deviation if self.invert else (inputs - mean) / deviation

    def along(self, values: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """The values with the axes of the inputs; the last of theirs is the last of those that have values."""
        sizes = [1] * inputs.ndim
        kept = sorted(axis % inputs.ndim for axis in self.axis)
        for place in range(1, values.ndim + 1):
            sizes[kept[-place]] = values.shape[-place]
        return values.reshape(sizes)
