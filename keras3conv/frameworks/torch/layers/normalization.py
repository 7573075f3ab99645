"""Define normalization by a fixed mean and variance, and by the steps of a batch that are not masked."""

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


class MaskedBatchNorm(nn.Module):
    """Batch normalization that leaves masked steps out of the statistics of the batch, as Keras' BatchNormalization.

    In training it stores the variance of the batch, divided by N; `nn.BatchNorm1d` stores that of the sample, divided
    by N - 1.

    Args:
        num_features: The number of channels, the size of the second axis.
        eps: The number that is added to the variance.
        momentum: The weight of the statistics of the batch in the stored ones.
        affine: Whether there is a scale and a shift.
    """

    kind = "keras3conv.frameworks.torch.layers.MaskedBatchNorm"  # a name for keras3conv; nothing is imported
    smallest = 1e-7
    weight: torch.Tensor | None
    bias: torch.Tensor | None
    running_mean: torch.Tensor
    running_var: torch.Tensor

    def __init__(self, num_features: int, eps: float = 1e-3, momentum: float = 0.01, affine: bool = True) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum, self.affine = num_features, eps, momentum, affine
        self.register_parameter("weight", nn.Parameter(torch.ones(num_features)) if affine else None)
        self.register_parameter("bias", nn.Parameter(torch.zeros(num_features)) if affine else None)
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, inputs: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Return the normalized input.

        Args:
            inputs: Of shape (batch, num_features, ...).
            mask: Of shape (batch, ...): where it is false, the values do not count in the statistics of the batch.
        """
        mean, variance = self.running_mean, self.running_var
        if self.training:
            mean, variance = self.moments(inputs, mask)
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(variance, self.momentum)
        scale = (variance + self.eps).rsqrt()
        scale = scale if self.weight is None else scale * self.weight
        shift = -mean * scale if self.bias is None else self.bias - mean * scale
        sizes = (-1, *[1] * (inputs.ndim - 2))
        return inputs * scale.view(sizes) + shift.view(sizes)

    def moments(self, inputs: torch.Tensor, mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mean and the variance of each channel over the steps that are not masked."""
        axes = [0, *range(2, inputs.ndim)]
        if mask is None:
            return inputs.mean(axes), inputs.var(axes, correction=0)
        kept = mask.bool().unsqueeze(1).expand(inputs.shape[0], 1, *inputs.shape[2:])
        number = kept.sum() + self.smallest
        mean = torch.where(kept, inputs, 0).sum(axes, keepdim=True) / number
        variance = torch.where(kept, inputs - mean, 0).square().sum(axes) / number
        return mean.flatten(), variance
