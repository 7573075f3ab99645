"""Convert between numpy arrays and the tensors of the backend that Keras runs on, and assign arrays to variables.

Keras stores the kernel of a convolution as (height, width, inputs, outputs). On the torch backend it permutes the axes
in each call, and then copies the kernel to the memory order of the convolution unless it has this order already. So the
kernel is stored in this order, and the variable is a view of it with the axes in Keras' order. All values and shapes
are the same; only the strides differ. Keras' own `assign`, and so loading a file, keeps them.
"""

import ctypes
import re
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from keras3conv.errors import RAISED_BY_MODELS, message_of
from keras3conv.frameworks.keras.internals import CONVOLUTION_BASES, BaseDepthwiseConv, BaseSeparableConv
from keras3conv.numerics.copying import aligned_copy, aligned_empty, contiguous, copy_into, is_finite
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
    """Return the first line of an exception's message, without the descriptions of the call that Keras adds."""
    lines = [re.sub(r"\x1b\[\d*m", "", line).strip() for line in message_of(error).splitlines()]
    said = [line for line in lines if line and not line.startswith("Exception encountered when calling")]
    own = [line for line in said if not line.startswith("Could not automatically infer the output shape")]
    return [*own, *said, "the error has no message"][0]


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


Orders = dict[int, tuple[int, ...]]
"""For each variable, by its id, the order of its axes in memory, the slowest axis first."""

_TOGETHER = 4 << 20
"""The number of bytes that one call of JAX assigns; larger values are divided among several calls."""

_LARGE = 256 << 10
"""The size in bytes above which a value is copied into a new tensor of TensorFlow, which reuses freed memory for it."""


def memory_orders(layers: Iterable[keras.layers.Layer], *, float64: bool = False) -> Orders:
    """Return the fastest memory order for the kernel of each convolution, by the id of the variable.

    An order is a tuple of axes, the axis with the largest stride first: (3, 2, 0, 1).

    The result is empty on backends other than torch.

    Args:
        layers: The layers of a model.
        float64: Whether the kernels are those of a float64 run.
    """
    if backend() != "torch":
        return {}
    convolutions: list[Any] = [layer for layer in layers if isinstance(layer, CONVOLUTION_BASES)]
    return {
        id(variable): order
        for layer in convolutions
        for variable in (*layer._trainable_variables, *layer._non_trainable_variables)
        if (order := _order(layer, variable, float64))
    }


def _order(layer: Any, variable: keras.Variable, float64: bool) -> tuple[int, ...]:
    """Return the memory order of a kernel's axes with which the convolution runs fastest, outermost axis first.

    Args:
        layer: The convolution.
        variable: One of its variables; for a bias the result is empty.
        float64: Whether the kernel is that of a float64 run. PyTorch has no convolution of float64 that reads a kernel
            with the channels last: it copies such a kernel in each call.
    """
    rank = int(layer.rank)
    if len(variable.shape) != rank + 2:
        return ()
    spatial = tuple(range(rank))
    by_channel = isinstance(layer, BaseDepthwiseConv) or (
        isinstance(layer, BaseSeparableConv) and variable is layer.depthwise_kernel
    )
    if by_channel:
        return rank, rank + 1, *spatial
    if float64 or layer.data_format == "channels_first" or rank == 1:
        return rank + 1, rank, *spatial
    return rank + 1, *spatial, rank


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


def assign_all(
    values: Iterable[tuple[keras.Variable, Array, tuple[int, ...] | None]], finite: set[int] | None = None
) -> None:
    """Assign values to variables, on JAX to several at a time, because each call takes long.

    Args:
        values: The variables, each with its value and its memory order.
        finite: Receives the id of each variable whose value was found to be finite, before the next one is taken.
    """
    finite = set() if finite is None else finite
    if backend() != "jax":
        for variable, value, order in values:
            if assign(variable, value, order):
                finite.add(id(variable))
        return
    waiting: list[tuple[keras.Variable, Array]] = []
    size = 0
    for variable, value, _ in values:
        if size + value.nbytes > _TOGETHER:
            _assign_in_jax(waiting)  # before the next copy, as this frees old values
            waiting, size = [], 0
        array, is_known_finite = _for_jax(np.asarray(value))
        if is_known_finite:
            finite.add(id(variable))
        waiting.append((variable, array))
        size += value.nbytes
        if size >= _TOGETHER:
            _assign_in_jax(waiting)
            waiting, size = [], 0
    _assign_in_jax(waiting)


def _for_jax(array: Array) -> tuple[Array, bool]:
    """Return an array with the values of another one to assign on JAX, and whether all are known to be finite.

    JAX shares the memory of a row-major array, so it gets a copy. It copies any other one itself: it transposes a
    matrix fast, but the kernel of a convolution takes it twice as long as `copy_into`.
    """
    if not array.flags.c_contiguous and sum(size > 1 for size in array.shape) <= 2:
        return array, is_finite(array)
    own = aligned_empty(array)
    return own, copy_into(own, array, checked=True)


def assign(variable: keras.Variable, value: Array, order: tuple[int, ...] | None = None) -> bool:
    """Assign a value to a variable, which then shares no memory with the value.

    Args:
        variable: The variable.
        value: The value, of the variable's shape and dtype.
        order: The memory order of the variable; None to keep its memory.

    Returns:
        True if all values are known to be finite; False if they were not looked at.
    """
    if backend() == "torch":
        from keras3conv.frameworks.torch.tensors import overwrite

        overwrite(variable._value, value, order)
        return False
    if backend() == "tensorflow" and value.dtype.kind == "f" and value.nbytes > _LARGE:
        return _assign_in_tensorflow(variable, value)
    # On JAX and TensorFlow a variable may share the memory of the array that was assigned to it.
    own = aligned_copy(np.asarray(value))
    if backend() == "jax":
        _assign_in_jax([(variable, own)])
    elif own.dtype.kind == "f" and own.size:
        import tensorflow as tf

        variable.assign(tf.experimental.dlpack.from_dlpack(own.__dlpack__()))
    else:
        variable.assign(own)
    return is_finite(own)


def _assign_in_tensorflow(variable: keras.Variable, value: Array) -> bool:
    """Copy a value into a new tensor of TensorFlow, and assign the tensor, which the variable keeps without a copy.

    TensorFlow keeps the freed memory of old values for new tensors. Memory of NumPy would come on top of it. Return
    True if all values are known to be finite.
    """
    import tensorflow as tf

    with tf.device("CPU"):
        tensor = tf.raw_ops.Empty(shape=value.shape, dtype=value.dtype.name)
    # Arrays that share the memory of a tensor cannot be written, but nothing else uses this tensor yet.
    address = np.from_dlpack(tensor).ctypes.data
    memory = np.ctypeslib.as_array((ctypes.c_ubyte * value.nbytes).from_address(address))
    found = copy_into(memory.view(value.dtype).reshape(value.shape), value, checked=True)
    variable.assign(tensor)
    return found


def _assign_in_jax(values: Sequence[tuple[keras.Variable, Array]]) -> None:
    """Assign arrays to variables on the JAX backend, which may share the memory of row-major arrays afterwards."""
    import jax

    tensors = jax.device_put([array for _, array in values])
    for (variable, _), tensor in zip(values, tensors, strict=True):
        variable.assign(tensor.block_until_ready())  # the caller may change an array that is still being copied
