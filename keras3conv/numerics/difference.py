"""Compare two arrays element by element, describe their difference in numbers, and measure the rounding noise.

The noise floor is the rounding error of the model that the weights came from (the source): its output in its own dtype
minus its output in float64, for the same input.
"""

from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras3conv.errors import InputError
from keras3conv.numerics.parts import PART, in_parts, memory_order
from keras3conv.transforms import Array

FLOAT64_LIMIT = 1e-10
"""The largest relative difference that rounding causes between two float64 runs of one function.

A deep model amplifies rounding to 1e-12; the smallest mistake worth finding (an epsilon off by 1e-3) shows at 1e-8.
"""


@dataclass(frozen=True, kw_only=True)
class Diff:
    """The difference between two arrays of the same shape, as numbers.

    Attributes:
        count: The number of elements.
        differing: The number of elements that differ as values (NaN equals NaN, `-0.0` differs from `0.0`).
        max_abs: The largest absolute difference; infinite if an element is finite in only one of the arrays.
        max_rel: The largest absolute difference, relative to `scale`.
        max_ulp: The largest difference in units in the last place of `scale`, in the narrower dtype.
        scale: The largest absolute finite value of the expected array.
        worst: The index of the largest absolute difference, or of the first zero that differs only in its sign.
        nonfinite: The number of indices at which one array or both have NaN or infinity.
    """

    count: int
    differing: int
    max_abs: float
    max_rel: float
    max_ulp: float
    scale: float
    worst: tuple[int, ...]
    nonfinite: int

    @property
    def identical(self) -> bool:
        """True if all elements are equal to the last bit; `same_bits` compares dtypes and NaN payloads too."""
        return self.differing == 0

    def __str__(self) -> str:
        return self.described("the other side")

    def described(self, expected_of: str) -> str:
        """Return "2 of 9 elements differ (22.2 %), ..."; `expected_of` names the expected array's model: "torch"."""
        if self.identical:
            return f"bit-identical ({self.count:,} elements)"
        what = f"{self.differing:,} of {self.count:,} elements differ ({100 * self.differing / self.count:.3g} %)"
        if not isfinite(self.max_abs):
            return f"{what}, {self.nonfinite:,} are NaN or infinite, as at {self.worst}"
        size = f" ({self.max_rel:.2g} of the largest value)" if self.scale else f", where {expected_of} has only zeros,"
        return f"{what}, at most {self.max_abs:.3g}{size} at {self.worst}"


def compare(actual: Array, expected: Array) -> Diff:
    """Return the difference between two arrays.

    Args:
        actual: Any shape and real dtype.
        expected: The same shape; its largest value is the scale of relative differences.

    Raises:
        InputError: The shapes differ (nothing is broadcast), the arrays are empty, or one is complex.
    """
    if actual.shape != expected.shape:
        raise InputError(
            f"an array of shape {actual.shape} cannot be compared with one of shape {expected.shape}"
            ": give arrays of the same shape"
        )
    if actual.size == 0:
        raise InputError(f"empty arrays cannot be compared: both have shape {actual.shape}; give arrays with elements")
    shape, actual, expected = actual.shape, np.atleast_1d(actual), np.atleast_1d(expected)
    order = memory_order(actual, expected)
    actual, expected = actual.transpose(order), expected.transpose(order)
    parts = [_measure(actual[index], expected[index], first) for index, first in in_parts(actual.shape)]
    worst = max(parts, key=lambda part: (part.max_abs, part.differing > 0))
    scale = max(part.scale for part in parts)
    return Diff(
        count=actual.size,
        differing=sum(part.differing for part in parts),
        max_abs=worst.max_abs,
        max_rel=ratio_of(worst.max_abs, scale),
        max_ulp=ratio_of(worst.max_abs, scale * max(resolution(actual), resolution(expected))),
        scale=scale,
        worst=tuple(worst.worst[order.index(axis)] for axis in range(len(shape))),
        nonfinite=sum(part.nonfinite for part in parts),
    )


@dataclass(frozen=True, kw_only=True)
class _Part:
    """The difference between two arrays in one slice of them; the attributes are those of `Diff` for this slice."""

    differing: int
    max_abs: float
    scale: float
    worst: tuple[int, ...]
    nonfinite: int


def _measure(actual: Array, expected: Array, first: tuple[int, ...]) -> _Part:
    """Compare one slice of two arrays, and return the difference.

    Args:
        actual: The slice of one array.
        expected: The same slice of the other array.
        first: The index of the slice's first element in the whole arrays, without the last axes, which it covers whole:
            (0, 32) for the slice [0, 32:64, :].
    """
    # A transposed array is read once, not in each pass.
    actual, expected = np.ascontiguousarray(actual), np.ascontiguousarray(expected)
    return _measure_finite(actual, expected, first) or _measure_any(actual, expected, first)


def _place(index: int, shape: tuple[int, ...], first: tuple[int, ...]) -> tuple[int, ...]:
    """Convert the index of an element in a slice of an array to its index in the whole array.

    Args:
        index: The index of the element in the flattened slice.
        shape: The shape of the slice.
        first: The index of the slice's first element in the whole array: (0, 32) for the slice [0, 32:64, :].
    """
    start, *rest = np.unravel_index(index, shape)
    return (*first[:-1], first[-1] + int(start), *map(int, rest))


_BITS: dict[int, np.dtype[Any]] = {4: np.dtype(np.uint32), 8: np.dtype(np.uint64)}


