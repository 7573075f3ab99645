"""Predict whether numpy copies an array fast, from the caches of ordinary processors.

numpy iterates over the result in order and reads the source with a large stride. It returns to a cache line after a
pass along the other axes. By then the line has been evicted if the pass is long, or if the stride is a multiple of a
large power of two, as in every transformer: then all lines of a pass map to a few sets of the cache.
"""

from collections.abc import Iterable, Sequence
from math import gcd

from keras3conv.transforms import Array

LINE = 64
"""The size of a cache line in bytes."""

_PAGE = 4096
_SETS = 64
"""The number of sets in the first-level cache, one of which each address belongs to: 64 in almost every processor."""

_WAYS = 16
"""The number of cache lines of one set that a pass may touch; if it touches more, copying in tiles is faster."""

_ENTRIES = 1024
"""The number of page addresses that the processor caches (TLB entries)."""

_SECOND_CACHE = 2 << 20
"""The number of bytes of the second-level cache that a pass may use."""


def numpy_is_fast(source: Array, order: Sequence[int]) -> bool:
    """Return True if numpy copies an array fast, because each cache line stays cached until all of it has been read.

    numpy reads the next element of a cache line with each step along the axis of the smallest source stride. Between
    two such steps it iterates over all axes that come later in `order`.

    Args:
        source: The array to read.
        order: The indices of its axes, that of the outermost loop first.
    """
    steps = [abs(source.strides[axis]) for axis in order]
    nearest = steps.index(min(steps))
    # The source is read contiguously, or is broadcast, or has only few elements per cache line.
    if nearest == len(steps) - 1 or not 0 < steps[nearest] <= LINE // 4:
        return True
    inside = [(source.shape[axis], step) for axis, step in zip(order[nearest + 1 :], steps[nearest + 1 :], strict=True)]
    lines = _touched(inside, LINE)
    common = gcd(*steps[nearest + 1 :])
    sets = _SETS if common % LINE else _SETS // gcd(common // LINE, _SETS)
    if lines <= _WAYS * sets:
        return True
    # The second-level cache is fast enough unless the pass maps to less than an eighth of the first-level sets.
    claimed = lines * LINE * (_SETS // sets)
    return sets > _SETS // 8 and claimed <= _SECOND_CACHE and _touched(inside, _PAGE) <= _ENTRIES


def _touched(axes: Iterable[tuple[int, int]], unit: int) -> int:
    """Return the number of memory blocks (cache lines or pages) that one iteration over all indices of axes reads.

    Args:
        axes: The size and the stride in bytes of each axis.
        unit: The size of a block in bytes.
    """
    touched = 1
    for size, step in axes:
        touched *= size if step >= unit else max(1, size * step // unit)
    return touched
