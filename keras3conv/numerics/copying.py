"""Data in new memory: `np.ascontiguousarray`, without its bad days.

Transforms return views, and whoever writes makes them contiguous, so this copy is what a conversion costs. numpy walks
the result in order and reads the source with one large stride. It comes back to a cache line when the walk along the
other axes is over; by then the line is gone if the walk was long, and also if the stride is a multiple of a large power
of two, as in every transformer: then all the lines of a walk compete for a few places in the cache.

Here such an array moves in tiles. A tile is read in runs that are neighbours in the source, written to a small scratch
whose rows have an odd length, and from there to the result in runs that are neighbours in the result. The scratch stays
in the cache, and its odd rows do not compete.

Constants describe ordinary processors and were chosen by measurement (`benchmarks/bench_transforms.py`). They decide
about speed only: every way gives the same bits.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from math import gcd, prod
from typing import Any, NamedTuple

import numpy as np

from keras3conv.errors import TransformError
from keras3conv.transforms import Array

_SMALL = 1 << 16
"""Arrays of fewer elements are left to numpy: they fit the cache, and preparing tiles takes time too."""

_LINE = 64
"""Bytes that the cache fetches together."""

_PAGE = 4096
_SETS = 64
"""Places in the first cache where a line may go, by its address: 64 of them in almost every processor."""

_WAYS = 16
"""Lines of one place that a walk may need before reading them again is slower than tiles."""

_ENTRIES = 1024
"""Pages whose addresses the processor remembers."""

_SECOND_CACHE = 2 << 20
"""Bytes of the second cache that a walk may claim."""

_RUN = 1024
"""Bytes of a tile that are neighbours in the source."""

_ROWS = 512
"""Elements of a tile that are neighbours in the result."""

_PADDING = 16
"""Bytes after the last line of a row of the scratch: a column of it then goes through all places of the cache."""

_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
"""By size: an element is moved as a number that numpy moves fast. Larger elements gain too little from tiles."""


class _Axis(NamedTuple):
    """An axis of a copy: its size, and how many bytes a step is in the target and in the source."""

    size: int
    target: int
    source: int


def contiguous(array: Array, *, dtype: Any = None) -> Array:
    """The same values in row-major order: `np.ascontiguousarray`, several times faster for an unfortunate transpose.

    An array that is contiguous, and of the dtype, is returned as it is, not copied; everything else is a new array
    that owns its data. An array without axes stays one. About a megabyte is used beside the result.

    Args:
        array: Any array or view: transposed, with steps, reversed, broadcast.
        dtype: What to cast to, as `np.ascontiguousarray` does; the array's own where it is not given.

    Example:
        >>> contiguous(np.arange(6).reshape(2, 3).T).flags.c_contiguous
        True
    """
    wanted = array.dtype if dtype is None else np.dtype(dtype)
    if array.flags.c_contiguous and array.dtype == wanted:
        return np.asarray(array)
    return own_copy(array, dtype=wanted)


def own_copy(array: Array, *, dtype: Any = None) -> Array:
    """A row-major copy that shares no memory with the array, contiguous or not.

    For a receiver that keeps what it is given: on JAX a variable may alias the array that it was assigned.

    Args:
        array: Any array or view.
        dtype: What to cast to; the array's own where it is not given.
    """
    wanted = array.dtype if dtype is None else np.dtype(dtype)
    if array.size < _SMALL or _numpy_is_fast(array, _long_axes(array)):
        return np.array(array, dtype=wanted, order="C")
    result: Array = np.empty(array.shape, wanted)
    copy_into(result, np.asarray(array))
    return result


def copy_into(target: Array, array: Array) -> None:
    """Writes an array into memory that is there already: `np.copyto` with any cast, as fast as `contiguous`.

    Args:
        target: The memory, in whatever order its axes are.
        array: Any array or view of the same shape.

    Raises:
        TransformError: The shapes differ.
    """
    if target.shape != array.shape:
        raise TransformError(f"an array of shape {array.shape} does not fit memory of shape {target.shape}")
    order = _long_axes(target)
    if not target.flags.c_contiguous:
        order.sort(key=lambda axis: -abs(target.strides[axis]))
    if array.size < _SMALL or _numpy_is_fast(array, order) or not _movable(target, array):
        np.copyto(target, array, casting="unsafe")
        return
    axes = _merged(target, array, order)
    # These are views: axes are merged only where both arrays step from one to the next.
    order += [axis for axis in range(target.ndim) if axis not in order]
    shape = [axis.size for axis in axes]
    _move(axes, target.transpose(order).reshape(shape), array.transpose(order).reshape(shape))


def _long_axes(array: Array) -> list[int]:
    return [axis for axis, size in enumerate(array.shape) if size != 1]


def _movable(target: Array, source: Array) -> bool:
    """Whether both can be moved as numbers, and writing one does not change the other."""
    plain = all(array.itemsize in _UNSIGNED and not array.dtype.hasobject for array in (target, source))
    return plain and not np.may_share_memory(target, source)


def _merged(target: Array, source: Array, order: Iterable[int]) -> list[_Axis]:
    """The axes in this order, as few as possible: neighbours in both arrays become one."""
    axes: list[_Axis] = []
    for index in order:
        size, to, read = target.shape[index], target.strides[index], source.strides[index]
        if axes and axes[-1].target == size * to and axes[-1].source == size * read:
            size *= axes.pop().size
        axes.append(_Axis(size, to, read))
    return axes


def _numpy_is_fast(source: Array, order: Sequence[int]) -> bool:
    """Whether numpy, walking these axes in turn, finds a line of the source in the cache when it comes back to it.

    It comes back when it takes a step along the axis that is nearest in the source: what lies between is a walk along
    all the axes inside of that one.
    """
    steps = [abs(source.strides[axis]) for axis in order]
    nearest = steps.index(min(steps))
    # Runs are read as they lie; or the source repeats; or it has few elements a line.
    if nearest == len(steps) - 1 or not 0 < steps[nearest] <= _LINE // 4:
        return True
    inside = [(source.shape[axis], step) for axis, step in zip(order[nearest + 1 :], steps[nearest + 1 :], strict=True)]
    lines = _touched(inside, _LINE)
    common = gcd(*steps[nearest + 1 :])
    sets = _SETS if common % _LINE else _SETS // gcd(common // _LINE, _SETS)
    if lines <= _WAYS * sets:
        return True
    # In the second cache a line is found quickly enough if the walk does not pile up in an eighth of the first.
    claimed = lines * _LINE * (_SETS // sets)
    return sets > _SETS // 8 and claimed <= _SECOND_CACHE and _touched(inside, _PAGE) <= _ENTRIES


def _touched(walk: Iterable[tuple[int, int]], unit: int) -> int:
    """How many units of memory are touched by a walk along axes of these sizes, in these steps."""
    touched = 1
    for size, step in walk:
        touched *= size if step >= unit else max(1, size * step // unit)
    return touched


def _move(axes: Sequence[_Axis], target: Array, source: Array) -> None:
    tile, run = _tile(axes, target.itemsize)
    scratch = _scratch(tile, run, target.itemsize)
    # Numbers without a meaning where the bits stay; the first of the two copies is the one that casts.
    entry = scratch if target.dtype == source.dtype else scratch.view(target.dtype)
    source = source.view(scratch.dtype) if target.dtype == source.dtype else source
    target = target.view(scratch.dtype)
    for window in _windows(target.shape, tile):
        to = target[window]
        filled = tuple(map(slice, to.shape))
        np.copyto(entry[filled], source[window], casting="unsafe")
        np.copyto(to, scratch[filled])


def _tile(axes: Sequence[_Axis], itemsize: int) -> tuple[list[int], list[int]]:
    """The size of a tile along each axis, and the axes that are neighbours in the source, the nearest last."""
    by_source = sorted(range(len(axes)), key=lambda index: -abs(axes[index].source))
    tile = [1] * len(axes)
    _grow(tile, reversed(by_source), axes, _RUN // itemsize)
    run = [index for index in by_source if tile[index] > 1]
    _grow(tile, reversed(range(len(axes))), axes, _ROWS)
    wanted = _ROWS * _RUN // itemsize
    # Many small tiles would cost more to begin than to move.
    for index in reversed(by_source):
        others = prod(tile) // tile[index]
        if tile[index] * others * 8 <= wanted:
            tile[index] = max(tile[index], min(axes[index].size, wanted // others))
    return tile, run


def _grow(tile: list[int], order: Iterable[int], axes: Sequence[_Axis], wanted: int) -> None:
    """Makes a tile larger, axis after axis, until it has half of the wanted elements."""
    reached = 1
    for index in order:
        if reached * 2 >= wanted:
            return
        tile[index] = max(tile[index], min(axes[index].size, -(-wanted // reached)))
        reached *= tile[index]


def _scratch(tile: Sequence[int], run: Sequence[int], itemsize: int) -> Array:
    """Memory for a tile: the axes of the runs are last, whatever their order is in the target."""
    order = [index for index in range(len(tile)) if index not in run] + list(run)
    width = prod(tile[index] for index in run)
    lines = -(-width * itemsize // _LINE)
    rows = np.empty((prod(tile) // width, (lines * _LINE + _PADDING) // itemsize), _UNSIGNED[itemsize])
    return rows[:, :width].reshape([tile[index] for index in order]).transpose(np.argsort(order))


def _windows(shape: Sequence[int], tile: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    starts = (range(0, size, step) for size, step in zip(shape, tile, strict=True))
    for corner in product(*starts):
        yield tuple(slice(start, start + step) for start, step in zip(corner, tile, strict=True))
