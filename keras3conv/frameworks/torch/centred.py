"""Define normalization layers that multiply by `1 + weight`; modules that compute the same count as one of these."""

import torch
from torch import nn


class CentredRMSNorm(nn.Module):
    """An RMSNorm over the last axis that multiplies by one plus its weight.

    Args:
        dim: The size of the last axis.
        eps: The number that is added to the mean square.
    """

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.dim, self.eps = dim, eps
        self.weight = nn.Parameter(torch.zeros(dim))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the input, normalized and multiplied by one plus the weight."""
        mean_square = inputs.square().mean(-1, keepdim=True)
        return inputs * torch.rsqrt(mean_square + self.eps) * (1.0 + self.weight)


class CentredLayerNorm(nn.LayerNorm):
    """A LayerNorm over the last axis that multiplies by one plus its weight."""

    def __init__(self, normalized_shape: tuple[int, ...], eps: float = 1e-5, bias: bool = True) -> None:
        super().__init__(normalized_shape, eps, bias=bias)
        nn.init.zeros_(self.weight)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the input, normalized and multiplied by one plus the weight."""
        return nn.functional.layer_norm(inputs, self.normalized_shape, 1.0 + self.weight, self.bias, self.eps)
