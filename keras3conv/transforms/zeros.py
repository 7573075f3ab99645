"""Transforms that insert or remove zeros that only one framework stores: between groups, or between kernel taps.

Removing zeros is lossless. If training has changed one of them, the transform raises an error instead of losing it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras3conv.errors import TransformError
from keras3conv.transforms.base import Array, OneArray, Shape, Transform, resized, sliced


@dataclass(frozen=True)
class _BlockDiagonal(OneArray):
    rows: int
    columns: int
    groups: int

    def __post_init__(self) -> None:
        if self.groups < 2 or self.rows == self.columns:
            raise TransformError(f"{self!r} needs two different axes and at least two groups")

    def _column_axis(self, shape: Shape) -> int:
        columns = self._axis(shape, self.columns)
        if columns == self._axis(shape, self.rows, multiple_of=self.groups):
            raise self._misfit("rows and columns are the same axis", shape)
        return columns

    def _blocks(self, array: Array) -> list[Array]:
        """Return views of the blocks on the diagonal of the array, one for each group."""
        height, width = (array.shape[axis] // self.groups for axis in (self.rows, self.columns))
        blocks = []
        for group in range(self.groups):
            rows = sliced(array, self.rows, slice(group * height, (group + 1) * height))
            blocks.append(sliced(rows, self.columns, slice(group * width, (group + 1) * width)))
        return blocks


class Diagonal(_BlockDiagonal):
    """Place the blocks of a grouped kernel on the diagonal of a larger array, which is an equal kernel without groups.

    Shape (groups x i, o) becomes (groups x i, groups x o), with zeros between different groups.

    Args:
        rows: The axis along which the blocks are concatenated in the grouped kernel.
        columns: The axis that becomes larger, `groups` times.
        groups: The number of groups.
    """

    def _shape(self, shape: Shape) -> Shape:
        columns = self._column_axis(shape)
        return resized(shape, columns, shape[columns] * self.groups)

    def _apply(self, array: Array, shape: Shape) -> Array:
        result = np.zeros(shape, array.dtype)
        parts = np.split(array, self.groups, self.rows)
        for block, part in zip(self._blocks(result), parts, strict=True):
            block[...] = part
        return result


class Blocks(_BlockDiagonal, inverse_of=Diagonal):
    """Extract the blocks on the diagonal of an array and concatenate them along one axis; the inverse of `Diagonal`."""

    def _shape(self, shape: Shape) -> Shape:
        columns = self._axis(shape, self._column_axis(shape), multiple_of=self.groups)
        return resized(shape, columns, shape[columns] // self.groups)

    def _apply(self, array: Array, shape: Shape) -> Array:
        blocks = self._blocks(array)
        _require_zeros(array, blocks, self)
        return np.concatenate(blocks, self.rows)


@dataclass(frozen=True)
class _Dilation(OneArray):
    axis: int
    step: int

    def __post_init__(self) -> None:
        if self.step < 2:
            raise TransformError(f"{self!r} changes nothing, because its step is less than 2: leave this transform out")

    def _taps(self, array: Array) -> Array:
        """Return a view of the elements of the array that are not inserted zeros: every `step`-th along the axis."""
        return sliced(array, self.axis, slice(None, None, self.step))


class Dilate(_Dilation):
    """Insert zeros between the elements along an axis, so that a dilated kernel becomes a kernel without dilation.

    Args:
        axis: The axis of the kernel.
        step: The dilation: the distance between two elements in the result that are adjacent in the given array.
    """

    def _shape(self, shape: Shape) -> Shape:
        axis = self._axis(shape, self.axis)
        return resized(shape, axis, (shape[axis] - 1) * self.step + 1)

    def _apply(self, array: Array, shape: Shape) -> Array:
        result = np.zeros(shape, array.dtype)
        self._taps(result)[...] = array
        return result


class Thin(_Dilation, inverse_of=Dilate):
    """Keep every `step`-th element along an axis, as a view; the inverse of `Dilate`."""

    def _shape(self, shape: Shape) -> Shape:
        axis = self._axis(shape, self.axis)
        taps, rest = divmod(shape[axis] - 1, self.step)
        if rest:
            reason = f"the size of axis {self.axis}, {shape[axis]}, is not one more than a multiple of {self.step}"
            raise self._misfit(reason, shape)
        return resized(shape, axis, taps + 1)

    def _apply(self, array: Array, shape: Shape) -> Array:
        taps = self._taps(array)
        _require_zeros(array, [taps], self)
        return taps


def _require_zeros(array: Array, kept: Sequence[Array], transform: Transform) -> None:
    """Raise `TransformError` if an element of an array that a transform removes is not `+0.0`.

    Args:
        array: The whole array.
        kept: Views of those parts of the array that the transform keeps; their values are not checked.
        transform: The transform, for the message of the error.
    """
    lost = _count_nonzero_bits(array) - sum(map(_count_nonzero_bits, kept))
    if lost:
        raise TransformError(
            f"{transform!r} removes elements that must be 0, and would lose {lost} values that are not zero: the layer "
            "of the other model has no elements for them"
        )


def _count_nonzero_bits(array: Array) -> int:
    negative = np.signbit(array) if array.dtype.kind not in "biuc" else np.zeros((), bool)
    return int(np.count_nonzero((array != 0) | negative))
