"""Implement the functions of TensorFlow that select, sort or combine values, with `keras.ops`."""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np
from keras import ops


def gather(params: Any, indices: Any, axis: int | None = None, batch_dims: int | None = 0) -> Any:
    """Compute tf.gather: take slices along an axis, for each element of the first `batch_dims` axes its own slices."""
    indices = np.asarray(indices) if isinstance(indices, list) else indices
    batch = batch_dims or 0
    batch += len(indices.shape) if batch < 0 else 0
    axis = batch if axis is None else axis % len(params.shape)
    if not batch:
        return ops.take(params, indices, axis=axis)
    chosen = tuple(indices.shape[batch:])
    places = ops.reshape(indices, (*_dynamic(indices.shape[:batch]), *_merged(chosen)))
    places = ops.expand_dims(places, tuple(range(batch, axis)) + tuple(range(axis + 1, len(params.shape))))
    found = ops.take_along_axis(params, places, axis=axis)
    if len(chosen) == 1:
        return found
    return ops.reshape(found, (*_dynamic(found.shape[:axis]), *chosen, *_dynamic(found.shape[axis + 1 :])))


def gather_nd(params: Any, indices: Any, batch_dims: int | None = 0) -> Any:
    """Compute tf.gather_nd: the last axis of the indices has one index for each of the axes that are indexed."""
    indices = np.asarray(indices) if isinstance(indices, list) else indices
    batch, count = batch_dims or 0, indices.shape[-1]
    sizes = tuple(params.shape[batch : batch + count])
    if any(size is None for size in sizes[1:]):
        raise ValueError(f"tf.gather_nd indexes axes of dynamic sizes, which is not supported: {sizes}")
    strides = [prod(sizes[place + 1 :]) for place in range(count)]
    flat = indices[..., 0] * strides[0]
    for place in range(1, count):
        flat = flat + indices[..., place] * strides[place]
    rest = params.shape[batch + count :]
    merged = -1 if sizes[0] is None else prod(sizes)
    if count > 1:
        params = ops.reshape(params, (*_dynamic(params.shape[:batch]), merged, *rest))
    return gather(params, flat, axis=batch, batch_dims=batch)


def _dynamic(sizes: Any) -> tuple[int, ...]:
    """Return sizes as arguments of a reshape: a dynamic one is -1."""
    return tuple(-1 if size is None else int(size) for size in sizes)


def _merged(sizes: tuple[Any, ...]) -> tuple[int, ...]:
    """Return the size of merged axes as an argument of a reshape: -1 if one of them is dynamic."""
    return (-1 if None in sizes else prod(sizes),)


