"""Two arrays become a `Diff`: how many elements differ, the worst of them, and where.

A difference is judged against a measured noise floor: the error that the source itself makes in its own dtype,
against its own float64 run on the same input. A tolerance is never picked by hand.
"""

from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras3conv.errors import InputError
from keras3conv.transforms import Array

FLOAT64_LIMIT = 1e-10
"""Two float64 runs of one function agree to rounding; a deep model amplifies rounding to about 1e-12, and the smallest
mistake worth finding (a relative change of an epsilon by 1e-3) shows at 1e-8 or more."""

NOISE_FACTOR = 8.0
"""Two implementations that sum in different orders differ by a small multiple of either one's own rounding error.
A deviation below this multiple of the measured noise floor is noise."""


NOT_FINITE = "values that are not finite: they prove nothing"


@dataclass(frozen=True, kw_only=True)
class Diff:
    """What separates two arrays of one shape.

    Attributes:
        count: How many elements there are.
        differing: How many of them differ as values (two NaNs are one value, `-0.0` and `0.0` are two).
        max_abs: The largest absolute difference; infinite where only one side is finite.
        max_rel: The largest absolute difference, relative to `scale`.
        max_ulp: The largest difference in units in the last place of `scale`, in the narrower dtype.
        scale: The largest absolute finite value of the expected array.
        worst: The index of the largest absolute difference; of the first zero with another sign if that is all.
        nonfinite: How many elements of either side are NaN or infinite.
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
        """Whether every element is the same value, to the last bit; `same_bits` compares dtypes and payloads too."""
        return self.differing == 0

    def __str__(self) -> str:
        if self.identical:
            return f"bit-identical ({self.count:,} elements)"
        share = 100 * self.differing / self.count
        if not isfinite(self.max_abs):
            return (
                f"{self.differing:,} of {self.count:,} elements differ ({share:.3g} %), {self.nonfinite:,} are NaN or "
                f"infinite, as at {self.worst}"
            )
        return (
            f"{self.differing:,} of {self.count:,} elements differ ({share:.3g} %), at most {self.max_abs:.3g} "
            f"({self.max_rel:.2g} of the largest value) at {self.worst}"
        )


def compare(actual: Array, expected: Array) -> Diff:
    """Compares two arrays.

    Args:
        actual: Any shape and real dtype.
        expected: The same shape; its largest value is the scale of relative differences.

    Raises:
        InputError: The shapes differ (nothing is broadcast), there is no element to compare, or one is complex.
    """
    if actual.shape != expected.shape:
        raise InputError(f"cannot compare shape {actual.shape} with shape {expected.shape}")
    if actual.size == 0:
        raise InputError(f"cannot compare arrays without elements: both have shape {actual.shape}")
    shape, actual, expected = actual.shape, np.atleast_1d(actual), np.atleast_1d(expected)
    parts = [_measure(actual[rows], expected[rows], rows.start) for rows in _in_parts(actual)]
    worst = max(parts, key=lambda part: (part.max_abs, part.differing > 0))
    scale = max(part.scale for part in parts)
    return Diff(
        count=actual.size,
        differing=sum(part.differing for part in parts),
        max_abs=worst.max_abs,
        max_rel=_ratio(worst.max_abs, scale),
        max_ulp=_ratio(worst.max_abs, scale * max(resolution(actual), resolution(expected))),
        scale=scale,
        worst=worst.worst if shape else (),
        nonfinite=sum(part.nonfinite for part in parts),
    )


@dataclass(frozen=True, kw_only=True)
class _Part:
    """What `Diff` says, of some rows of two arrays."""

    differing: int
    max_abs: float
    scale: float
    worst: tuple[int, ...]
    nonfinite: int


_PART = 1 << 14
"""Elements that are compared at a time: so many stay in a processor's cache through the dozen passes over them."""


