"""Compare the output of a Keras layer, run with the weights of a torch layer, with the recorded torch output.

The outputs of the two whole models are compared element by element, in each layout that torch and Keras may differ in.
Equal fingerprints (sums of powers) do not prove equal outputs: a flipped or transposed output has the same fingerprint.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from keras3conv.numerics.fingerprint import factor_between, fingerprint_of, relative_error
from keras3conv.numerics.rows import in_row_order, row_order
from keras3conv.planner.probe.option import Candidate
from keras3conv.planner.probe.outcome import Comparison
from keras3conv.planner.probe.record import TorchRun
from keras3conv.transforms import Array, Shape


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


ROUNDED_CONSTANTS = 2.0**-21
"""The largest relative difference of outputs that float32 constants on one side may cause."""


@dataclass(frozen=True)
class OutputComparison:
    """The comparison of the outputs of the two models.

    Attributes:
        result: "equal" or "different"; "unknown" if no difference is known, but an output could not be compared,
            because no torch output has its shape in a known layout.
        error: For "different" the largest difference, relative to the largest value of torch's output; else 0.
    """

    result: Literal["equal", "different", "unknown"]
    error: float = 0.0


NOT_COMPARED = OutputComparison("unknown")


def compare_outputs(torch: Mapping[str, Array], keras: Mapping[str, Array], limit: float) -> OutputComparison:
    """Compare every Keras output with its torch output.

    Args:
        torch: The torch outputs, by name.
        keras: The Keras outputs, by name; outputs in a tuple have no names, only positions.
        limit: The largest relative error at which values count as equal.
    """
    if not torch or not keras:
        return NOT_COMPARED
    errors = [_error(array, others) for array, others in _paired(torch, keras)]
    known = [error for error in errors if error is not None]
    if known and max(known) > limit:
        return OutputComparison("different", max(known))
    return OutputComparison("equal" if len(known) == len(errors) else "unknown")


def _paired(torch: Mapping[str, Array], keras: Mapping[str, Array]) -> Iterator[tuple[Array, list[Array]]]:
    """Yield every Keras output with the torch outputs that may correspond to it.

    Outputs of the same name correspond. Without equal names, outputs of the same shape correspond in order; if the two
    models have different numbers of outputs of a shape, each Keras output is yielded with all of that shape.
    """
    are_named = not all(name.partition(".")[0].isdigit() for name in (*torch, *keras))
    if are_named and torch.keys() == keras.keys():
        yield from ((array, [torch[name]]) for name, array in keras.items())
        return
    for array in keras.values():
        fitting = [other for other in torch.values() if next(layouts(other, array.shape), None) is not None]
        alike = [other for other in keras.values() if other.shape == array.shape]
        if len(fitting) == len(alike):
            place = next(index for index, other in enumerate(alike) if other is array)
            fitting = [fitting[place]]
        yield array, fitting


def _error(array: Array, torch_outputs: list[Array]) -> float | None:
    """Return the smallest relative error of a Keras output to one of several torch outputs, in any known layout.

    Return None if none of the torch outputs has the shape of the Keras output in a known layout.
    """
    errors = [_relative_error(array, layout) for other in torch_outputs for layout in layouts(other, array.shape)]
    return min(errors, default=None)


def layouts(array: Array, shape: Shape) -> Iterator[Array]:
    """Yield a torch output in each known layout that has the shape of a Keras output.

    These layouts are tried: unchanged, and channels last; both also without axes of size one. The layout with time
    before the batch is tried only if none of them has the shape.
    """
    found = [array, np.moveaxis(array, 1, -1)] if array.ndim > 2 else [array]
    fitting = [each.reshape(shape) for each in found if _without_ones(each.shape) == _without_ones(shape)]
    if not fitting and array.ndim > 2:
        swapped = np.swapaxes(array, 0, 1)
        fitting = [swapped] if swapped.shape == shape else []
    yield from fitting


def _without_ones(shape: Shape) -> Shape:
    return tuple(size for size in shape if size != 1)


def _relative_error(array: Array, expected: Array) -> float:
    """Return the relative error of an array; equal NaN and infinite values at the same index count as no error."""
    if array.dtype.kind in "biu":
        array = array.astype(np.float64)
    finite = np.isfinite(array) & np.isfinite(expected)
    if finite.all():
        return relative_error(array, expected)
    if not finite.any() or not np.array_equal(array[~finite], expected[~finite], equal_nan=True):
        return float("inf")
    return relative_error(array[finite], expected[finite])
