"""Blocks along an axis: reordered, cut apart, joined, stacked."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from keras3conv.errors import TransformError
from keras3conv.transforms_base import Arrays, Shape, Shapes, axis_of, exactly, require_any, require_one_shape


@dataclass(frozen=True)
class Take:
    """Reorders equal blocks along an axis: `Take(0, (1, 0, 2))` swaps the first two of three gates.

    Args:
        axis: The axis that holds the blocks.
        order: Which block of the argument stands at each place of the result; a permutation.
    """

    axis: int
    order: tuple[int, ...]

    def __post_init__(self) -> None:
        require_any(len(self.order), self)
        if sorted(self.order) != list(range(len(self.order))):
            raise TransformError(f"{self!r} cannot be reversed: the order is not a permutation")

    @property
    def lossless(self) -> bool:
        """Always: blocks are moved, values are not touched."""
        return True

    @property
    def inverse(self) -> "Take":
        """The permutation that puts the blocks back."""
        return Take(self.axis, tuple(self.order.index(place) for place in range(len(self.order))))

    def shapes(self, shapes: Shapes) -> Shapes:
        """The shape that was given, if the axis divides into the blocks."""
        (shape,) = exactly(1, shapes, self)
        if shape[axis_of(shape, self.axis, self)] % len(self.order):
            blocks = len(self.order)
            raise TransformError(f"{self!r} does not fit shape {shape}: axis {self.axis} is not a multiple of {blocks}")
        return (shape,)

    def __call__(self, arrays: Arrays) -> Arrays:
        """Reorders the blocks (a copy: the new order is no view)."""
        self.shapes(tuple(array.shape for array in arrays))
        blocks = np.split(arrays[0], len(self.order), self.axis)
        return (np.concatenate([blocks[place] for place in self.order], self.axis),)

    def to_json(self) -> dict[str, Any]:
        """`{"take": order, "axis": axis}`."""
        return {"take": list(self.order), "axis": self.axis}


@dataclass(frozen=True)
class Split:
    """Cuts one array into several along an axis: a packed query, key and value.

    Args:
        axis: The axis that is cut.
        sizes: The size of every part along the axis.
    """

    axis: int
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        _require_sizes(self.sizes, self)

    @property
    def lossless(self) -> bool:
        """Always."""
        return True

    @property
    def inverse(self) -> "Concat":
        """Joins the parts again."""
        return Concat(self.axis, self.sizes)

    def shapes(self, shapes: Shapes) -> Shapes:
        """A shape for every part."""
        (shape,) = exactly(1, shapes, self)
        axis = axis_of(shape, self.axis, self)
        if shape[axis] != sum(self.sizes):
            raise TransformError(f"{self!r} does not fit shape {shape}: axis {self.axis} is not {sum(self.sizes)}")
        return tuple((*shape[:axis], size, *shape[axis + 1 :]) for size in self.sizes)

    def __call__(self, arrays: Arrays) -> Arrays:
        """Cuts the array; the parts are views."""
        self.shapes(tuple(array.shape for array in arrays))
        return tuple(np.split(arrays[0], np.cumsum(self.sizes)[:-1], self.axis))

    def to_json(self) -> dict[str, Any]:
        """`{"split": sizes, "axis": axis}`."""
        return {"split": list(self.sizes), "axis": self.axis}


@dataclass(frozen=True)
class Concat:
    """Joins several arrays along an axis; the inverse of `Split`."""

    axis: int
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        _require_sizes(self.sizes, self)

    @property
    def lossless(self) -> bool:
        """Always."""
        return True

    @property
    def inverse(self) -> Split:
        """Cuts the array again."""
        return Split(self.axis, self.sizes)

    def shapes(self, shapes: Shapes) -> Shapes:
        """The one shape of the joined array."""
        exactly(len(self.sizes), shapes, self)
        axis = axis_of(shapes[0], self.axis, self)
        joined = (*shapes[0][:axis], sum(self.sizes), *shapes[0][axis + 1 :])
        if self.inverse.shapes((joined,)) != shapes:
            raise TransformError(f"{self!r} does not fit shapes {', '.join(map(str, shapes))}")
        return (joined,)

    def __call__(self, arrays: Arrays) -> Arrays:
        """Joins the arrays."""
        self.shapes(tuple(array.shape for array in arrays))
        return (np.concatenate(arrays, self.axis),)

    def to_json(self) -> dict[str, Any]:
        """`{"concat": sizes, "axis": axis}`."""
        return {"concat": list(self.sizes), "axis": self.axis}


@dataclass(frozen=True)
class Stack:
    """Stacks several arrays of one shape along a new axis: the two biases of a GRU.

    Args:
        axis: The place of the new axis.
        count: How many arrays there are.
    """

    axis: int
    count: int

    def __post_init__(self) -> None:
        require_any(self.count, self)

    @property
    def lossless(self) -> bool:
        """Always."""
        return True

    @property
    def inverse(self) -> "Unstack":
        """Takes the arrays apart again."""
        return Unstack(self.axis, self.count)

    def shapes(self, shapes: Shapes) -> Shapes:
        """The one shape of the stack."""
        exactly(self.count, shapes, self)
        require_one_shape(shapes, self)
        axis = axis_of((*shapes[0], self.count), self.axis, self)
        return ((*shapes[0][:axis], self.count, *shapes[0][axis:]),)

    def __call__(self, arrays: Arrays) -> Arrays:
        """Stacks the arrays."""
        self.shapes(tuple(array.shape for array in arrays))
        return (np.stack(arrays, self.axis),)

    def to_json(self) -> dict[str, Any]:
        """`{"stack": count, "axis": axis}`."""
        return {"stack": self.count, "axis": self.axis}


@dataclass(frozen=True)
class Unstack:
    """Takes one array apart along an axis; the inverse of `Stack`."""

    axis: int
    count: int

    def __post_init__(self) -> None:
        require_any(self.count, self)

    @property
    def lossless(self) -> bool:
        """Always."""
        return True

    @property
    def inverse(self) -> Stack:
        """Stacks the arrays again."""
        return Stack(self.axis, self.count)

    def shapes(self, shapes: Shapes) -> Shapes:
        """A shape for every array."""
        (shape,) = exactly(1, shapes, self)
        axis = axis_of(shape, self.axis, self)
        if shape[axis] != self.count:
            raise TransformError(f"{self!r} does not fit shape {shape}: axis {self.axis} is not {self.count}")
        return ((*shape[:axis], *shape[axis + 1 :]),) * self.count

    def __call__(self, arrays: Arrays) -> Arrays:
        """Takes the array apart; the parts are views."""
        self.shapes(tuple(array.shape for array in arrays))
        first = np.moveaxis(arrays[0], self.axis, 0)
        return tuple(first[index, ...] for index in range(self.count))  # `...`: a view where one axis is all there is

    def to_json(self) -> dict[str, Any]:
        """`{"unstack": count, "axis": axis}`."""
        return {"unstack": self.count, "axis": self.axis}


def _require_sizes(sizes: Shape, transform: object) -> None:
    require_any(len(sizes), transform)
    if min(sizes) < 0:
        raise TransformError(f"{transform!r} cannot be reversed: a size is negative")
