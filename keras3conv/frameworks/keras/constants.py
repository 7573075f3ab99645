"""Find the constants in a Keras model that are not weights and are stored as float32."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras3conv.frameworks.keras.tree import named_layers
from keras3conv.frameworks.keras.values import to_numpy


def float32_constants(model: keras.layers.Layer) -> Iterator[str]:
    """Yield the names of the layers and operations with constants that float32 has rounded."""
    for path, layer in named_layers(model):
        if any(_is_rounded(value) for value in vars(layer).values()):
            yield path or model.name
        for operation in getattr(layer, "operations", ()) if isinstance(layer, keras.Model) else ():
            given = [node.arguments for node in operation._inbound_nodes]
            values = keras.tree.flatten([(entry.args, entry.kwargs) for entry in given])
            if any(map(_is_rounded, values)):
                yield operation.name


def _is_rounded(value: Any) -> bool:
    """Return whether a value is a float32 number or array with a fractional part; False for variables."""
    if isinstance(value, keras.KerasTensor | keras.Variable):
        return False
    if not isinstance(value, np.ndarray | np.float32):
        if not keras.ops.is_tensor(value) or keras.backend.standardize_dtype(value.dtype) != "float32":
            return False
        value = to_numpy(value)
    return value.dtype == np.float32 and not np.array_equal(value, np.round(value))
