"""Transforms for values that only one framework stores: they remove or insert a constant array, or the first rows."""

from dataclasses import dataclass

import numpy as np

from keras3conv.errors import TransformError
from keras3conv.transforms.base import Array, Arrays, OneArray, Shape, Shapes, Transform, resized, sliced


@dataclass(frozen=True)
class _Constant(Transform):
    value: int
    shape: Shape

    main_field = "value"


class Drop(_Constant):
    """Remove an array in which every element has one known value; raise `TransformError` if an element differs.

    The inverse restores the values and the shape, but not the dtype: the code that writes the array casts it.

    Args:
        value: The value of every element: 1 for a scale that changes nothing, 0 for such an offset.
        shape: The shape of the array.
    """

    def shapes(self, shapes: Shapes) -> Shapes:
        """Return no shapes, because the array is removed; raise `TransformError` if the array has another shape."""
        if self._require_count(1, shapes) != (self.shape,):
            raise self._misfit(f"the array to remove must have shape {self.shape}", *shapes)
        return ()

    def __call__(self, arrays: Arrays) -> Arrays:
        """Return an empty tuple, without the array; raise `TransformError` if an element is not the known value."""
        self._check(arrays)
        if others := int(np.count_nonzero(arrays[0] != self.value)):
            raise TransformError(
                f"{self!r} removes a constant array, and would lose {others} values that are not {self.value}: pair "
                "the array with a tensor of the other model"
            )
        return ()


class Fill(_Constant, inverse_of=Drop):
    """Make an array from nothing, with the same value in every element; the inverse of `Drop`."""

    def shapes(self, shapes: Shapes) -> Shapes:
        """Return the shape of the array that is made; `shapes` must be empty."""
        self._require_count(0, shapes)
        return (self.shape,)

    def __call__(self, arrays: Arrays) -> Arrays:
        """Return the new array as int8, which can be cast to the dtype of any weight without loss."""
        self._require_count(0, arrays)
        return (np.full(self.shape, self.value, np.int8),)


@dataclass(frozen=True)
class _Rows(OneArray):
    axis: int
    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise TransformError(
                f"{self!r} changes nothing, because its count is less than 1: leave this transform out"
            )


class _Fewer(_Rows):
    lossless = False

    @property
    def loss(self) -> str:
        """Return a description of the values that the transform loses."""
        return f"elements along axis {self.axis} are left out ({self.count}) and come back as zeros"

    def _shape(self, shape: Shape) -> Shape:
        axis = self._axis(shape, self.axis)
        if shape[axis] <= self.count:
            raise self._misfit(
                f"it leaves out {self.count} elements of axis {self.axis}, which has only {shape[axis]}", shape
            )
        return resized(shape, axis, shape[axis] - self.count)


class _More(_Rows):
    def _shape(self, shape: Shape) -> Shape:
        axis = self._axis(shape, self.axis)
        return resized(shape, axis, shape[axis] + self.count)

    def _zeros(self, array: Array, shape: Shape) -> Array:
        return np.zeros(resized(shape, self.axis % len(shape), self.count), array.dtype)


class Skip(_Fewer):
    """Remove the first elements along an axis, such as rows of an embedding table that are never looked up.

    Lossy: the inverse inserts zeros instead of the removed values.

    Args:
        axis: The index of the axis.
        count: The number of elements to remove from the beginning of the axis.
    """

    def _apply(self, array: Array, shape: Shape) -> Array:
        return sliced(array, self.axis, slice(self.count, None))


class Lead(_More, inverse_of=Skip):
    """Insert zeros before the first element along an axis; the inverse of `Skip`."""

    def _apply(self, array: Array, shape: Shape) -> Array:
        return np.concatenate([self._zeros(array, shape), array], self.axis)


class Trim(_Fewer):
    """Remove the last elements along an axis, such as rows of an embedding table that only fill it up.

    Lossy: the inverse appends zeros instead of the removed values.

    Args:
        axis: The index of the axis.
        count: The number of elements to remove from the end of the axis.
    """

    def _apply(self, array: Array, shape: Shape) -> Array:
        return sliced(array, self.axis, slice(None, -self.count))


class Trail(_More, inverse_of=Trim):
    """Append zeros after the last element along an axis; the inverse of `Trim`."""

    def _apply(self, array: Array, shape: Shape) -> Array:
        return np.concatenate([array, self._zeros(array, shape)], self.axis)
