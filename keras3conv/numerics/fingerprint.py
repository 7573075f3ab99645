"""How the probe compares numbers: what an array has in every layout, and how far two arrays are apart.

The arrays are what layers return, so they are large, and there are hundreds. Both are read in blocks that stay in the
processor's cache, in the order of the memory; nothing of their size is made. No product is left to BLAS, whose threads
would wait in the way of the framework's.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from keras3conv.transforms import Array, Shape

EXACT = 1e-10
"""Relative to the largest value: two sides that compute the same differ by no more in float64."""


_BLOCK = 1 << 15
"""How many numbers are looked at together: three blocks of float64 fit into a common second-level cache."""


_QUIET = np.errstate(invalid="ignore", over="ignore", divide="ignore")
"""What is not finite is told by the result; numpy would warn of it, too."""


@dataclass(frozen=True)
class Print:
    """What an array has in every layout, and with any padding of zeros: the sums of the powers of its values."""

    sums: tuple[float, ...]
    scales: tuple[float, ...]

    def agrees(self, other: "Print", limit: float) -> bool:
        """Whether the sums are the same, relative to the sums of the magnitudes."""
        return all(
            abs(first - second) <= limit * max(scale, 1e-300)
            for first, second, scale in zip(self.sums, other.sums, self.scales, strict=True)
        )

    @property
    def has_nan(self) -> bool:
        """Whether a value of the array is NaN."""
        return any(np.isnan(value) for value in self.sums)


@_QUIET
def print_of(array: Array) -> Print:
    """The print of an array of any dtype."""
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
    return Print((float(first), float(second), float(third)), tuple(map(float, scales)))


@_QUIET
def relative_error(array: Array, expected: Array, factor: float = 1.0) -> float:
    """The largest difference, relative to the largest expected value; infinite where one is NaN.

    Args:
        array: What was found.
        expected: What it is held against, of the same shape; of another, nothing is near.
        factor: What the expected values are multiplied with.
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
    """The largest difference and the largest expected value; not finite where a value is not."""
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
    """The number that one array is times the other, if they are the same but for it; None if they are not."""
    if array.shape != expected.shape or not array.size or array.dtype.kind == "c" or expected.dtype.kind == "c":
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
    """Whether a value of an array of any dtype is NaN."""
    if array.dtype.kind != "f" or not array.size:
        return False
    return bool(np.isnan(np.min(array)))  # NaN wins every comparison that numpy makes


def _blocks(*arrays: Array) -> Iterator[tuple[Array, ...]]:
    """Arrays of one shape in float64, block by block, in the order in which they stand in memory."""
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
    """How many numbers an array of this shape has."""
    return int(np.prod(shape, dtype=np.int64))
