"""Split arrays into parts that fit the cache, in the order of their memory."""

from collections.abc import Iterator

import numpy as np

from keras3conv.transforms import Array

PART = 1 << 15
"""The number of elements that are compared at a time: so many stay in the cache for all passes over them."""


def in_parts(shape: tuple[int, ...]) -> Iterator[tuple[tuple[int | slice, ...], tuple[int, ...]]]:
    """Yield slices that divide an array of this shape into parts that fit the cache, each with its first index.

    In shape (2, 90, 999): ((0, slice(0, 32)), (0, 0)) for elements [0, 0:32, :], then ((0, slice(32, 64)), (0, 32)).
    """
    axis, inside = len(shape) - 1, 1
    while axis and inside * shape[axis] < PART:
        inside *= shape[axis]
        axis -= 1
    step = max(1, PART // inside)
    for outer in np.ndindex(*shape[:axis]):
        for start in range(0, shape[axis], step):
            yield (*outer, slice(start, start + step)), (*outer, start)


def memory_order(actual: Array, expected: Array) -> tuple[int, ...]:
    """Return the order of axes in which both arrays are read the fastest: that of their memory, if it is the same.

    An image with its channels last is often a view of memory with the channels first, on both sides.
    """
    orders = [tuple(np.argsort(np.negative(one.strides), kind="stable").tolist()) for one in (actual, expected)]
    return orders[0] if orders[0] == orders[1] else tuple(range(actual.ndim))
