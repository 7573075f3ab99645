"""Judge the difference of two models' outputs against the measured rounding noise, or against the user's tolerance.

No tolerance is chosen by hand.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite

from keras3conv.errors import InputError
from keras3conv.numerics.difference import Diff, compare, noise_floor, ratio_of
from keras3conv.transforms import Array

NOISE_FACTOR = 8.0
"""The multiple of the measured noise floor up to which a deviation is noise.

Two implementations that sum in different orders differ by a small multiple of either one's own rounding error.
"""

OF_THE_FLOOR = f" the noise floor ({NOISE_FACTOR:g} x allowed)"
"""The words after a multiple of the noise floor."""

NOT_FINITE = "values that are not finite: they prove nothing"


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """The difference of outputs that the user allows, in place of a multiple of the measured rounding noise.

    Both numbers are required, so that neither is a hidden default. Reports state that a tolerance was given.

    Attributes:
        absolute: The allowed difference, whatever the values are.
        relative: The difference allowed in addition, as a fraction of the largest value of the source.
    """

    absolute: float
    relative: float

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (isinstance(value, int | float) and isfinite(value) and value >= 0):
                raise InputError(f"the {name} tolerance must be a finite number and not negative, but is {value!r}")

    def __str__(self) -> str:
        return f"{self.absolute:g} absolute and {self.relative:g} of the largest value"


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The difference between the outputs of two models, judged against the rounding noise or the user's tolerance.

    Attributes:
        deviation: The largest absolute difference between the outputs of the two models.
        floor: The noise floor, as `noise_floor` returns it; None if it was not measured, because the caller gave a
            tolerance.
        factor: The deviation may be at most this factor times the floor.
        differing: The number of elements that differ.
        allowed: The largest deviation that the user's tolerance allows; None if there is none, so that the floor
            decides.
    """

    deviation: float
    floor: float | None
    factor: float = NOISE_FACTOR
    differing: int = 0
    allowed: float | None = None

    @property
    def ratio(self) -> float | None:
        """The deviation divided by the noise floor; None if the noise floor was not measured."""
        return None if self.floor is None else ratio_of(self.deviation, self.floor)

    @property
    def limit(self) -> float:
        """The largest deviation that passes: that of the user's tolerance, or else `factor` times the noise floor."""
        if self.allowed is not None:
            return self.allowed
        return float("nan") if self.floor is None else self.factor * self.floor

    @property
    def proves(self) -> bool:
        """True if the comparison can prove equality: neither the deviation nor the limit is NaN or infinite."""
        return isfinite(self.deviation) and isfinite(self.limit)

    @property
    def passed(self) -> bool:
        """True if the outputs of the two models agree: the deviation is finite and at most `limit`."""
        return self.proves and self.deviation <= self.limit

    def __str__(self) -> str:
        if not self.proves:
            return NOT_FINITE
        if self.differing == 0:
            return "bit-identical"
        noise = "" if self.floor is None else f", {self.ratio:.2g} x the noise floor of {self.floor:.2g}"
        limit = f" ({self.factor:g} x allowed)" if noise else ""
        limit = limit if self.allowed is None else f", the given tolerance is {self.allowed:.2g}"
        return f"{self.deviation:.2g}{noise}{limit}"


def worst_difference(judgements: Iterable[Judgement | None]) -> str:
    """Return the largest of several differences in words: "at most 2.1 x the noise floor (8 x allowed)".

    Differences of zero are "bit-identical".

    Args:
        judgements: The judged differences; None stands for a comparison that was not made.
    """
    made = [judgement for judgement in judgements if judgement is not None]
    if all(judgement.differing == 0 for judgement in made):
        return "bit-identical"
    ratios = [judgement.ratio for judgement in made]
    known = [ratio for ratio in ratios if ratio is not None]
    if len(known) < len(ratios):
        return f"at most {max(judgement.deviation for judgement in made):.2g} apart, within the tolerance"
    return f"at most {max(known):.2g} x{OF_THE_FLOOR}"


def agreement(error: float) -> str:
    """Return the end of "the outputs agree ...": "to 2.2e-16" for the largest relative error; "exactly" for 0."""
    return f"to {error:.2g}" if error else "exactly"


def judge(
    actual: Array, source: Array, truth: Array | None, tolerance: Tolerance | None = None, *, least: float = 0.0
) -> Judgement:
    """Judge the output of one model (target) against another (source): by the source's rounding noise or a tolerance.

    Args:
        actual: The output of the target, in its own dtype.
        source: The output of the source, in its own dtype, on the same input.
        truth: The output of the source in float64, on the same input; None if a tolerance is given instead.
        tolerance: The difference that the caller allows, whatever the noise is.
        least: The floor to use if the measured one is smaller: the noise of a target that computes in float16, say.
    """
    floor = None if truth is None else max(noise_floor(source, truth), least)
    return judge_by_floor(compare(actual, source), floor, tolerance)


def judge_by_floor(diff: Diff, floor: float | None, tolerance: Tolerance | None = None) -> Judgement:
    """Judge the difference between the output of one model and that of another by a noise floor or a tolerance."""
    allowed = None if tolerance is None else tolerance.absolute + tolerance.relative * diff.scale
    return Judgement(deviation=_or_infinite(diff), floor=floor, differing=diff.differing, allowed=allowed)


def _or_infinite(diff: Diff) -> float:
    """Return `diff.max_abs`, the largest absolute difference; infinite if one of the arrays has NaN or infinity."""
    return float("inf") if diff.nonfinite else diff.max_abs
