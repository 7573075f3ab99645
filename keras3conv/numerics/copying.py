"""Copy arrays to contiguous memory, faster than `np.ascontiguousarray` for transposed arrays.

Transforms return views, and writing a tensor makes it contiguous, so this copy is most of the cost of a conversion.
If numpy would read the cache lines of an array from memory again and again (see `cache`), this module copies it in
tiles. A tile is read in runs that are contiguous in the source, written to a small scratch buffer with rows of odd
length, and from there to the result in runs that are contiguous in the result. The scratch buffer stays in the cache,
and its rows map to different sets.

The constants describe ordinary processors and were chosen by measurement (`benchmarks/bench_transforms.py`). They
affect speed only: every path gives the same bits.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from math import prod
from typing import Any, NamedTuple

import numpy as np

from keras3conv.errors import TransformError
from keras3conv.numerics.cache import LINE, numpy_is_fast
from keras3conv.transforms import Array

_SMALL = 1 << 16
"""The number of elements below which numpy copies an array: it fits the cache, and setting up tiles takes time."""

_RUN = 1024
"""The length in bytes of the runs of a tile that are contiguous in the source."""

_ROWS = 512
"""The number of elements of the runs of a tile that are contiguous in the result."""

_PADDING = 16
"""The number of bytes that are added to each row of the scratch buffer, so that columns spread over all cache sets."""

_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
"""The unsigned integer dtype for each element size; numpy copies these fast. Larger elements gain little from tiles."""


class _Axis(NamedTuple):
    """An axis of a copy: its size, and its strides in bytes in the target and in the source."""

    size: int
    target: int
    source: int


def contiguous(array: Array, *, dtype: Any = None) -> Array:
    """Return the values of an array in row-major order, like `np.ascontiguousarray` but faster for most transposes.

    A contiguous array of the requested dtype is returned as it is; anything else becomes a new array that owns its
    data. An array without axes keeps its shape. The copy uses about a megabyte of memory besides the result.

    Args:
        array: Any array or view: transposed, strided, reversed, broadcast.
        dtype: The dtype to cast to, as `np.ascontiguousarray` does; by default the dtype of the array.

    Example:
        >>> contiguous(np.arange(6).reshape(2, 3).T).flags.c_contiguous
        True
    """
    wanted = array.dtype if dtype is None else np.dtype(dtype)
    if array.flags.c_contiguous and array.dtype == wanted:
        return np.asarray(array)
    return own_copy(array, dtype=wanted)


def own_copy(array: Array, *, dtype: Any = None) -> Array:
    """Return a row-major copy that shares no memory with the array.

    Use it if the receiver keeps a reference to the array: a variable on JAX may alias the array that it was assigned.

    Args:
        array: Any array or view.
        dtype: The dtype to cast to; by default the dtype of the array.
    """
    wanted = array.dtype if dtype is None else np.dtype(dtype)
    if array.size < _SMALL or numpy_is_fast(array, _long_axes(array)):
        return np.array(array, dtype=wanted, order="C")
    result: Array = np.empty(array.shape, wanted)
    copy_into(result, np.asarray(array))
    return result


def aligned_copy(array: Array) -> Array:
    """Return a row-major copy that shares no memory with the array and starts at a cache line.

    JAX and TensorFlow use such memory without another copy.
    """
    result = aligned_empty(array)
    copy_into(result, np.asarray(array))
    return result


def aligned_empty(array: Array) -> Array:
    """Return an uninitialised row-major array of the shape and dtype of another one that starts at a cache line."""
    memory = np.empty(array.nbytes + LINE, np.uint8)
    start = -memory.__array_interface__["data"][0] % LINE
    return memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)


def copy_into(target: Array, array: Array, *, checked: bool = False) -> bool:
    """Write the values of an array into another one, like `np.copyto` with any cast, but as fast as `contiguous`.

    Args:
        target: The array to write, in any memory layout.
        array: The array or view to read, of the same shape.
        checked: Whether to look for NaN and infinite values, tile by tile while they are in the cache: this takes a
            fraction of the time of another pass over the array.

    Returns:
        True if `checked` and all values are known to be finite; see `is_finite`.

    Raises:
        TransformError: The shapes differ.
    """
    if target.shape != array.shape:
        raise TransformError(
            f"an array of shape {array.shape} cannot be copied into an array of shape {target.shape}"
            ": reshape one of them"
        )
    if array.size < _SMALL:
        np.copyto(target, array, casting="unsafe")
        return checked and is_finite(target)
    order = _long_axes(target)
    if not target.flags.c_contiguous:
        order.sort(key=lambda axis: -abs(target.strides[axis]))
    if numpy_is_fast(array, order) or not _movable(target, array):
        np.copyto(target, array, casting="unsafe")
        return checked and is_finite(target)
    axes = _merged(target, array, order)
    # `reshape` returns views here: only axes that are adjacent in both arrays are merged.
    order += [axis for axis in range(target.ndim) if axis not in order]
    shape = [axis.size for axis in axes]
    return _move(axes, target.transpose(order).reshape(shape), array.transpose(order).reshape(shape), checked=checked)


def is_finite(array: Array) -> bool:
    """Return True if all values of an array are known to be finite, from a single fast pass over it.

    False means that a value may be NaN or infinite: it is also returned for arrays with gaps in memory, for other
    dtypes than float32 and float64, and for values whose squares overflow.
    """
    if array.dtype.char not in "fd":
        return False
    if not array.flags.c_contiguous:
        array = array.transpose(axes_by_stride(array))
        if not array.flags.c_contiguous:
            return False
    with np.errstate(all="ignore"):
        return bool(np.isfinite(np.vdot(array, array)))  # NaN or infinite if a value is


def axes_by_stride(array: Array) -> list[int]:
    """Return the axes of an array by decreasing stride: `array.transpose(order)` has the order of the memory."""
    return sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))


def _long_axes(array: Array) -> list[int]:
    return [axis for axis, size in enumerate(array.shape) if size != 1]


def _movable(target: Array, source: Array) -> bool:
    """Return True if the elements can be copied as unsigned integers of their size, and the arrays share no memory."""
    plain = all(array.itemsize in _UNSIGNED and not array.dtype.hasobject for array in (target, source))
    return plain and not np.may_share_memory(target, source)


def _merged(target: Array, source: Array, order: Iterable[int]) -> list[_Axis]:
    """Return size and strides of the axes of two arrays; axes that are adjacent in memory in both become one axis.

    Args:
        target: The array to write.
        source: The array to read, of the same shape.
        order: The indices of the axes in the order of the result.
    """
    axes: list[_Axis] = []
    for index in order:
        size, to, read = target.shape[index], target.strides[index], source.strides[index]
        if axes and axes[-1].target == size * to and axes[-1].source == size * read:
            size *= axes.pop().size
        axes.append(_Axis(size, to, read))
    return axes


def _move(axes: Sequence[_Axis], target: Array, source: Array, *, checked: bool) -> bool:
    """Copy an array in tiles; return True if `checked` and all values are known to be finite."""
    tile, run = _tile(axes, target.itemsize)
    rows, scratch = _scratch(tile, run, target.itemsize)
    if checked:
        rows.fill(0)  # the padding is checked, too
    values = rows.view(target.dtype)
    is_known_finite = checked
    # Without a cast, elements are copied as integers. With a cast, the copy into the scratch buffer casts.
    entry = scratch if target.dtype == source.dtype else scratch.view(target.dtype)
    source = source.view(scratch.dtype) if target.dtype == source.dtype else source
    target = target.view(scratch.dtype)
    for window in _windows(target.shape, tile):
        to = target[window]
        filled = tuple(map(slice, to.shape))
        np.copyto(entry[filled], source[window], casting="unsafe")
        is_known_finite = is_known_finite and is_finite(values)
        np.copyto(to, scratch[filled])
    return is_known_finite


def _tile(axes: Sequence[_Axis], itemsize: int) -> tuple[list[int], list[int]]:
    """Choose the tile (the block of elements copied at a time) for a copy, from the sizes and strides of its axes.

    Return two lists: the size of a tile along each axis, and the axes along which a tile is contiguous in the source,
    sorted by decreasing source stride.
    """
    by_source = sorted(range(len(axes)), key=lambda index: -abs(axes[index].source))
    tile = [1] * len(axes)
    _grow(tile, reversed(by_source), axes, _RUN // itemsize)
    run = [index for index in by_source if tile[index] > 1]
    _grow(tile, reversed(range(len(axes))), axes, _ROWS)
    wanted = _ROWS * _RUN // itemsize
    # Many small tiles would cost more to set up than to copy.
    for index in reversed(by_source):
        others = prod(tile) // tile[index]
        if tile[index] * others * 8 <= wanted:
            tile[index] = max(tile[index], min(axes[index].size, wanted // others))
    return tile, run


def _grow(tile: list[int], order: Iterable[int], axes: Sequence[_Axis], wanted: int) -> None:
    """Enlarge a tile in place, one axis after the other, until its axes together have at least `wanted` / 2 elements.

    Args:
        tile: The size of the tile along each axis; it is changed.
        order: The indices of the axes, the first to enlarge first.
        axes: The axes of the whole array; no axis of the tile becomes larger than the axis of the array.
        wanted: The number of elements that the tile should have along the axes in `order`.
    """
    reached = 1
    for index in order:
        if reached * 2 >= wanted:
            return
        tile[index] = max(tile[index], min(axes[index].size, -(-wanted // reached)))
        reached *= tile[index]


def _scratch(tile: Sequence[int], run: Sequence[int], itemsize: int) -> tuple[Array, Array]:
    """Return an uninitialised array of unsigned integers that holds one tile, with padding after each of its rows.

    Two views of it are returned: one with its axes in the order of memory, and one with the shape of the tile. In the
    order of memory, the axes in `run` come last.

    Args:
        tile: The size of the tile along each axis.
        run: The axes along which the tile is contiguous in the source.
        itemsize: The size of an element in bytes.
    """
    order = [index for index in range(len(tile)) if index not in run] + list(run)
    width = prod(tile[index] for index in run)
    lines = -(-width * itemsize // LINE)
    rows = np.empty((prod(tile) // width, (lines * LINE + _PADDING) // itemsize), _UNSIGNED[itemsize])
    return rows, rows[:, :width].reshape([tile[index] for index in order]).transpose(np.argsort(order))


def _windows(shape: Sequence[int], tile: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    starts = (range(0, size, step) for size, step in zip(shape, tile, strict=True))
    for corner in product(*starts):
        yield tuple(slice(start, start + step) for start, step in zip(corner, tile, strict=True))
