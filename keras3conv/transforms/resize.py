"""Resize a table of position embeddings on a grid of patches, as vision transformers do for images of another size."""

from dataclasses import dataclass

import numpy as np

from keras3conv.errors import TransformError
from keras3conv.transforms.base import Array, OneArray, Shape, resized, sliced

_CUBIC = -0.75
"""The coefficient of the cubic convolution kernel (Keys, 1981) in torch's bicubic interpolation."""


@dataclass(frozen=True)
class ResizeGrid(OneArray):
    """Interpolate the rows of a table, bicubic as in torch (`align_corners=False`), to a grid of another size.

    The table has one row for each cell of a grid, row by row: a vision transformer's position embedding for each patch.

    Lossy: the inverse interpolates back, which gives different values.

    Args:
        axis: The axis along which the table has its rows.
        first: The number of rows before those of the grid; they keep their values. 1 for a class token.
        given: The height and the width of the grid before the interpolation, in cells.
        wanted: The height and the width of the grid after the interpolation, in cells.
    """

    axis: int
    first: int
    given: tuple[int, ...]
    wanted: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.given) != 2 or len(self.wanted) != 2 or min(*self.given, *self.wanted) < 1 or self.first < 0:
            raise TransformError(
                f"{self!r}: the arguments `given` and `wanted` must each be (height, width), both at least 1, and the "
                "argument `first` (the number of rows before those of the grid) must be 0 or more"
            )

    @property
    def lossless(self) -> bool:
        """Return False: interpolation cannot be undone."""
        return False

    @property
    def loss(self) -> str:
        """Return a description of the values that the interpolation loses."""
        return "a grid is interpolated to another size, which cannot be undone"

    @property
    def inverse(self) -> "ResizeGrid":
        """Return the transform that interpolates a table of the new size (`wanted`) back to the old size (`given`)."""
        return ResizeGrid(self.axis, self.first, self.wanted, self.given)

    def _shape(self, shape: Shape) -> Shape:
        axis = self._axis(shape, self.axis)
        if shape[axis] != self.first + self.given[0] * self.given[1]:
            raise self._misfit(
                f"axis {self.axis} must have {self.first} + {self.given[0]} x {self.given[1]} rows", shape
            )
        return resized(shape, axis, self.first + self.wanted[0] * self.wanted[1])

    def _apply(self, array: Array, shape: Shape) -> Array:
        axis = self.axis % array.ndim
        rows = np.moveaxis(sliced(array, axis, slice(self.first, None)), axis, 0)
        grid = rows.reshape(*self.given, -1).astype(np.float64)
        sizes = zip(self.given, self.wanted, strict=True)
        height, width = (interpolation_weights(old, new, old / new, cubic=True, align=False) for old, new in sizes)
        made = np.einsum("ah,bw,hwd->abd", height, width, grid)
        made = made.reshape(self.wanted[0] * self.wanted[1], *rows.shape[1:]).astype(array.dtype)
        return np.concatenate([sliced(array, axis, slice(0, self.first)), np.moveaxis(made, 0, axis)], axis)


def interpolation_weights(before: int, after: int, scale: float, *, cubic: bool, align: bool) -> Array:
    """Return the matrix of shape (after, before) that resizes one axis; the weights are those of torch's `UpSample.h`.

    A new pixel is `scale` old pixels wide. `align` keeps the outermost pixel centers in place. `cubic` means bicubic.
    """
    weights = np.zeros((after, before))
    if align:
        source = np.arange(after) * ((before - 1) / (after - 1) if after > 1 else 0.0)
    else:
        source = (np.arange(after) + 0.5) * scale - 0.5
    if not cubic:
        source = np.arange(after) * 1.0 if before == after else np.maximum(source, 0)
    first = np.minimum(np.floor(source), before - 1)
    rest = np.clip(source - first, 0, 1)
    taps = (
        {-1: _far(rest + 1), 0: _near(rest), 1: _near(1 - rest), 2: _far(2 - rest)} if cubic else {0: 1 - rest, 1: rest}
    )
    for offset, weight in taps.items():
        places = np.clip(first + offset, 0, before - 1).astype(int)
        np.add.at(weights, (np.arange(after), places), weight)
    return weights


def _near(distance: Array) -> Array:
    return ((_CUBIC + 2) * distance - (_CUBIC + 3)) * distance * distance + 1


def _far(distance: Array) -> Array:
    return ((_CUBIC * distance - 5 * _CUBIC) * distance + 8 * _CUBIC) * distance - 4 * _CUBIC
