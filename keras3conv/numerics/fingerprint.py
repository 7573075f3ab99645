"""Compare arrays by a fingerprint that is the same in every memory layout, and by their largest difference.

A model has hundreds of layers with large outputs. So these functions read an array in memory order, in blocks that stay
in the processor's cache, and allocate no array of the full size. They call no BLAS, because its threads would compete
with the threads of the framework.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from keras3conv.transforms import Array, Shape

EXACT = 1e-10
"""The largest relative difference between two float64 results of the same computation.

The difference is divided by the largest value.
"""

_BLOCK = 1 << 15
"""The number of values in a block: three blocks of float64 fit into a common second-level cache."""

_QUIET = np.errstate(invalid="ignore", over="ignore", divide="ignore")
"""Silences numpy's warnings about values that are not finite: the results show them."""


@dataclass(frozen=True)
class Fingerprint:
    """A fingerprint of an array: sums of powers of its values. Memory layout and padding with zeros do not change it.

    Attributes:
        sums: The sums of the first, second and third powers.
        scales: An upper bound of the absolute value of each sum; differences are relative to it.
    """

    sums: tuple[float, ...]
    scales: tuple[float, ...]

    def agrees(self, other: "Fingerprint", limit: float) -> bool:
        """Return whether two fingerprints are equal: each of their sums differs by at most `limit` times its scale."""
        return all(
            abs(first - second) <= limit * max(scale, 1e-300)
            for first, second, scale in zip(self.sums, other.sums, self.scales, strict=True)
        )

    @property
    def has_nan(self) -> bool:
        """True if the array from which the fingerprint was computed has NaN."""
        return any(np.isnan(value) for value in self.sums)


@_QUIET
def fingerprint_of(array: Array) -> Fingerprint:
    """Return the fingerprint of an array of any dtype: the sums of its values, of their squares and of their cubes."""
    first = second = third = fourth = 0.0
    total = np.add.reduce
    memory = np.empty(min(_BLOCK, array.size))
    for (block,) in _blocks(np.abs(array) if array.dtype.kind == "c" else array):
        squares = np.multiply(block, block, out=memory[: block.size])
        first += total(block)
        second += total(squares)
        third += np.einsum("i,i->", squares, block)
        fourth += np.einsum("i,i->", squares, squares)
    scales = np.sqrt(second * max(array.size, 1)), second, np.sqrt(second * fourth)
    return Fingerprint((float(first), float(second), float(third)), tuple(map(float, scales)))


@_QUIET
def relative_error(array: Array, expected: Array, factor: float = 1.0) -> float:
    """Return the largest absolute difference of two arrays, divided by the largest absolute expected value.

    Return infinity if the shapes differ, if the arrays are empty, or if one of them has NaN or infinity.

    Args:
        array: The array to judge.
        expected: The array to compare with.
        factor: A number by which `expected` is multiplied before the comparison.
    """
    if array.shape != expected.shape or not array.size:
        return float("inf")
    if array.dtype.kind == "c" or expected.dtype.kind == "c":
        worst, largest = np.max(np.abs(array - factor * expected)), np.max(np.abs(factor * expected))
    else:
        worst, largest = _farthest(array, expected, factor)
    if not np.isfinite(worst) or not np.isfinite(largest):
        return float("inf")
    return float(worst / largest if largest else worst)


def _farthest(array: Array, expected: Array, factor: float) -> tuple[float, float]:
    """Return the largest absolute difference of two arrays, and the largest absolute value of `factor * expected`.

    Either number is NaN or infinite if the arrays have such values.

    Args:
        array: The array to judge.
        expected: The array to compare with, of the same shape.
        factor: A number by which `expected` is multiplied before the comparison.
    """
    most, least = np.maximum.reduce, np.minimum.reduce
    apart, size = [], []
    memory = np.empty(min(_BLOCK, array.size))
    for found, wanted in _blocks(array, expected):
        scaled = wanted if factor == 1.0 else factor * wanted
        difference = np.subtract(found, scaled, out=memory[: found.size])
        apart += [most(difference), -least(difference)]
        size += [most(scaled), -least(scaled)]
    return float(np.max(apart)), float(np.max(size))  # a NaN among them is their maximum


@_QUIET
def factor_between(array: Array, expected: Array, limit: float = EXACT) -> float | None:
    """Return the factor for which `array` equals `factor * expected` up to rounding; None if there is no such factor.

    Any number is a multiple of any other, so the result is None for arrays of one element.

    Args:
        array: The array that may be a multiple of `expected`.
        expected: The array that is multiplied.
        limit: The largest relative error at which the two sides of the equation count as equal.
    """
    if array.shape != expected.shape or array.size < 2 or array.dtype.kind == "c" or expected.dtype.kind == "c":
        return None
    length = product = 0.0
    for found, wanted in _blocks(array, expected):
        length += np.einsum("i,i->", wanted, wanted)
        product += np.einsum("i,i->", wanted, found)
    factor = float(product / length) if length else 0.0
    if not np.isfinite(factor) or factor == 0.0:
        return None
    return factor if relative_error(array, expected, factor) <= limit else None


def has_nan(array: Array) -> bool:
    """Return whether an array has NaN; False for integers and empty arrays."""
    if array.dtype.kind != "f" or not array.size:
        return False
    return bool(np.isnan(np.min(array)))  # numpy's minimum of NaN and anything is NaN


def _blocks(*arrays: Array) -> Iterator[tuple[Array, ...]]:
    """Iterate over arrays of one shape in blocks, in memory order; yield a tuple of the same block of each array.

    A block is a vector of at most `_BLOCK` values in float64.
    """
    if not arrays[0].size:
        return
    iterator = np.nditer(
        arrays,
        flags=["external_loop", "buffered"],
        op_flags=[["readonly"]] * len(arrays),
        op_dtypes=[np.dtype(np.float64)] * len(arrays),
        order="K",
        casting="unsafe",
        buffersize=_BLOCK,
    )
    for blocks in iterator:
        yield (blocks,) if len(arrays) == 1 else blocks  # type: ignore[misc]  # numpy gives one array without a tuple


def size_of(shape: Shape) -> int:
    """Return the number of values in an array of this shape."""
    return int(np.prod(shape, dtype=np.int64))
