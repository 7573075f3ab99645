"""Implement the functions of TensorFlow that return sizes, and those that create a tensor of given sizes.

`FUNCTIONS` maps the name of each function to its implementation. Sizes are Python integers here: the functions run when
every size is known.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

Sizes = int | Sequence[int]


def shape(x: Any) -> list[Any]:
    """Compute tf.shape: the sizes of a tensor, as a list; a size that is dynamic is None."""
    return list(ops.shape(x))


def zeros(shape: Sizes, dtype: str = "float32") -> Any:
    """Compute tf.zeros, whose default dtype is float32 whatever the default of Keras is."""
    return ops.zeros(_sizes(shape), dtype=dtype)


def ones(shape: Sizes, dtype: str = "float32") -> Any:
    """Compute tf.ones, whose default dtype is float32 whatever the default of Keras is."""
    return ops.ones(_sizes(shape), dtype=dtype)


def fill(dims: Sizes, value: Any) -> Any:
    """Compute tf.fill; the dtype is that of the value, int32 for an integer and float32 for another number."""
    return ops.full(_sizes(dims), value, dtype=_dtype_of(value))


def range_(start: Any, limit: Any = None, delta: Any = 1, dtype: Any = None) -> Any:
    """Compute tf.range; with one number, from 0 to that number. The dtype is int32 if every number is an integer."""
    first, last = (0, start) if limit is None else (start, limit)
    kinds = {_dtype_of(number) for number in (first, last, delta)}
    return ops.arange(first, last, delta, dtype=dtype or ("float32" if "float32" in kinds else "int32"))


def linspace(start: Any, stop: Any, num: int, axis: int = 0) -> Any:
    """Compute tf.linspace, which includes the end."""
    return ops.linspace(start, stop, int(num), axis=axis)


def eye(num_rows: int, num_columns: int | None = None, batch_shape: Any = None, dtype: str = "float32") -> Any:
    """Compute tf.eye: an identity matrix, repeated for every index of the batch shape."""
    found = ops.eye(int(num_rows), None if num_columns is None else int(num_columns), dtype=dtype)
    if batch_shape is None:
        return found
    return ops.broadcast_to(found, (*_sizes(batch_shape), *found.shape))


def sequence_mask(lengths: Any, maxlen: Any = None, dtype: str = "bool") -> Any:
    """Compute tf.sequence_mask: True for the steps before each length."""
    if maxlen is None:
        raise ValueError("tf.sequence_mask is called without maxlen, so the size of its result depends on the lengths")
    steps = ops.arange(0, int(maxlen), 1, dtype="int32")
    return ops.cast(ops.less(steps, ops.expand_dims(ops.cast(lengths, "int32"), -1)), dtype)


def band_part(x: Any, num_lower: int, num_upper: int) -> Any:
    """Compute tf.linalg.band_part: zero the values beyond a number of diagonals; a negative number keeps all."""
    x = ops.convert_to_tensor(x)
    upper = x if num_upper < 0 else ops.tril(x, k=int(num_upper))
    return upper if num_lower < 0 else ops.triu(upper, k=-int(num_lower))


def broadcast_to(input_: Any, shape: Sizes) -> Any:
    """Compute tf.broadcast_to."""
    return _repeated(input_, _sizes(shape)) if _is_constant(input_) else ops.broadcast_to(input_, _sizes(shape))


def tile(input_: Any, multiples: Sizes) -> Any:
    """Compute tf.tile: repeat a tensor along each axis."""
    repeats = _sizes(multiples)
    if not _is_constant(input_):
        return ops.tile(input_, repeats)
    sizes = np.asarray(input_).shape
    if any(1 not in pair for pair in zip(sizes, repeats, strict=True)):
        return ops.tile(input_, repeats)
    return _repeated(input_, tuple(one * other for one, other in zip(sizes, repeats, strict=True)))


def _is_constant(value: Any) -> bool:
    return isinstance(value, np.ndarray | np.generic | list | int | float)


def _repeated(value: Any, shape: tuple[int, ...]) -> Any:
    """Return a constant repeated to a larger shape, as a product with ones, so that a trace records the sizes."""
    array = np.asarray(value, "float32" if isinstance(value, float | list) else None)
    return ops.multiply(ops.ones(shape, dtype=array.dtype.name), array)


def ensure_shape(x: Any, shape: Any = None) -> Any:
    """Return the tensor: tf.ensure_shape only checks its shape."""
    return ops.copy(x)


def _sizes(shape: Any) -> tuple[int, ...]:
    several = isinstance(shape, list | tuple) or (isinstance(shape, np.ndarray) and shape.ndim > 0)
    return tuple(int(one) for one in (shape if several else [shape]))


def _dtype_of(value: Any) -> str:
    stated = getattr(value, "dtype", None)
    if stated is not None:
        return str(stated).rpartition(".")[2]
    return "bool" if isinstance(value, bool) else "int32" if isinstance(value, int) else "float32"


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "range": range_,
    **{
        function.__name__: function
        for function in (
            band_part, broadcast_to, ensure_shape, eye, fill, linspace, ones, sequence_mask, shape, tile,
            zeros,
        )
    },
}  # fmt: skip
"""The functions of this module, by the names that `keras3conv.formats.keras2.functions` uses."""
