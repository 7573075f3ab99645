"""Find the float64 values of constants that both models compute in float32, each with its own rounding.

A Keras layer may compute a table of sines in each call: in a float64 run it does so in float64. The torch module has
the table as a float32 buffer, whose error is larger than that of one rounding: the angles were rounded before their
sines were taken. So the float64 run of torch gets the float64 values of Keras, if the buffer agrees with them as well
as Keras' own float32 values do. A buffer with other values keeps them, and the proof sees the difference.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import permutations
from typing import Any

import numpy as np

from keras3conv.model.views import ModelView
from keras3conv.transforms import Array

_NEAR = 2
"""How many neighbours on each side, along each axis, show how large the rounding error of an element may be."""

_TIMES = 4.0
"""How many times the largest error of Keras' elements nearby an element may be off."""

_UNIT = 2.0**-23
"""The relative rounding error of float32 that any element may have."""

_ALMOST_ALL = 0.9
"""The share of equal float32 numbers above which both constants were computed in the same way."""

_MOST_AXES = 4


def exact_constants(torch: ModelView, buffers: Iterable[str], keras: Any, inputs: Any) -> dict[str, Array]:
    """Return the float64 values of those torch buffers that are constants which Keras computes in each call.

    Args:
        torch: The view of the live torch module.
        buffers: The paths of its buffers that have no counterpart in Keras.
        keras: The live Keras model.
        inputs: The inputs of the Keras model, which fix the sizes of the constants.
    """
    values = {path: torch.read(path) for path in buffers}
    single = {path: value for path, value in values.items() if value.dtype == np.float32}
    fractional = {path: value for path, value in single.items() if not np.array_equal(value, np.round(value))}
    if not fractional:
        return {}
    from keras3conv.frameworks.keras.tracing.constants import computed_constants

    return matched(fractional, list(computed_constants(keras, inputs)))


def matched(torch: Mapping[str, Array], keras: Sequence[tuple[Array, Array]]) -> dict[str, Array]:
    """Return the float64 values of those torch constants that agree with constants of Keras.

    Args:
        torch: The float32 constants of the module by path.
        keras: The constants that the Keras model computes, each in float32 and in float64.
    """
    found: dict[str, Array] = {}
    for path, array in torch.items():
        values = (match for rounded, exact in keras for match in _matches(array, rounded, exact))
        if (match := next(values, None)) is not None:
            found[path] = match
    return found


def _matches(array: Array, rounded: Array, exact: Array) -> Iterator[Array]:
    """Yield the float64 values in the axis order of a torch constant, for each order in which they agree with it."""
    if array.size != exact.size or not np.isfinite(exact).all():
        return
    given, values, single = (np.squeeze(one) for one in (array, exact, rounded))
    if given.ndim != values.ndim or values.ndim > _MOST_AXES:
        return
    for order in permutations(range(values.ndim)):
        moved = values.transpose(order)
        if moved.shape == given.shape and _agrees(given, single.transpose(order), moved):
            yield moved.reshape(array.shape)


def _agrees(given: Array, rounded: Array, exact: Array) -> bool:
    """Return whether a float32 constant of torch agrees with exact values as well as the constant of Keras does.

    If almost all elements are the same float32 numbers on both sides, the two were computed in the same way, so the
    others must agree up to a single rounding.
    """
    error = np.abs(rounded - exact)
    is_same_way = np.mean(given == rounded) > _ALMOST_ALL
    allowed = (error if is_same_way else _TIMES * _largest_nearby(error)) + _UNIT * np.abs(exact)
    return bool(np.all(np.abs(given - exact) <= allowed))


def _largest_nearby(error: Array) -> Array:
    """Return, for each element of an array, the largest of it and all elements at most `_NEAR` away in every axis."""
    for axis in range(error.ndim):
        width = [(_NEAR, _NEAR) if one == axis else (0, 0) for one in range(error.ndim)]
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(error, width, mode="edge"), 2 * _NEAR + 1, axis=axis)
        error = windows.max(axis=-1)
    return error
