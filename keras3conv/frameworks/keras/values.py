"""Between numpy and the tensors of whatever backend Keras runs on."""

from typing import Any

import keras
import numpy as np

from keras3conv.errors import RAISED_BY_MODELS
from keras3conv.numerics.copying import contiguous
from keras3conv.transforms import Array


def backend() -> str:
    """The backend that Keras runs on: "torch", "jax" or "tensorflow"."""
    return str(keras.backend.backend())


def to_numpy(value: Any) -> Array:
    """A variable or tensor as an array of the same dtype; read-only where it shares memory."""
    tensor = value.value if isinstance(value, keras.Variable) else value
    # Not `keras.ops.convert_to_numpy`: it widens bfloat16, and numpy 2 warns about how it asks for the array.
    if backend() == "torch":
        from keras3conv.frameworks.torch import module as torch_side

        return torch_side.to_numpy(tensor)
    if backend() == "tensorflow":
        array: Array = tensor.numpy()
        return array
    return np.asarray(tensor)


def raised_by_keras() -> tuple[type[Exception], ...]:
    """What the code of a Keras model raises for inputs that it cannot take; TensorFlow has errors of its own."""
    if backend() != "tensorflow":
        return RAISED_BY_MODELS
    import tensorflow as tf

    return (*RAISED_BY_MODELS, tf.errors.OpError)


def fill(variable: keras.Variable, values: Array) -> None:
    """Assigns values of the variable's own shape; where it can be, without a copy on the way.

    Args:
        variable: The variable.
        values: The values; on JAX a variable may alias them afterwards.
    """
    if backend() == "torch" and tuple(variable.shape) == values.shape:
        from keras3conv.frameworks.torch import module as torch_side

        with torch_side.inference():
            torch_side.put(variable._value, values)
    else:
        variable.assign(contiguous(values))


def to_tensors(inputs: Any) -> Any:
    """The same structure with every array as a tensor of the same dtype."""
    if isinstance(inputs, dict):
        return {name: to_tensors(value) for name, value in inputs.items()}
    if isinstance(inputs, tuple | list):
        return type(inputs)(to_tensors(value) for value in inputs)
    if isinstance(inputs, np.ndarray):
        # A copy: on torch a tensor would share the caller's memory, and a layer may write into what it is given.
        return keras.ops.convert_to_tensor(inputs.copy(), dtype=inputs.dtype.name)
    return inputs
