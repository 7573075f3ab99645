"""Resize a table of position embeddings on a grid of patches, as vision transformers do for images of another size."""

from dataclasses import dataclass

import numpy as np

from keras3conv.errors import TransformError
from keras3conv.transforms.base import Array, OneArray, Shape, resized, sliced

_CUBIC = -0.75
"""The coefficient of the cubic kernel in torch's `interpolate(mode="bicubic")`."""


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
                f"{self!r}: given and wanted must be (height, width), both at least 1, and first must not be negative"
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
        height, width = (_weights(old, new) for old, new in zip(self.given, self.wanted, strict=True))
        made = np.einsum("ah,bw,hwd->abd", height, width, grid)
        made = made.reshape(self.wanted[0] * self.wanted[1], *rows.shape[1:]).astype(array.dtype)
        return np.concatenate([sliced(array, axis, slice(0, self.first)), np.moveaxis(made, 0, axis)], axis)


def _weights(old: int, new: int) -> Array:
    """Return the matrix that interpolates the values along one axis from one size to another.

    Beyond the border, the value at the border is used.

    Args:
        old: The number of values before the interpolation.
        new: The number of values after it.

    Returns:
        A matrix of shape (new, old).
    """
    matrix = np.zeros((new, old))
    centers = (np.arange(new) + 0.5) * old / new - 0.5
    for row, center in enumerate(centers):
        start = int(np.floor(center))
        for place in range(start - 1, start + 3):
            matrix[row, min(max(place, 0), old - 1)] += _kernel(abs(center - place))
    return matrix


def _kernel(distance: float) -> float:
    """Return the cubic convolution kernel (Keys, 1981) at a distance."""
    if distance <= 1:
        return (_CUBIC + 2) * distance**3 - (_CUBIC + 3) * distance**2 + 1
    if distance < 2:
        return _CUBIC * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    return 0.0
