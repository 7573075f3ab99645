"""Compare the output of a Keras layer, run with the weights of a torch layer, with the recorded torch output."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from keras3conv.numerics.fingerprint import factor_between, fingerprint_of, relative_error
from keras3conv.numerics.rows import in_row_order, row_order
from keras3conv.planner.probe.nearness import uses_other_tensors
from keras3conv.planner.probe.option import Candidate
from keras3conv.planner.probe.outcome import Comparison
from keras3conv.planner.probe.record import TorchRun
from keras3conv.transforms import Array


@dataclass(frozen=True, kw_only=True)
class LayerOutput:
    """The output of a Keras layer, before and after its activation.

    Attributes:
        returned: The returned value, which may be a structure of tensors.
        array: The first array in `returned`; None if there is none.
        before_activation: The input of the layer's own activation; None if the layer has no activation.
        replace: A function of an array and a flag: it returns `returned` with its first array replaced by this array.
            If the flag is True, the layer's activation is applied to the array first.
    """

    returned: Any
    array: Array | None
    before_activation: Array | None = None
    replace: Callable[[Array, bool], Any]

    @property
    def arrays(self) -> tuple[tuple[Array, bool], ...]:
        """The output arrays to compare with torch, each with a flag: True for the array before the activation."""
        both = (self.before_activation, True), (self.array, False)
        return tuple((array, before) for array, before in both if array is not None)


RunLayer = Callable[[dict[str, Array]], LayerOutput]
"""A function that writes values into the variables of a layer, by path, calls the layer, and returns its output."""


@dataclass(frozen=True)
class Measurement:
    """The result of comparing one candidate's recorded torch output with the output of the Keras layer.

    Attributes:
        comparison: The error and its limit.
        recorded: The recorded output in the Keras memory layout; None if no layout gives the Keras output's shape.
        before_activation: Whether the recorded output corresponds to the Keras output before the activation.
    """

    comparison: Comparison
    recorded: Array | None = None
    before_activation: bool = False

    def returned(self, output: LayerOutput) -> Any:
        """Return the value that the next Keras layers receive: the recorded torch output, or the layer's own output.

        Args:
            output: The output that the Keras layer itself computed; it is returned if there is no recorded output.
        """
        return output.returned if self.recorded is None else output.replace(self.recorded, self.before_activation)


def measure(run: TorchRun, candidate: Candidate, output: LayerOutput) -> Measurement:
    """Compare a Keras output with a candidate's recorded outputs: return the first that agrees, else the nearest.

    The Keras output before and after its activation is compared with the recorded output of every call, in every memory
    layout of the same shape.

    Args:
        run: The recorded torch run.
        candidate: The torch layers whose recorded outputs are compared.
        output: The output of the Keras layer with the weights of the candidate.
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
    return _with_rows_in_another_order(run, candidate, output) or best


def reproducing(run: TorchRun, layer: RunLayer, others: Iterable[Candidate], chosen: Candidate) -> Iterator[Candidate]:
    """Yield the candidates with other tensors than the chosen one with which a layer returns their recorded output.

    A layer reproduces the output of every torch layer that a rule pairs with it. Only candidates without a rule are
    tried, and the variables of the layer keep the values that were tried last.

    Args:
        run: The recorded torch run.
        layer: Writes values into the variables of the Keras layer and calls it.
        others: The candidates that received the same input.
        chosen: The candidate that was chosen.
    """
    for other in others:
        if uses_other_tensors(other, chosen):
            output = layer(other.values(run.weights)) if other.kind == "tensors" else None
            if output is None or measure(run, other, output).comparison.agrees:
                yield other


def _with_rows_in_another_order(run: TorchRun, candidate: Candidate, output: LayerOutput) -> Measurement | None:
    """Return the measurement for the order of rows in which a recorded output agrees; None if there is no such order.

    The two models may order inner axes differently: the windows of an image before or after its rows and columns.

    Args:
        run: The recorded torch run.
        candidate: The torch layers whose recorded outputs are compared.
        output: The output of the Keras layer with the weights of the candidate.
    """
    for array, before_activation in output.arrays:
        found = fingerprint_of(array)
        for index, call in enumerate(run.calls_of(candidate.layers[0].path)):
            for recorded in candidate.recorded_outputs(run, array.shape, index):
                if not found.agrees(fingerprint_of(recorded), call.limit):
                    continue
                order = row_order(recorded, array)
                if order is None:
                    continue
                ordered = in_row_order(recorded, order, array.shape)
                measurement = Measurement(_compare(array, ordered, call.limit), ordered, before_activation)
                if measurement.comparison.agrees:
                    return measurement
    return None


def _compare(array: Array, recorded: Array, limit: float) -> Comparison:
    error = relative_error(array, recorded)
    if error > limit and (factor := factor_between(array, recorded, limit)):
        return Comparison(error=0.0, limit=limit, factor=factor)
    return Comparison(error=error, limit=limit)


def has_recorded_size(run: TorchRun, candidate: Candidate, output: LayerOutput) -> bool:
    """Return whether a Keras output has as many elements as the recorded torch output.

    The numbers differ if, for example, one side sums inside the layer and the other side after the layer.
    """
    sizes = {call.outputs[0].size for call in run.calls_of(candidate.layers[0].path) if call.outputs}
    return output.array is not None and output.array.size in sizes
