"""Distinguish the differences in a float64 run of both models that are mistakes from those that are rounding."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite

from keras3conv.numerics.difference import Diff
from keras3conv.numerics.judgement import NOT_FINITE
from keras3conv.validators.running.call_pairs import CallPair
from keras3conv.validators.running.nearby import NOTE as ROUNDING
from keras3conv.validators.running.nearby import NearbyRun, may_be_rounding
from keras3conv.validators.running.neighbours import agrees
from keras3conv.validators.running.output_pairs import OutputPair
from keras3conv.validators.running.rounded_constants import CONSTANTS, may_be_rounded
from keras3conv.validators.running.subject import Subject
from keras3conv.validators.running.variants import Variant


@dataclass(frozen=True, kw_only=True)
class Float64Run:
    """A run of both models in float64.

    Attributes:
        subject: The models with the inputs and weights of this run.
        variant: The name of this run, and how its inputs and weights differ from the original ones.
        original: The models with their original inputs.
        nearby: A run of the same models with slightly changed values, which shows if a difference is mere rounding.
        constants: Whether to accept differences as small as the rounding of constants to float32.
    """

    subject: Subject
    variant: Variant
    original: Subject
    nearby: NearbyRun
    constants: bool = True

    @property
    def remark(self) -> str:
        """The name of a further run as the end of a sentence, such as ", at values of 32"; empty for the first run."""
        return f", {self.variant.name}" if self.variant.name else ""

    def diff(self, pair: CallPair | OutputPair) -> Diff | None:
        """Return the difference of two outputs; in a run with overflow, without the elements that overflow in both."""
        if pair.diff is None or not self.variant.may_overflow or not isfinite(pair.diff.max_abs):
            return pair.diff
        return replace(pair.diff, nonfinite=0)

    def in_words(self, pair: CallPair | OutputPair) -> str:
        """Return the difference of two outputs in words, or the reason why they cannot be compared."""
        diff = self.diff(pair)
        if diff is None:
            return pair.mismatch
        size = f"in {NOT_FINITE}" if diff.nonfinite else f"by {diff.max_rel:.2g} of the largest value"
        return f"{size}{self.remark}"

    def may_be_a_constant(self, diff: Diff | None, change: Callable[[], float] | None = None) -> bool:
        """Return whether a difference may come from a constant that one side rounds to float32 (`may_be_rounded`)."""
        return diff is not None and diff.nonfinite == 0 and may_be_rounded(self.subject, diff.max_rel, change)

    def excuse(self, index: int, pair: CallPair | OutputPair) -> str:
        """Return the reason why a difference is no mistake; empty if it is one, or if there is no difference.

        Args:
            index: The position of the pair among the calls of all layers, or among the outputs of the models.
            pair: The outputs that may differ.
        """
        diff = self.diff(pair)
        if diff is None or agrees(diff):
            return ""
        if may_be_rounding(diff) and not self.nearby.repeats(index, pair):
            return ROUNDING
        change = partial(self.nearby.change, index, pair) if self.variant.is_large else None
        return CONSTANTS if self.constants and self.may_be_a_constant(diff, change) else ""
