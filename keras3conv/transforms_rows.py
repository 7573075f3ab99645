"""Rows that one side has and the other does not: a table of places whose first rows nobody looks up."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from keras3conv.errors import TransformError
from keras3conv.transforms_base import Arrays, Shape, Shapes, axis_of, exactly


@dataclass(frozen=True)
class Skip:
    """Leaves the first places along an axis out: lossy, and says so.

    Args:
        axis: The axis.
        count: How many places are left out.
    """

    axis: int
    count: int

    def __post_init__(self) -> None:
        _require_count(self.count, self)

    @property
    def lossless(self) -> bool:
        """Never: what was left out is gone."""
        return False

    @property
    def inverse(self) -> "Lead":
        """Puts as many zeros in front."""
        return Lead(self.axis, self.count)

    def shapes(self, shapes: Shapes) -> Shapes:
        """The shape without the first places; at least one must be left."""
        (shape,) = exactly(1, shapes, self)
        axis = axis_of(shape, self.axis, self)
        if shape[axis] <= self.count:
            raise TransformError(f"{self!r} does not fit shape {shape}: nothing is left of axis {self.axis}")
        return (_resized(shape, axis, -self.count),)

    def __call__(self, arrays: Arrays) -> Arrays:
        """The rest: a view."""
        self.shapes(tuple(array.shape for array in arrays))
        axis = axis_of(arrays[0].shape, self.axis, self)
        return (arrays[0][(slice(None),) * axis + (slice(self.count, None),)],)

    def to_json(self) -> dict[str, Any]:
        """`{"skip": count, "axis": axis}`."""
        return {"skip": self.count, "axis": self.axis}


@dataclass(frozen=True)
class Lead:
    """Puts zeros in front along an axis; the inverse of `Skip`."""

    axis: int
    count: int

    def __post_init__(self) -> None:
        _require_count(self.count, self)

    @property
    def lossless(self) -> bool:
        """Always: the zeros are left out again."""
        return True

    @property
    def inverse(self) -> Skip:
        """Leaves the zeros out."""
        return Skip(self.axis, self.count)

    def shapes(self, shapes: Shapes) -> Shapes:
        """The shape with so many more places."""
        (shape,) = exactly(1, shapes, self)
        return (_resized(shape, axis_of(shape, self.axis, self), self.count),)

    def __call__(self, arrays: Arrays) -> Arrays:
        """Zeros, then the array (a copy)."""
        (shape,) = self.shapes(tuple(array.shape for array in arrays))
        axis = axis_of(shape, self.axis, self)
        zeros = np.zeros((*shape[:axis], self.count, *shape[axis + 1 :]), arrays[0].dtype)
        return (np.concatenate([zeros, arrays[0]], axis),)

    def to_json(self) -> dict[str, Any]:
        """`{"lead": count, "axis": axis}`."""
        return {"lead": self.count, "axis": self.axis}


def _require_count(count: int, transform: object) -> None:
    if count < 1:
        raise TransformError(f"{transform!r} changes nothing: leave it out")


def _resized(shape: Shape, axis: int, by: int) -> Shape:
    return (*shape[:axis], shape[axis] + by, *shape[axis + 1 :])