def _in_parts(array: Array) -> list[slice]:
    """Rows along the first axis, a cache full at a time."""
    step = max(1, _PART * len(array) // array.size)
    return [slice(start, start + step) for start in range(0, len(array), step)]


def _measure(actual: Array, expected: Array, start: int) -> _Part:
    """Compares some rows; `start` is the first one's place in the whole."""
    wide_actual, wide_expected = _widen(actual), _widen(expected)
    finite = np.isfinite(wide_actual) & np.isfinite(wide_expected)
    same = _same_values(actual, expected, wide_actual, wide_expected)
    distance = _distance(wide_actual, wide_expected, same, finite)
    if _are_integers(actual, expected):
        distance = np.where(same, 0.0, np.maximum(distance, 1.0))  # float64 cannot tell 2**53 and 2**53 + 1 apart
    first, *others = np.unravel_index(int(np.argmax(distance if distance.any() else ~same)), distance.shape)
    return _Part(
        differing=int(actual.size - np.count_nonzero(same)),
        max_abs=float(distance[first, *others]),
        scale=float(np.max(np.abs(wide_expected), where=np.isfinite(wide_expected), initial=0.0)),
        worst=(int(first) + start, *(int(index) for index in others)),
        nonfinite=int(finite.size - np.count_nonzero(finite)),
    )


def same_bits(actual: Array, expected: Array) -> bool:
    """Whether two arrays have the same dtype, the same shape and the same bytes (NaN payloads and zero signs too)."""
    if actual.dtype != expected.dtype or actual.shape != expected.shape:
        return False
    return np.ascontiguousarray(actual).tobytes() == np.ascontiguousarray(expected).tobytes()


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """What a caller allows in the place of the measured noise; the report then says that it was the caller's.

    Both numbers are given, so that nobody has one without knowing it.

    Attributes:
        absolute: What is allowed whatever the values are.
        relative: What is allowed beside that, as a share of the largest value of the source.
    """

    absolute: float
    relative: float

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (isinstance(value, int | float) and isfinite(value) and value >= 0):
                raise InputError(f"the {name} tolerance is {value!r}: it must be a finite number, and not negative")

    def __str__(self) -> str:
        return f"{self.absolute:g} absolute and {self.relative:g} of the largest value"


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A deviation beside the noise that it is judged against.

    Attributes:
        deviation: The largest absolute difference between the two sides.
        floor: The measured noise: the source's own error against its float64 run, and at least half a unit in the
            last place of the largest value. None where it was not measured, because the caller gave a tolerance.
        factor: How many times the floor is allowed.
        differing: How many elements differ.
        allowed: What the caller allows instead; None where the floor decides.
    """

    deviation: float
    floor: float | None
    factor: float = NOISE_FACTOR
    differing: int = 0
    allowed: float | None = None

    @property
    def ratio(self) -> float | None:
        """The deviation as a multiple of the floor; None where that was not measured."""
        return None if self.floor is None else _ratio(self.deviation, self.floor)

    @property
    def limit(self) -> float:
        """The largest deviation that passes."""
        if self.allowed is not None:
            return self.allowed
        return float("nan") if self.floor is None else self.factor * self.floor

    @property
    def proves(self) -> bool:
        """Whether there is something to judge: NaN and infinities prove nothing, not as a deviation, not as a floor."""
        return isfinite(self.deviation) and isfinite(self.limit)

    @property
    def passed(self) -> bool:
        """Whether the deviation is noise."""
        return self.proves and self.deviation <= self.limit

    def __str__(self) -> str:
        if not self.proves:
            return NOT_FINITE
        if self.differing == 0:
            return "bit-identical"
        noise = "" if self.floor is None else f", {self.ratio:.2g} x the noise floor of {self.floor:.2g}"
        given = "" if self.allowed is None else f", the tolerance given is {self.allowed:.2g}"
        return f"{self.deviation:.2g}{noise}{given}"


def judge(actual: Array, source: Array, truth: Array | None, tolerance: Tolerance | None = None) -> Judgement:
    """Judges what the target computed against the source's own noise, or against a tolerance.

    Args:
        actual: What the target computed, in its own dtype.
        source: What the source computed, in its own dtype, on the same input.
        truth: What the source computed in float64, on the same input; None where only the tolerance counts.
        tolerance: What the caller allows, whatever the noise is.
    """
    diff = compare(actual, source)
    floor = None if truth is None else noise_floor(source, truth)
    allowed = None if tolerance is None else tolerance.absolute + tolerance.relative * diff.scale
    return Judgement(deviation=_or_infinite(diff), floor=floor, differing=diff.differing, allowed=allowed)


def noise_floor(source: Array, truth: Array) -> float:
    """What the source loses in its own dtype, and at least half a unit in the last place of the largest value.

    Args:
        source: What the source computed, in its own dtype.
        truth: What it computed in float64, on the same input.
    """
    noise = compare(source, truth)
    return max(noise.max_abs, 0.5 * resolution(source) * noise.scale)


def resolution(array: Array) -> float:
    """The unit in the last place at 1.0, of the array's dtype: bfloat16 and float8 have their own, integers none."""
    dtype = array.dtype
    if dtype.kind == "f":
        return float(np.finfo(dtype).eps)
    if dtype.kind in "iub":
        return 0.0
    import ml_dtypes  # imported late: an array of such a dtype exists only where it was imported already

    limits: Any = ml_dtypes.finfo
    return float(limits(dtype).eps)


def _widen(array: Array) -> NDArray[np.float64]:
    if array.dtype.kind == "c":
        raise InputError(f"cannot compare {array.dtype} arrays: take the real and the imaginary part")
    return array.astype(np.float64)


def _are_integers(actual: Array, expected: Array) -> bool:
    return actual.dtype.kind in "iub" and expected.dtype.kind in "iub"


def _same_values(
    actual: Array, expected: Array, wide_actual: NDArray[np.float64], wide_expected: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Which elements are the same value: zeros with their sign, NaN whatever its payload."""
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
    """How far apart the elements are; infinitely where they differ and only one is finite, or neither."""
    with np.errstate(invalid="ignore", over="ignore"):
        return np.where(same, 0.0, np.where(finite, np.abs(actual - expected), np.inf))


def _ratio(value: float, unit: float) -> float:
    if value == 0:
        return 0.0
    return value / unit if unit > 0 and isfinite(value) else float("inf")


def _or_infinite(diff: Diff) -> float:
    """A NaN on both sides compares as equal, and yet proves nothing."""
    return float("inf") if diff.nonfinite else diff.max_abs
