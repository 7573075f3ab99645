"""Convert between numpy arrays and the tensors of the backend that Keras runs on."""

import re
from typing import Any

import keras
import numpy as np

from keras3conv.errors import RAISED_BY_MODELS, message_of
from keras3conv.numerics.copying import contiguous
from keras3conv.transforms import Array


def backend() -> str:
    """Return the backend that Keras runs on: "torch", "jax" or "tensorflow"."""
    return str(keras.backend.backend())


def to_numpy(value: Any) -> Array:
    """Return a variable or tensor as an array of the same dtype, which may share memory with it and be read-only."""
    tensor = value.value if isinstance(value, keras.Variable) else value
    # Not `keras.ops.convert_to_numpy`: it converts bfloat16 to float32, and causes a warning with numpy 2.
    if backend() == "torch":
        from keras3conv.frameworks.torch.tensors import to_numpy as torch_to_numpy

        return torch_to_numpy(tensor)
    if backend() == "tensorflow":
        import tensorflow as tf

        # Not `tensor.numpy()`, which copies.
        return np.asarray(tensor.value() if isinstance(tensor, tf.Variable) else tensor)
    return np.asarray(tensor)


def is_parameter(tensor: Any) -> bool:
    """Return whether a tensor is the stored value of a variable of the model, not a result computed from it."""
    if backend() == "torch":
        import torch

        return isinstance(tensor, torch.nn.Parameter)
    if backend() == "tensorflow":
        import tensorflow as tf

        return isinstance(tensor, tf.Variable)
    return False  # nothing overwrites an array of JAX


def version_of(tensor: Any) -> int | None:
    """Return a number that changes whenever a tensor is overwritten in place; None if the backend has none."""
    if backend() == "torch":
        from keras3conv.frameworks.torch.tensors import version_of as torch_version_of

        return torch_version_of(tensor)
    return 0  # nothing overwrites an eager tensor of JAX or TensorFlow


def raised_by_keras() -> tuple[type[Exception], ...]:
    """Return the exception types that a Keras model may raise for inputs that it does not accept."""
    if backend() != "tensorflow":
        return RAISED_BY_MODELS
    import tensorflow as tf

    return (*RAISED_BY_MODELS, tf.errors.OpError)


def error_message(error: Exception) -> str:
    """Return the first line of an exception's message, without the description of the layer call that Keras adds."""
    lines = [re.sub(r"\x1b\[\d*m", "", line).strip() for line in message_of(error).splitlines()]
    own = [line for line in lines if line and not line.startswith("Exception encountered when calling")]
    return own[0] if own else "the error has no message"


def fill(variable: keras.Variable, values: Array, order: tuple[int, ...] | None = None) -> None:
    """Assign values to a variable, on the torch backend without an intermediate copy.

    Args:
        variable: The variable.
        values: The values, with the variable's shape; on JAX the variable may share their memory afterwards.
        order: The axes from the slowest to the fastest in memory, for new memory of the variable on the torch backend;
            None to write into its memory.
    """
    if backend() == "torch" and tuple(variable.shape) == values.shape:
        from keras3conv.frameworks.torch.tensors import overwrite

        overwrite(variable._value, values, order)
    else:
        variable.assign(contiguous(values))


def to_tensors(inputs: Any) -> Any:
    """Return nested inputs with every array converted to a tensor of the same dtype."""
    if isinstance(inputs, dict):
        return {name: to_tensors(value) for name, value in inputs.items()}
    if isinstance(inputs, tuple | list):
        return type(inputs)(to_tensors(value) for value in inputs)
    if isinstance(inputs, np.ndarray):
        # Copy: on torch the tensor would share the caller's memory, and a layer may write into its input.
        return keras.ops.convert_to_tensor(inputs.copy(), dtype=inputs.dtype.name)
    return inputs
