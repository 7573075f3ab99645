"""Whether a difference repeats itself: that of two functions does where their arguments hardly change, rounding not.

A difference in float64 is a mistake, or it is what is left of the digits where values of one size were taken from each
other: behind a sigmoid, small values are differences beside 0.5. Nothing about one run tells which. So both models run
again on inputs and under weights that differ by a millionth: a mistake differs by as little, rounding is drawn anew.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from keras3conv.frameworks.shared.inputs_scaled import nudged
from keras3conv.transforms import Array
from keras3conv.validators.running.ends import OutputPair, output_pairs
from keras3conv.validators.running.meetings import Meeting, meetings
from keras3conv.validators.running.subject import Subject

NEAR = 2.0**-20
"""How far the arguments are moved, relative to themselves: far more than rounding, far less than any use of them."""

_CHANGED = 0.5
"""A difference that changed by more than so much of itself is not of the arguments: rounding changes by all of it."""

LARGEST = 1e-3
"""Of the largest value: what differs by more is looked at as it is."""

NOTE = "rounding: the difference is another one at arguments that are almost the same"


@dataclass(frozen=True)
class Repeats:
    """A pair of models at the arguments of a run, and at others nearby.

    Attributes:
        subject: The models, and their arguments.
    """

    subject: Subject

    @cached_property
    def _nearby(self) -> Subject:
        views = self.subject.torch_view, self.subject.keras_view
        return replace(
            self.subject,
            views=lambda: views,
            inputs=nudged(self.subject.given, 1 + NEAR),
            options=replace(self.subject.options, proofs=("float64",)),
            probes=_moved(self.subject.probe_weights, self.subject.constants),
        )

    @cached_property
    def _meetings(self) -> list[Meeting]:
        return list(meetings(self._nearby, self._nearby.torch_probe, self._nearby.keras_probe))

    @cached_property
    def _ends(self) -> list[OutputPair]:
        return list(output_pairs(self._nearby.torch_probe, self._nearby.keras_probe))

    def call(self, place: int, meeting: Meeting) -> bool:
        """Whether a call of a pair of layers differs nearby as it does here.

        Args:
            place: Which of the calls it is.
            meeting: The call.
        """
        other = self._meetings[place] if place < len(self._meetings) else meeting
        return other.pair != meeting.pair or _repeats(meeting, other)

    def end(self, place: int, pair: OutputPair) -> bool:
        """Whether an output of the models differs nearby as it does here."""
        return place >= len(self._ends) or _repeats(pair, self._ends[place])


def _moved(weights: Mapping[str, Array], fixed: Mapping[str, Array]) -> dict[str, Array]:
    """Weights nearby: those of one tensor with several names stay the same."""
    return {
        path: array if path in fixed else array * (1 + NEAR * np.cos(np.arange(array.size)).reshape(array.shape))
        for path, array in weights.items()
    }


def _repeats(here: Meeting | OutputPair, there: Meeting | OutputPair) -> bool:
    first, second = _difference(here), _difference(there)
    if first is None or second is None or first.shape != second.shape:
        return True
    return float(np.linalg.norm(second - first)) <= _CHANGED * float(np.linalg.norm(first))


def _difference(met: Meeting | OutputPair) -> Array | None:
    """How the two sides differ, as one row; None where they cannot be compared, or are not finite."""
    if met.odd or met.torch is None or met.keras is None:
        return None
    difference = np.subtract(met.keras, met.torch, dtype=np.float64).ravel()
    return difference if np.isfinite(difference).all() else None
