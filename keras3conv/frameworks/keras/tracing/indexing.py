"""Infer the shape of an indexed symbolic tensor as NumPy does; Keras accepts only tuples of numbers and slices."""

from contextlib import AbstractContextManager
from typing import Any

import keras
import numpy as np

from keras3conv.frameworks.keras.internals import GetItem
from keras3conv.frameworks.keras.observing import replaced
from keras3conv.model.graph import mapped


def every_index() -> AbstractContextManager[None]:
    """Accept every index that an eager tensor accepts inside the `with` block: `x[None]`, `x[1:]`, `x[..., indices]`.

    The values of a symbolic index are unknown, so they are not compared with the size of the axis. Of a tensor with a
    dynamic size, which no trace has but a layer may make to infer its shape, only Keras' own indices are accepted.
    """
    original = GetItem.compute_output_spec

    def spec(operation: Any, x: keras.KerasTensor, key: Any) -> keras.KerasTensor:
        if None in x.shape:
            return original(operation, x, key)
        key = tuple(key) if isinstance(key, list) else key
        shape = np.broadcast_to(np.zeros(()), x.shape)[mapped(key, _as_numpy)].shape
        return keras.KerasTensor(shape, dtype=x.dtype)

    def get_item(x: Any, key: Any) -> Any:
        parts = key if isinstance(key, tuple) else (key,)
        return GetItem().symbolic_call(x, tuple(array for part in parts for array in _index_arrays(part)))

    return replaced([(GetItem, "compute_output_spec", spec), (keras.KerasTensor, "__getitem__", get_item)])


def _index_arrays(part: Any) -> tuple[Any, ...]:
    """Return a part of an index with a list as an array, and a constant mask as one array of indices for each axis."""
    if isinstance(part, list):
        part = np.array(part)
    array = keras.ops.convert_to_numpy(part) if keras.ops.is_tensor(part) else part
    return np.nonzero(array) if isinstance(array, np.ndarray) and array.dtype == bool else (part,)


def _as_numpy(part: Any) -> Any:
    """Return a part of an index for NumPy; a symbolic array of indices becomes zeros, a symbolic mask raises."""
    if isinstance(part, keras.KerasTensor):
        if str(part.dtype) == "bool":
            raise ValueError(
                "an index that is a boolean mask is not supported: the shape of the result depends on the values; use "
                "keras.ops.where"
            )
        return np.zeros(part.shape, dtype="int64")
    return keras.ops.convert_to_numpy(part) if keras.ops.is_tensor(part) else part
