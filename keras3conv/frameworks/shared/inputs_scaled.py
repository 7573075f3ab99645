"""Scale the inputs of both sides by the same factors.

Two models that compute the same function agree on all inputs, also on scaled ones. Inputs that are codes, not
measurements, are not scaled: integers, masks, time steps.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from math import log2
from typing import Any

import numpy as np

from keras3conv.frameworks.shared.inputs import Inputs, arrays_of, map_arrays
from keras3conv.transforms import Array

_SCALED = ("float32", "float64")
"""The dtypes of inputs that may be scaled; in a narrower dtype the two sides may round scaled values differently."""


def resized(inputs: Inputs, size: float) -> Inputs:
    """Return the inputs with measurements (continuous values) scaled by powers of two, which is exact.

    An input is scaled if both sides get the same values in the same dtype, in any layout.

    Args:
        inputs: The inputs of both sides.
        size: The root mean square of each scaled array.
    """
    return _scaled(inputs, lambda array: 2.0 ** round(log2(size / _size_of(array))))


def sizes_of(inputs: Inputs) -> tuple[float, ...]:
    """Return the root mean square of each torch input that may be scaled: continuous values, and the same in Keras."""
    first, second = _arrays(inputs)
    return tuple(_size_of(array) for array in first if _is_free(array, second))


def nudged(inputs: Inputs, factor: float) -> Inputs:
    """Return the inputs with measurements (continuous values, not codes or masks) multiplied by a factor."""
    return _scaled(inputs, lambda array: factor)


def _scaled(inputs: Inputs, factor: Callable[[Array], float]) -> Inputs:
    return changed(inputs, lambda array: array * factor(array))


def changed(inputs: Inputs, change: Callable[[Array], Array]) -> Inputs:
    """Return the inputs with measurements (continuous values, not codes or masks) changed equally on both sides.

    Args:
        inputs: The inputs of both sides.
        change: Returns the new values of an array, whatever the order of its elements.
    """
    first, second = _arrays(inputs)
    in_torch = (change(array) if _is_free(array, second) else None for array in first)
    in_keras = (change(array) if _is_free(array, first) else None for array in second)
    return with_arrays(inputs, in_torch, in_keras)


def _arrays(inputs: Inputs) -> tuple[list[Array], list[Array]]:
    first, second = map(arrays_of, (inputs.torch, inputs.keras))
    return first, second


def _size_of(array: Array) -> float:
    return float(np.sqrt(np.mean(np.square(array, dtype=np.float64))))


def _is_free(array: Array, other_inputs: list[Array]) -> bool:
    """Return whether an input may be scaled: its values are continuous, and the other model gets the same values.

    Args:
        array: An input of one side.
        other_inputs: The inputs of the other side.
    """
    if array.dtype.name not in _SCALED or not np.isfinite(array).all() or is_code(array):
        return False
    ordered = np.sort(array, axis=None)
    return any(_same(ordered, other) for other in other_inputs)


def _same(ordered: Array, second: Array) -> bool:
    """Return whether two arrays have the same dtype and the same values, in any order.

    Args:
        ordered: The values of one array, sorted.
        second: The other array.
    """
    same_kind = ordered.dtype == second.dtype and ordered.size == second.size
    return same_kind and np.array_equal(ordered, np.sort(second, axis=None))


def is_code(values: Array) -> bool:
    """Return True if an input is a code, not a measurement: at most two different values, or one integer per sample."""
    if not np.any((values != values.max()) & (values != values.min())):
        return True
    return values.size == values.shape[0] and bool(np.all(values == np.round(values)))


def with_arrays(inputs: Inputs, torch: Iterable[Array | None], keras: Iterable[Array | None]) -> Inputs:
    """Return the inputs of both sides with some of their arrays replaced.

    Args:
        inputs: The inputs of both sides.
        torch: The new arrays of the torch side, in the order of `flatten`; None keeps the old array.
        keras: The new arrays of the Keras side, in the same order and with the same meaning of None.
    """
    return replace(inputs, torch=_replaced(inputs.torch, torch), keras=_replaced(inputs.keras, keras))


def _replaced(inputs: Any, arrays: Iterable[Array | None]) -> Any:
    new = iter(arrays)
    return map_arrays(inputs, lambda old: old if (array := next(new)) is None else array)
