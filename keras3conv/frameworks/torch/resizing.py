"""Compute the interpolation matrices of torch's resize operators by running them on unit vectors."""

from typing import Any

import torch

from keras3conv.transforms import Array


def weights(kind: str, size: int, new_size: int, *, align_corners: bool, scale: float | None) -> Array:
    """Return the matrix that resizes one axis, of shape (new size, old size), in float64.

    Args:
        kind: "linear", "bicubic", "linear_aa" or "bicubic_aa".
        size: The size of the axis.
        new_size: Its new size.
        align_corners: Whether the first and the last positions are kept.
        scale: The scale factor in the call; None if the call has the new size.
    """
    ones = torch.eye(size, dtype=torch.float64)
    if kind == "linear":
        found = torch.ops.aten.upsample_linear1d(ones[:, None], [new_size], align_corners, scale)
        return _array(found.reshape(size, new_size).T)
    operators: dict[str, Any] = {
        "bicubic": torch.ops.aten.upsample_bicubic2d,
        "linear_aa": torch.ops.aten._upsample_bilinear2d_aa,
        "bicubic_aa": torch.ops.aten._upsample_bicubic2d_aa,
    }
    return _array(operators[kind](ones[None, None], [new_size, size], align_corners, scale, None)[0, 0])


def nearest(size: int, new_size: int, *, is_exact: bool, scale: float | None) -> Array:
    """Return, for a nearest-neighbour resize of one axis, the old position of every new position.

    Args:
        size: The size of the axis.
        new_size: Its new size.
        is_exact: Whether the mode is "nearest-exact" instead of "nearest".
        scale: The scale factor in the call; None if the call has the new size.
    """
    places = torch.arange(size, dtype=torch.float64).reshape(1, 1, size)
    operator: Any = torch.ops.aten._upsample_nearest_exact1d if is_exact else torch.ops.aten.upsample_nearest1d
    return _array(operator(places, [new_size], scale).reshape(new_size).to(torch.int32))


def _array(tensor: torch.Tensor) -> Array:
    return tensor.contiguous().numpy()
