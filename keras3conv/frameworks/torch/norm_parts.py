"""Set the tensors from which weight norm and spectral norm compute a weight, so that the weight has a given value."""

from collections.abc import Callable

import torch
from torch import nn

from keras3conv.errors import ModelError

_POWER_ITERATIONS = 15
"""The number of power iterations that torch itself makes when a spectral norm is registered."""

_CORRECTIONS = 32
"""The maximum number of corrections of the parts by one unit in the last place; usually two are enough."""


def _weight_norm_parts(weight: torch.Tensor, dim: int | None) -> list[torch.Tensor]:
    """Return the magnitude g and the direction v (the weight itself) for a weight norm, which computes `g * v / |v|`.

    Args:
        weight: The weight.
        dim: The axis along which there is a magnitude for each index; None or -1 for a single magnitude.
    """
    length = torch.norm_except_dim(weight, 2, -1 if dim is None else dim)
    # The direction must not be zero; with magnitude zero any other direction gives zeros.
    return [length, torch.where(length == 0, torch.ones_like(weight), weight)]


def _spectral_norm_parts(weight: torch.Tensor, dim: int, start: torch.Tensor) -> list[torch.Tensor]:
    """Return the tensor and the vectors u and v with which a spectral norm computes a given weight.

    Spectral norm divides by `u @ W @ v`. Power iteration finds the singular vectors of the largest singular value, and
    u is divided by this singular value, so that the divisor is one and the weight keeps its values.
    """
    matrix = weight.movedim(dim, 0).flatten(1)
    u = start.to(weight.dtype)
    for _ in range(_POWER_ITERATIONS):
        u = nn.functional.normalize(matrix @ (matrix.T @ u), dim=0)
    v = nn.functional.normalize(matrix.T @ u, dim=0)
    u = nn.functional.normalize(matrix @ v, dim=0)
    norm = u @ (matrix @ v)
    if not norm > 0:
        raise ModelError(
            "spectral norm cannot represent a weight that is all zeros: remove the spectral norm before the transfer"
        )
    return [weight, u / norm, v]


def set_parts(
    held: list[torch.Tensor], value: torch.Tensor, dim: int | None, compute: Callable[[], torch.Tensor]
) -> None:
    """Set the tensors from which a weight norm or a spectral norm computes a weight, so that it has exactly a value.

    After rounding they are changed to adjacent floating-point numbers. If this fails, the last attempt remains.

    Args:
        held: The magnitude and the direction of a weight norm; or the weight and the vectors u and v of a spectral
            norm. They are changed in place.
        value: The value of the weight.
        dim: The axis along which the norm has a magnitude for each index, or which it puts first to get a matrix.
        compute: Returns the weight that the norm computes.

    Raises:
        ModelError: The weight is zero, which spectral norm cannot represent.
    """
    is_weight_norm = len(held) == 2
    parts = _weight_norm_parts(value, dim) if is_weight_norm else _spectral_norm_parts(value, dim or 0, held[1])
    adjust = _adjust_lengths if is_weight_norm else _adjust_vector
    with torch.no_grad():
        for target, part in zip(held, parts, strict=True):
            target.copy_(part)
        for attempt in range(_CORRECTIONS):
            made = compute()
            if torch.equal(made, value):
                return
            adjust(held, made.abs(), value.abs(), attempt)


def _adjust_lengths(held: list[torch.Tensor], computed: torch.Tensor, value: torch.Tensor, attempt: int) -> None:
    """Change each magnitude of a weight norm by one unit in the last place, if the weight is too large or too small.

    Args:
        held: The magnitudes, which are changed in place, and the directions.
        computed: The absolute values of the computed weight.
        value: The absolute values that the weight should have.
        attempt: The number of earlier attempts.
    """
    length = held[0]
    axes = [axis for axis in range(value.ndim) if length.ndim == 0 or length.shape[axis] == 1]
    excess = (computed - value).sum(axes, keepdim=length.ndim > 0)
    toward = torch.where(excess > 0, 0.0, torch.inf).to(length)
    length.copy_(torch.where(excess == 0, length, torch.nextafter(length, toward)))


def _adjust_vector(held: list[torch.Tensor], computed: torch.Tensor, value: torch.Tensor, attempt: int) -> None:
    """Change elements of the vector u of a spectral norm by one unit in the last place, fewer with more attempts.

    Args:
        held: The weight, and the vector u, which is changed in place.
        computed: The absolute values of the computed weight.
        value: The absolute values that the weight should have.
        attempt: The number of earlier attempts.
    """
    u = held[1]
    places = torch.arange(len(u), device=u.device).roll(attempt)[: max(1, len(u) >> attempt // 2)]
    # The divisor is a product of u and a multiple of u, so a larger u gives a smaller weight.
    is_too_large = bool((computed - value).sum() > 0)
    u[places] = torch.nextafter(u[places], u[places] * (2.0 if is_too_large else 0.0))
