"""Zeros that one side stores and the other leaves out: between groups of channels, between the places of a kernel.

Taking them out again loses nothing as long as they are zeros. Where training has changed them there is no way back, and
that is an error, not a loss.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from keras3conv.errors import TransformError
from keras3conv.transforms_base import Array, Arrays, Shape, Shapes, axis_of, exactly


@dataclass(frozen=True)
class Diagonal:
    """Puts the blocks along one axis on the diagonal: a kernel in groups becomes one of all channels.

    Of shape (groups x i, o) becomes (groups x i, groups x o), with zeros where a group would meet another.

    Args:
        rows: The axis that holds the groups one after the other.
        columns: The axis that grows.
        groups: How many groups there are.
    """

    rows: int
    columns: int
    groups: int

    def __post_init__(self) -> None:
        _require_groups(self.rows, self.columns, self.groups, self)

    @property
    def lossless(self) -> bool:
        """Always: the blocks are all there."""
        return True

    @property
    def inverse(self) -> "Blocks":
        """Takes the blocks out again."""
        return Blocks(self.rows, self.columns, self.groups)

    def shapes(self, shapes: Shapes) -> Shapes:
        """The shape with as many times the columns as there are groups."""
        (shape,) = exactly(1, shapes, self)
        _, columns = _axes(shape, self.rows, self.columns, self.groups, self)
        return ((*shape[:columns], shape[columns] * self.groups, *shape[columns + 1 :]),)

    def __call__(self, arrays: Arrays) -> Arrays:
        """Zeros, and the blocks on the diagonal."""
        (shape,) = self.shapes(tuple(array.shape for array in arrays))
        result = np.zeros(shape, arrays[0].dtype)
        rows, columns = axis_of(shape, self.rows, self), axis_of(shape, self.columns, self)
        parts = np.split(arrays[0], self.groups, rows)
        for group, part in enumerate(parts):
            _block(result, (rows, columns), group, self.groups)[...] = part
        return (result,)

    def to_json(self) -> dict[str, Any]:
        """`{"diagonal": groups, "rows": rows, "columns": columns}`."""
        return {"diagonal": self.groups, "rows": self.rows, "columns": self.columns}


@dataclass(frozen=True)
class Blocks:
    """Takes the blocks of the diagonal and puts them one after the other; the inverse of `Diagonal`."""

    rows: int
    columns: int
    groups: int

    def __post_init__(self) -> None:
        _require_groups(self.rows, self.columns, self.groups, self)

    @property
    def lossless(self) -> bool:
        """Always: what is no zero beside the diagonal is refused."""
        return True

    @property
    def inverse(self) -> Diagonal:
        """Puts the blocks on the diagonal."""
        return Diagonal(self.rows, self.columns, self.groups)

    def shapes(self, shapes: Shapes) -> Shapes:
        """The shape with the columns of one group."""
        (shape,) = exactly(1, shapes, self)
        _, columns = _axes(shape, self.rows, self.columns, self.groups, self)
        if shape[columns] % self.groups:
            raise TransformError(
                f"{self!r} does not fit shape {shape}: axis {self.columns} is not {self.groups} groups"
            )
        return ((*shape[:columns], shape[columns] // self.groups, *shape[columns + 1 :]),)

    def __call__(self, arrays: Arrays) -> Arrays:
        """The blocks; raises `TransformError` where something beside them is not zero."""
        self.shapes(tuple(array.shape for array in arrays))
        array = arrays[0]
        axes = axis_of(array.shape, self.rows, self), axis_of(array.shape, self.columns, self)
        parts = [_block(array, axes, group, self.groups) for group in range(self.groups)]
        _require_zeros(array, parts, self)
        return (np.concatenate(parts, axes[0]),)

    def to_json(self) -> dict[str, Any]:
        """`{"blocks": groups, "rows": rows, "columns": columns}`."""
        return {"blocks": self.groups, "rows": self.rows, "columns": self.columns}


@dataclass(frozen=True)
class Dilate:
    """Puts zeros between the places along an axis: a dilated kernel as an ordinary one.

    Args:
        axis: The axis.
        step: How far it is from one place to the next.
    """

    axis: int
    step: int

    def __post_init__(self) -> None:
        _require_step(self.step, self)

    @property
    def lossless(self) -> bool:
        """Always: the places are all there."""
        return True

    @property
    def inverse(self) -> "Thin":
        """Takes the zeros out again."""
        return Thin(self.axis, self.step)

    def shapes(self, shapes: Shapes) -> Shapes:
        """The shape with the zeros."""
        (shape,) = exactly(1, shapes, self)
        axis = axis_of(shape, self.axis, self)
        return ((*shape[:axis], (shape[axis] - 1) * self.step + 1, *shape[axis + 1 :]),)

    def __call__(self, arrays: Arrays) -> Arrays:
        """Zeros, and the values in steps between them."""
        (shape,) = self.shapes(tuple(array.shape for array in arrays))
        result = np.zeros(shape, arrays[0].dtype)
        result[_steps(shape, axis_of(shape, self.axis, self), self.step)] = arrays[0]
        return (result,)

    def to_json(self) -> dict[str, Any]:
        """`{"dilate": step, "axis": axis}`."""
        return {"dilate": self.step, "axis": self.axis}


@dataclass(frozen=True)
class Thin:
    """Takes every so many-th place along an axis; the inverse of `Dilate`."""

    axis: int
    step: int

    def __post_init__(self) -> None:
        _require_step(self.step, self)

    @property
    def lossless(self) -> bool:
        """Always: what is no zero between the places is refused."""
        return True

    @property
    def inverse(self) -> Dilate:
        """Puts the zeros back."""
        return Dilate(self.axis, self.step)

    def shapes(self, shapes: Shapes) -> Shapes:
        """The shape without the zeros; the axis must end with a place."""
        (shape,) = exactly(1, shapes, self)
        axis = axis_of(shape, self.axis, self)
        if shape[axis] % self.step != 1 % self.step:
            raise TransformError(f"{self!r} does not fit shape {shape}: axis {self.axis} is no whole steps and one")
        return ((*shape[:axis], (shape[axis] - 1) // self.step + 1, *shape[axis + 1 :]),)

    def __call__(self, arrays: Arrays) -> Arrays:
        """The places (a view); raises `TransformError` where something between them is not zero."""
        self.shapes(tuple(array.shape for array in arrays))
        places = _steps(arrays[0].shape, axis_of(arrays[0].shape, self.axis, self), self.step)
        _require_zeros(arrays[0], [arrays[0][places]], self)
        return (arrays[0][places],)

    def to_json(self) -> dict[str, Any]:
        """`{"thin": step, "axis": axis}`."""
        return {"thin": self.step, "axis": self.axis}


def _require_groups(rows: int, columns: int, groups: int, transform: object) -> None:
    if groups < 2 or rows == columns:
        raise TransformError(f"{transform!r} needs two axes, and two groups or more")


def _require_step(step: int, transform: object) -> None:
    if step < 2:
        raise TransformError(f"{transform!r} changes nothing: leave it out")


def _axes(shape: Shape, rows: int, columns: int, groups: int, transform: object) -> tuple[int, int]:
    found = axis_of(shape, rows, transform), axis_of(shape, columns, transform)
    if found[0] == found[1] or shape[found[0]] % groups:
        raise TransformError(f"{transform!r} does not fit shape {shape}: axis {rows} is not {groups} groups")
    return found


def _block(array: Array, axes: tuple[int, int], group: int, groups: int) -> Array:
    """The part of an array where a group meets itself; a view."""
    window = [slice(None)] * array.ndim
    for axis in axes:
        size = array.shape[axis] // groups
        window[axis] = slice(group * size, (group + 1) * size)
    return array[tuple(window)]


def _steps(shape: Shape, axis: int, step: int) -> tuple[slice, ...]:
    return tuple(slice(None, None, step if place == axis else 1) for place in range(len(shape)))


def _require_zeros(array: Array, kept: list[Array], transform: object) -> None:
    """Raises `TransformError` unless all that is not kept is zero, and no negative one: bits are promised."""
    outside = _not_zero(array) - sum(map(_not_zero, kept))
    if outside:
        raise TransformError(f"{transform!r} would lose {outside} values that are not zero")


def _not_zero(array: Array) -> int:
    signs = np.signbit(array) if array.dtype.kind not in "biuc" else np.zeros((), bool)
    return int(np.count_nonzero((array != 0) | signs))
