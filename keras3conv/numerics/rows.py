"""Find the permutation of rows for which the outputs of two layers are equal; a row is a slice along the last axis.

A layer that computes along its last axis computes the same rows in any order of the other axes. The two models may use
different orders, as for the windows of an image: torch has (batch, rows of windows, columns of windows, height, width),
and Keras (batch, rows, height, columns, width).
"""

from math import inf, prod

import numpy as np

from keras3conv.numerics.difference import compare
from keras3conv.transforms import Array, Shape

NEAR = 1e-3
"""The relative difference of two outputs below which they match, so that no search is needed."""

_EQUAL = 1e-12
"""The relative difference of the projections of two rows in float64 below which the rows may be equal."""

_TRIALS = 2
"""The number of random projections to try: two rows that differ may have almost the same projection."""


def relative_distance(torch_output: Array, keras_output: Array) -> float:
    """Return the largest difference of two outputs, relative to torch's largest value; infinite if shapes differ."""
    if torch_output.shape != keras_output.shape:
        return inf
    return compare(keras_output, torch_output).max_rel if torch_output.size else 0.0


def row_order(torch_output: Array, keras_output: Array) -> Array | None:
    """Return the order in which the rows of torch's output are those of Keras' output; None if the rows differ.

    A row is a slice along the last axis. The rows are matched approximately; the caller compares them exactly, after
    `in_row_order`.

    Args:
        torch_output: The output of the torch layer.
        keras_output: The output of the Keras layer, of any shape with as many rows.

    Returns:
        For each row of Keras' output the index of torch's row.
    """
    if not has_same_rows(torch_output.shape, keras_output.shape) or torch_output.dtype.kind not in "fiu":
        return None
    if not np.isfinite(torch_output).all() or not np.isfinite(keras_output).all():
        return None
    limit = NEAR * min(1.0, relative_distance(torch_output, keras_output))
    rows = [one.reshape(-1, one.shape[-1]) for one in (torch_output, keras_output)]
    generator = np.random.default_rng(0)
    for _ in range(_TRIALS):
        direction = generator.standard_normal(torch_output.shape[-1])
        torch_places, keras_places = (np.argsort(one @ direction, kind="stable") for one in rows)
        order = np.empty_like(torch_places)
        order[keras_places] = torch_places
        if relative_distance(rows[0][order], rows[1]) <= limit:
            return order
    return None


def has_equal_rows(array: Array) -> bool:
    """Return whether two rows of an array may be equal, so that rounding decides their order in `row_order`.

    Args:
        array: A floating point array with the rows along the last axis.
    """
    direction = np.random.default_rng(0).standard_normal(array.shape[-1])
    projections = np.sort(array.reshape(-1, array.shape[-1]) @ direction)
    return bool(np.min(np.diff(projections)) <= _EQUAL * np.max(np.abs(projections)))


def has_same_rows(torch_shape: Shape, keras_shape: Shape) -> bool:
    """Return whether arrays of two shapes have equally many rows of the same length, and two rows at least."""
    if not torch_shape or not keras_shape or torch_shape[-1] != keras_shape[-1]:
        return False
    return prod(torch_shape[:-1]) == prod(keras_shape[:-1]) > 1


def in_row_order(array: Array, order: Array, shape: Shape) -> Array:
    """Return an array with its rows in another order and in another shape; unchanged if its rows do not fit.

    Args:
        array: An input or output of the torch layer.
        order: The result of `row_order`.
        shape: The shape of the same input or output of the Keras layer.
    """
    if not has_same_rows(array.shape, shape) or prod(shape[:-1]) != len(order):
        return array
    return array.reshape(-1, shape[-1])[order].reshape(shape)
