"""Compare the outputs of the two whole models element by element, in each layout that torch and Keras may differ in.

Equal fingerprints (sums of powers) do not prove equal outputs: a flipped or transposed output has the same fingerprint.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from keras3conv.alignment.shapes import without_ones
from keras3conv.numerics.fingerprint import relative_error
from keras3conv.transforms import Array, Shape

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
    fitting = [each.reshape(shape) for each in found if without_ones(each.shape) == without_ones(shape)]
    if not fitting and array.ndim > 2:
        swapped = np.swapaxes(array, 0, 1)
        fitting = [swapped] if swapped.shape == shape else []
    yield from fitting


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
