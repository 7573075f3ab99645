"""Transforms of pieces of an array along an axis: reorder, split, concatenate, stack and unstack the pieces."""

from dataclasses import dataclass

import numpy as np

from keras3conv.errors import TransformError
from keras3conv.transforms.base import Array, Arrays, OneArray, Shape, Shapes, Transform, resized


@dataclass(frozen=True)
class Take(OneArray):
    """Reorder pieces of equal size along an axis: `Take(0, (1, 0, 2))` swaps the first two of three gates.

    Args:
        axis: The axis that is divided into pieces, one for each number in `order`.
        order: A permutation: for each piece of the result, its index in the input array.
    """

    axis: int
    order: tuple[int, ...]

    def __post_init__(self) -> None:
        self._require_an_array(len(self.order))
        if sorted(self.order) != list(range(len(self.order))):
            raise TransformError(
                f"{self!r} cannot be reversed: its order must contain each of 0 ... {len(self.order) - 1} once"
            )

    @property
    def inverse(self) -> "Take":
        """Return the `Take` with the inverse permutation of the pieces."""
        return Take(self.axis, tuple(np.argsort(self.order).tolist()))

    def _shape(self, shape: Shape) -> Shape:
        self._axis(shape, self.axis, multiple_of=len(self.order))
        return shape

    def _apply(self, array: Array, shape: Shape) -> Array:
        blocks = np.split(array, len(self.order), self.axis)
        return np.concatenate([blocks[block] for block in self.order], self.axis)


@dataclass(frozen=True)
class _Parts(Transform):
    axis: int
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        self._require_an_array(len(self.sizes))
        if min(self.sizes) < 0:
            raise TransformError(f"{self!r} cannot be reversed: a size is negative; use sizes of 0 or more")


class Split(_Parts):
    """Split one array into several along an axis. Example: a packed query, key and value.

    Args:
        axis: The axis to split.
        sizes: The size of each part along the axis.
    """

    def shapes(self, shapes: Shapes) -> Shapes:
        """Return the shapes of the arrays into which an array of a given shape is split.

        Args:
            shapes: The shape of the array to split, in a tuple.
        """
        (shape,) = self._require_count(1, shapes)
        axis = self._axis(shape, self.axis)
        if shape[axis] != sum(self.sizes):
            raise self._misfit(f"axis {self.axis} has size {shape[axis]}, not {sum(self.sizes)}", shape)
        return tuple(resized(shape, axis, size) for size in self.sizes)

    def __call__(self, arrays: Arrays) -> Arrays:
        """Return the arrays into which the array is split, as views of it."""
        self._check(arrays)
        return tuple(np.split(arrays[0], np.cumsum(self.sizes)[:-1], self.axis))


class Concat(_Parts, inverse_of=Split):
    """Join several arrays along an axis; the inverse of `Split`."""

    def shapes(self, shapes: Shapes) -> Shapes:
        """Return the shape of the concatenated array, in a tuple."""
        self._require_count(len(self.sizes), shapes)
        joined = resized(shapes[0], self._axis(shapes[0], self.axis), sum(self.sizes))
        if self.inverse.shapes((joined,)) != shapes:
            reason = f"their sizes along axis {self.axis} must be {self.sizes}, and their other axes must agree"
            raise self._misfit(f"the arrays cannot be joined: {reason}", *shapes)
        return (joined,)

    def __call__(self, arrays: Arrays) -> Arrays:
        """Return the arrays concatenated into one, in a tuple."""
        self._check(arrays)
        return (np.concatenate(arrays, self.axis),)


@dataclass(frozen=True)
class _Stacked(Transform):
    axis: int
    count: int

    def __post_init__(self) -> None:
        self._require_an_array(self.count)


class Stack(_Stacked):
    """Stack several arrays of the same shape along a new axis. Example: the two biases of a GRU.

    Args:
        axis: The index of the new axis in the result.
        count: The number of arrays.
    """

    def shapes(self, shapes: Shapes) -> Shapes:
        """Return the shape of the stacked array, in a tuple."""
        self._require_count(self.count, shapes)
        self._require_equal(shapes)
        axis = self._axis((*shapes[0], self.count), self.axis)
        return ((*shapes[0][:axis], self.count, *shapes[0][axis:]),)

    def __call__(self, arrays: Arrays) -> Arrays:
        """Return the arrays stacked into one array along the new axis."""
        self._check(arrays)
        return (np.stack(arrays, self.axis),)


class Unstack(_Stacked, inverse_of=Stack):
    """Separate one array into its slices along an axis, one array for each index; the inverse of `Stack`."""

    def shapes(self, shapes: Shapes) -> Shapes:
        """Return the shapes of the slices, which are all equal."""
        (shape,) = self._require_count(1, shapes)
        axis = self._axis(shape, self.axis)
        if shape[axis] != self.count:
            raise self._misfit(f"axis {self.axis} has size {shape[axis]}, not {self.count}", shape)
        return (resized(shape, axis),) * self.count

    def __call__(self, arrays: Arrays) -> Arrays:
        """Return the slices of the array as separate arrays, which are views of it."""
        self._check(arrays)
        first = np.moveaxis(arrays[0], self.axis, 0)
        return tuple(first[index, ...] for index in range(self.count))  # `...` keeps a view where the slice is a number
