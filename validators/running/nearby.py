"""Distinguish rounding from mistakes: run both models again on inputs and weights that differ by a millionth.

A float64 difference is either a mistake, or rounding that grew when nearly equal values were subtracted (after a
sigmoid, small values are differences from 0.5). One run cannot distinguish the two. With slightly changed inputs and
weights, a mistake gives almost the same difference again, but rounding gives an unrelated difference.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from keras3conv.frameworks.shared.inputs_scaled import nudged
from keras3conv.numerics.difference import Diff, compare
from keras3conv.transforms import Array
from keras3conv.validators.running.call_pairs import CallPair, call_pairs
from keras3conv.validators.running.output_pairs import OutputPair, output_pairs
from keras3conv.validators.running.subject import Subject

STEP = 2.0**-20
"""Relative change of inputs and weights: far larger than rounding, far too small to change a layer's behaviour."""

_CHANGED = 0.5
"""The largest relative change under `STEP` of a difference that is a mistake.

A rounding difference changes entirely.
"""

_LARGEST = 1e-3
"""Largest relative difference between two float64 runs that may be rounding."""

NOTE = "rounding: the difference is unrelated at inputs that differ by a millionth"


@dataclass(frozen=True)
class NearbyRun:
    """A second run of two models, on slightly changed inputs and random weights.

    Attributes:
        subject: The models with their original inputs and random weights.
    """

    subject: Subject

    def repeats(self, index: int, pair: CallPair | OutputPair) -> bool:
        """Return whether a layer call or a model output differs in the same way when the inputs are slightly changed.

        Args:
            index: Position of the call among all calls, or of the output among all outputs.
            pair: The call or the output in the original run.
        """
        other = self._other(index, pair)
        return other is None or _repeats(pair, other)

    def change(self, index: int, pair: CallPair | OutputPair) -> float:
        """Return the relative change of a torch output when inputs and weights change by a millionth; see `repeats`."""
        other = self._other(index, pair)
        return 0.0 if other is None else _change(pair, other)

    def _other(self, index: int, pair: CallPair | OutputPair) -> CallPair | OutputPair | None:
        """Return the same call or output in this run; None if there is none."""
        if isinstance(pair, OutputPair):
            return self._outputs[index] if index < len(self._outputs) else None
        same = index < len(self._calls) and self._calls[index].pair == pair.pair
        return self._calls[index] if same else None

    @cached_property
    def nearby(self) -> Subject:
        """The same models with slightly changed inputs and random weights."""
        weights = _nudged_weights(self.subject.probe_weights, self.subject.constants)
        return self.subject.varied(nudged(self.subject.required_inputs, 1 + STEP), weights)

    @cached_property
    def _calls(self) -> list[CallPair]:
        return list(call_pairs(self.nearby, self.nearby.torch_probe, self.nearby.keras_probe))

    @cached_property
    def _outputs(self) -> list[OutputPair]:
        return list(output_pairs(self.nearby.torch_probe, self.nearby.keras_probe))


def _nudged_weights(weights: Mapping[str, Array], constants: Mapping[str, Array]) -> dict[str, Array]:
    """Return the weights, each value changed by at most a millionth of itself; constants are unchanged.

    The change depends on the index of the value only, so that tied weights stay equal.

    Args:
        weights: The weights by path.
        constants: The tensors that must keep their values, by path.
    """
    nudged_weights = {}
    for path, array in weights.items():
        factors = 1 + STEP * np.cos(np.arange(array.size)).reshape(array.shape)
        nudged_weights[path] = array if path in constants else array * factors
    return nudged_weights


def _repeats(original: CallPair | OutputPair, nearby: CallPair | OutputPair) -> bool:
    first = _difference(original)
    return first is None or repeats(first, _difference(nearby))


def repeats(first: Array, second: Array | None) -> bool:
    """Return whether a difference is almost the same under slightly changed inputs, so that it is no rounding.

    Args:
        first: The difference of the two models.
        second: Their difference with the changed inputs and weights; None if it is unknown or not that small.
    """
    if second is None or first.shape != second.shape:
        return True
    return float(np.linalg.norm(second - first)) <= _CHANGED * float(np.linalg.norm(first))


def _change(original: CallPair | OutputPair, nearby: CallPair | OutputPair) -> float:
    """Return the relative change of a torch output between two runs; 0 if it is unknown or more than `_LARGEST`."""
    first, second = original.torch_output, nearby.torch_output
    if first is None or second is None or first.shape != second.shape:
        return 0.0
    diff = compare(second, first)
    return diff.max_rel if may_be_rounding(diff) else 0.0


def may_be_rounding(diff: Diff) -> bool:
    """Return whether a difference between two float64 runs is so small that it may be rounding."""
    return not diff.nonfinite and diff.max_rel <= _LARGEST


def _difference(pair: CallPair | OutputPair) -> Array | None:
    """Return the Keras output minus the torch output, as a flat float64 array.

    The result is None if an output is missing, the outputs mismatch, or the difference is not finite.
    """
    if pair.mismatch or pair.torch_output is None or pair.keras_output is None:
        return None
    difference = np.subtract(pair.keras_output, pair.torch_output, dtype=np.float64).ravel()
    return difference if np.isfinite(difference).all() else None