def cumsum(x: Any, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Any:
    """Compute tf.math.cumsum; exclusive: without the value itself; reverse: from the end."""
    return _cumulated(ops.cumsum, x, axis, 0, exclusive=exclusive, reverse=reverse)


def cumprod(x: Any, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Any:
    """Compute tf.math.cumprod; exclusive: without the value itself; reverse: from the end."""
    return _cumulated(ops.cumprod, x, axis, 1, exclusive=exclusive, reverse=reverse)


def _cumulated(function: Any, x: Any, axis: int, neutral: int, *, exclusive: bool, reverse: bool) -> Any:
    axis = axis % len(x.shape)
    if reverse:
        x = ops.flip(x, axis=axis)
    if exclusive:
        before = tuple(slice(None, -1) if place == axis else slice(None) for place in range(len(x.shape)))
        widths = tuple((1, 0) if place == axis else (0, 0) for place in range(len(x.shape)))
        x = ops.pad(x[before], widths, mode="constant", constant_values=neutral)
    found = function(x, axis=axis)
    return ops.flip(found, axis=axis) if reverse else found


def sort(values: Any, axis: int = -1, direction: str = "ASCENDING") -> Any:
    """Compute tf.sort in either direction."""
    found = ops.sort(values, axis=axis)
    return found if direction == "ASCENDING" else ops.flip(found, axis=axis)


def argsort(values: Any, axis: int = -1, direction: str = "ASCENDING", stable: bool = False) -> Any:
    """Compute tf.argsort: of equal values, the first comes first in either direction."""
    return ops.argsort(values if direction == "ASCENDING" else ops.negative(values), axis=axis)


def repeat(input_: Any, repeats: Any, axis: int | None = None) -> Any:
    """Compute tf.repeat; if `repeats` is a list, each slice along the axis is repeated by its own number."""
    if not isinstance(repeats, list) or axis is None:
        return ops.repeat(input_, repeats, axis=axis)
    return ops.take(input_, np.repeat(np.arange(len(repeats), dtype="int32"), repeats), axis=axis)


def top_k(input_: Any, k: int = 1) -> Any:
    """Compute tf.math.top_k: the largest values along the last axis, and their indices."""
    return tuple(ops.top_k(input_, int(k), sorted=True))


def count_nonzero(x: Any, axis: Any = None, keepdims: bool | None = False, dtype: str = "int64") -> Any:
    """Compute tf.math.count_nonzero, whose result has the dtype int64 by default."""
    axes = tuple(axis) if isinstance(axis, list) else axis
    return ops.cast(ops.sum(ops.cast(ops.not_equal(x, 0), dtype), axis=axes, keepdims=bool(keepdims)), dtype)


def xlogy(x: Any, y: Any) -> Any:
    """Compute tf.math.xlogy: x * log(y), and 0 where x is 0."""
    is_zero = ops.equal(x, 0)
    return ops.where(is_zero, ops.zeros_like(x), ops.multiply(x, ops.log(ops.where(is_zero, ops.ones_like(y), y))))


def reciprocal_no_nan(x: Any) -> Any:
    """Compute tf.math.reciprocal_no_nan: 1 / x, and 0 where x is 0."""
    return ops.divide_no_nan(ops.ones_like(x), x)


def multiply_no_nan(x: Any, y: Any) -> Any:
    """Compute tf.math.multiply_no_nan: x * y, and 0 where y is 0, whatever x is."""
    return ops.where(ops.equal(y, 0), ops.zeros_like(x), ops.multiply(x, y))


def clip_by_norm(t: Any, clip_norm: Any, axes: Any = None) -> Any:
    """Compute tf.clip_by_norm: scale a tensor down to a Euclidean norm that it exceeds."""
    axis = tuple(axes) if isinstance(axes, list) else axes
    squares = ops.sum(ops.square(t), axis=axis, keepdims=True)
    is_positive = ops.greater(squares, 0)
    norm = ops.where(is_positive, ops.sqrt(ops.where(is_positive, squares, ops.ones_like(squares))), squares)
    return ops.divide(ops.multiply(t, clip_norm), ops.maximum(norm, clip_norm))


def crelu(features: Any, axis: int = -1) -> Any:
    """Compute tf.nn.crelu: the ReLU of a tensor and of its negative, side by side."""
    return ops.relu(ops.concatenate([features, ops.negative(features)], axis=axis))


def matrix_transpose(a: Any) -> Any:
    """Compute tf.linalg.matrix_transpose, which swaps the last two axes."""
    return ops.swapaxes(a, -1, -2)


def diag_part(x: Any) -> Any:
    """Compute tf.linalg.diag_part of the last two axes."""
    return ops.diagonal(x, axis1=-2, axis2=-1)


def trace(x: Any) -> Any:
    """Compute tf.linalg.trace of the last two axes."""
    return ops.trace(x, axis1=-2, axis2=-1)


def batch_flatten(x: Any) -> Any:
    """Compute keras.backend.batch_flatten: one axis for all but the first."""
    return ops.reshape(x, (-1, prod(x.shape[1:])))


def saturate_cast(value: Any, dtype: str) -> Any:
    """Compute tf.saturate_cast: clip to the range of an integer dtype before the cast."""
    if dtype.startswith(("int", "uint")):
        limits = np.iinfo(dtype)
        value = ops.clip(value, limits.min, limits.max)
    return ops.cast(value, dtype)


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        argsort, batch_flatten, clip_by_norm, count_nonzero, crelu, cumprod, cumsum, diag_part,
        gather, gather_nd, matrix_transpose, multiply_no_nan, reciprocal_no_nan, repeat, saturate_cast, sort, top_k,
        trace, xlogy,
    )
}  # fmt: skip
"""The functions of this module, by the names that `keras3conv.formats.keras2.functions` uses."""