def _measure_finite(actual: Array, expected: Array, first: tuple[int, ...]) -> _Part | None:
    """Return the difference of two float32 or float64 slices from index `first` on; None for others, NaN, infinity."""
    kinds = actual.dtype.kind + expected.dtype.kind
    if kinds != "ff" or actual.dtype.itemsize not in _BITS or expected.dtype.itemsize not in _BITS:
        return None
    with np.errstate(invalid="ignore", over="ignore"):
        distance = np.subtract(actual, expected, dtype=np.float64)
    np.abs(distance, out=distance)
    place = int(np.argmax(distance))
    largest = float(distance.flat[place])
    if not isfinite(largest):  # NaN counts as the largest; finite values may be too far apart for float64
        return None
    dtype = np.promote_types(actual.dtype, expected.dtype)
    bits = _BITS[dtype.itemsize]
    unequal = actual.astype(dtype, copy=False).view(bits) != expected.astype(dtype, copy=False).view(bits)
    if not largest:
        place = int(np.argmax(unequal))
    return _Part(
        differing=int(np.count_nonzero(unequal)),
        max_abs=largest,
        scale=max(float(np.max(expected)), -float(np.min(expected)), 0.0),
        worst=_place(place, distance.shape, first),
        nonfinite=0,
    )


def _measure_any(actual: Array, expected: Array, first: tuple[int, ...]) -> _Part:
    """Return the difference of two slices of any real dtype from index `first` on; they may have NaN or infinity."""
    wide_actual, wide_expected = _widen(actual), _widen(expected)
    finite = np.isfinite(wide_actual) & np.isfinite(wide_expected)
    same = _same_values(actual, expected, wide_actual, wide_expected)
    distance = _distance(wide_actual, wide_expected, same, finite)
    if _are_integers(actual, expected):
        distance = np.where(same, 0.0, np.maximum(distance, 1.0))  # float64 cannot tell 2**53 and 2**53 + 1 apart
    place = int(np.argmax(distance if distance.any() else ~same))
    return _Part(
        differing=int(actual.size - np.count_nonzero(same)),
        max_abs=float(distance.flat[place]),
        scale=float(np.max(np.abs(wide_expected), where=np.isfinite(wide_expected), initial=0.0)),
        worst=_place(place, distance.shape, first),
        nonfinite=int(finite.size - np.count_nonzero(finite)),
    )


def same_bits(actual: Array, expected: Array) -> bool:
    """Return True if two arrays have the same dtype, shape and bytes, NaN payloads and zero signs included."""
    if actual.dtype != expected.dtype or actual.shape != expected.shape:
        return False
    if actual.size < PART or actual.dtype.itemsize not in _BITS:
        return actual.tobytes() == expected.tobytes()
    bits = _BITS[actual.dtype.itemsize]
    return np.array_equal(actual.view(bits), expected.view(bits))  # faster on transposed arrays than after a copy


def resolution(array: Array) -> float:
    """Return the distance from 1.0 to the next number in the array's dtype; 0 for integers."""
    dtype = array.dtype
    if dtype.kind == "f":
        return float(np.finfo(dtype).eps)
    if dtype.kind in "iub":
        return 0.0
    import ml_dtypes  # imported here: an array of such a dtype exists only if the module was imported before

    limits: Any = ml_dtypes.finfo
    return float(limits(dtype).eps)


def _widen(array: Array) -> NDArray[np.float64]:
    if array.dtype.kind == "c":
        raise InputError(f"arrays of {array.dtype} cannot be compared: compare their real and imaginary parts")
    return array.astype(np.float64)


def _are_integers(actual: Array, expected: Array) -> bool:
    return actual.dtype.kind in "iub" and expected.dtype.kind in "iub"


def _same_values(
    actual: Array, expected: Array, wide_actual: NDArray[np.float64], wide_expected: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Return a mask of the equal elements: `-0.0` differs from `0.0`, and NaN equals NaN with any payload.

    Args:
        actual: One array.
        expected: The other array.
        wide_actual: The values of `actual` in float64.
        wide_expected: The values of `expected` in float64.
    """
    if _are_integers(actual, expected):
        return np.asarray(actual == expected)
    same = (wide_actual == wide_expected) & (np.signbit(wide_actual) == np.signbit(wide_expected))
    return np.asarray(same | (np.isnan(wide_actual) & np.isnan(wide_expected)))


def _distance(
    actual: NDArray[np.float64],
    expected: NDArray[np.float64],
    same: NDArray[np.bool_],
    finite: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Return the absolute difference of each pair of elements; infinite if they differ and one of them is not finite.

    Args:
        actual: One array, in float64.
        expected: The other array, in float64.
        same: A mask that is True where the two arrays are equal.
        finite: A mask that is True where both arrays are finite.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        return np.where(same, 0.0, np.where(finite, np.abs(actual - expected), np.inf))


def ratio_of(value: float, unit: float) -> float:
    """Return a value divided by a unit; 0 for the value 0, also if the unit is 0."""
    if value == 0:
        return 0.0
    return value / unit if unit > 0 and isfinite(value) else float("inf")


def noise_floor(source: Array, truth: Array, unit: float | None = None) -> float:
    """Return the noise floor: the largest rounding error in a model's output, at least half an ulp of its maximum.

    Args:
        source: The output of the model in its own dtype.
        truth: The output of the model in float64, on the same input.
        unit: The unit in the last place (ulp) at 1.0; by default that of the dtype of `source`.
    """
    noise = compare(source, truth)
    return max(noise.max_abs, 0.5 * (resolution(source) if unit is None else unit) * noise.scale)
