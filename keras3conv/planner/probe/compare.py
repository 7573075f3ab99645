"""Compare the output of a Keras layer with the recorded outputs of a candidate's torch layers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keras3conv.numerics.fingerprint import factor_between, relative_error
from keras3conv.planner.probe.option import Candidate
from keras3conv.planner.probe.outcome import Comparison
from keras3conv.planner.probe.record import TorchRun
from keras3conv.transforms import Array


@dataclass(frozen=True, kw_only=True)
class LayerOutput:
    """The output of a Keras layer.

    Attributes:
        returned: The value itself, for the layers after it.
        array: Its first array; None where it has none.
        before_activation: The input of the layer's own activation, where it has one.
        replace: Builds the value to return in its place from an array; the flag tells that the array belongs before
            the activation.
    """

    returned: Any
    array: Array | None
    before_activation: Array | None = None
    replace: Callable[[Array, bool], Any]

    @property
    def arrays(self) -> tuple[tuple[Array, bool], ...]:
        """The arrays to compare, each with the flag that tells whether it belongs before the activation."""
        both = (self.before_activation, True), (self.array, False)
        return tuple((array, before) for array, before in both if array is not None)


RunLayer = Callable[[dict[str, Array]], LayerOutput]
"""Writes values into the variables of a layer, by path, and calls the layer."""


@dataclass(frozen=True)
class Measurement:
    """A comparison, with the recorded output in the Keras layer's memory layout.

    Attributes:
        comparison: The comparison.
        recorded: The recorded output; None where no layout of it has the shape of the layer's output.
        before_activation: Whether it is the output before the activation.
    """

    comparison: Comparison
    recorded: Array | None = None
    before_activation: bool = False

    def returned(self, output: LayerOutput) -> Any:
        """Return the value that the layers after this one receive: the recorded output, where there is one."""
        return output.returned if self.recorded is None else output.replace(self.recorded, self.before_activation)


def measure(run: TorchRun, candidate: Candidate, output: LayerOutput) -> Measurement:
    """Return the first comparison that agrees, or else the closest.

    The output is compared before and after the activation, with the recorded output of every call, in every layout.
    """
    best = Measurement(Comparison(error=float("inf")))
    for array, before_activation in output.arrays:
        for index, call in enumerate(run.calls_of(candidate.layers[0].path)):
            for recorded in candidate.recorded_outputs(run, array.shape, index):
                measurement = Measurement(_compare(array, recorded, call.limit), recorded, before_activation)
                if measurement.comparison.agrees:
                    return measurement
                if best.recorded is None or measurement.comparison.error < best.comparison.error:
                    best = measurement
    return best


def _compare(array: Array, recorded: Array, limit: float) -> Comparison:
    error = relative_error(array, recorded)
    if error > limit and (factor := factor_between(array, recorded, limit)):
        return Comparison(error=0.0, limit=limit, factor=factor)
    return Comparison(error=error, limit=limit)


def has_recorded_size(run: TorchRun, candidate: Candidate, output: LayerOutput) -> bool:
    """Return whether a layer returned as many values as torch; one may sum inside the layer and the other after it."""
    sizes = {call.outputs[0].size for call in run.calls_of(candidate.layers[0].path) if call.outputs}
    return output.array is not None and output.array.size in sizes
