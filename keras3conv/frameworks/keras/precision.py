"""Runs a Keras model in float64 for a while, whatever its own dtype, on any backend."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras.src.backend.common import dtypes

from keras3conv.frameworks.keras.float64 import in_full
from keras3conv.frameworks.keras.tree import named_layers, untracked, variables_of


@contextmanager
def float64_mode(model: keras.layers.Layer) -> Iterator[None]:
    """Casts every variable and every layer's policy to float64 for a while; all is as before afterwards.

    The model is cast in place, because only then subclassed models can be cast too. Inputs of functional models are
    cast by Keras to what the model was built with, so that is changed as well.
    """
    with _wide_numbers(), in_full():
        layers = [layer for _, layer in named_layers(model)]
        policies = [(layer, layer._dtype_policy) for layer in layers]
        named = (entry for layer in layers for entry in (*variables_of(layer), *untracked(layer)))
        variables = {id(variable): variable for _, variable in named}
        values = [(variable, variable._value, variable._dtype) for variable in variables.values()]
        tensors = [tensor for layer in layers for tensor in _symbolic_inputs(layer)]
        input_dtypes = [(tensor, tensor.dtype) for tensor in tensors]
        try:
            for layer in layers:
                layer._dtype_policy = keras.dtype_policies.DTypePolicy("float64")
            for variable, value, dtype in values:
                if _is_float(dtype):
                    _replace(variable, _cast(value), "float64")
            for tensor, dtype in input_dtypes:
                if _is_float(str(dtype)):
                    _set_dtype(tensor, "float64")
            with _measured_in_full(layers):
                yield
        finally:
            for layer, policy in policies:
                layer._dtype_policy = policy
            for variable, value, dtype in values:
                _replace(variable, value, dtype)
            for tensor, dtype in input_dtypes:
                _set_dtype(tensor, dtype)


@contextmanager
def _measured_in_full(layers: Iterable[keras.layers.Layer]) -> Iterator[None]:
    """What a Normalization has computed of its variables, or of its constants, is computed anew for a while."""
    found = [layer for layer in layers if isinstance(layer, keras.layers.Normalization) and layer.built]
    before = [(vars(layer), dict(vars(layer))) for layer in found]
    try:
        for layer in found:
            if layer.input_mean is None:
                layer.finalize_state()
            else:
                _rebuild_in_full(layer)
        yield
    finally:
        for attributes, old in before:
            attributes.update(old)


def _rebuild_in_full(layer: keras.layers.Normalization) -> None:
    """Makes a layer's constants anew; there is no variable that it would make again."""
    given = layer.input_mean, layer.input_variance
    # A list becomes float32 on TensorFlow, and an array stays what it is.
    layer.input_mean, layer.input_variance = (np.asarray(value, "float64") for value in given)
    try:
        layer.build(layer._build_input_shape)
    finally:
        layer.input_mean, layer.input_variance = given


@contextmanager
def precise() -> Iterator[None]:
    """Asks the backend for its most precise matrix products for a while."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        with jax.default_matmul_precision("highest"):
            yield
    elif backend == "tensorflow":
        import tensorflow as tf

        before = tf.config.experimental.tensor_float_32_execution_enabled()
        tf.config.experimental.enable_tensor_float_32_execution(False)
        try:
            yield
        finally:
            tf.config.experimental.enable_tensor_float_32_execution(before)
    else:
        from keras3conv.frameworks.torch import module as torch_side

        with torch_side.precise():
            yield


@contextmanager
def _wide_numbers() -> Iterator[None]:
    """Lets float64 be float64 for a while.

    Keras' type promotion turns it into float32 (as JAX does unless it is told otherwise), so that a
    BatchNormalization would compute in float32 whatever its policy says. A layer that casts to "float32" itself, as
    many norms and rotations do, would hide every difference below 1e-7, so for a while that name means float64 too.
    """
    narrowing, names = dtypes.BIT64_TO_BIT32_DTYPE["float64"], dict(dtypes.PYTHON_DTYPES_MAP)
    floatx = keras.config.floatx()
    dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"
    dtypes.PYTHON_DTYPES_MAP["float32"] = "float64"
    keras.config.set_floatx("float64")
    try:
        if keras.backend.backend() == "jax":
            import jax

            with jax.enable_x64(True):
                yield
        else:
            yield
    finally:
        dtypes.PYTHON_DTYPES_MAP.clear()  # as it was: a run may stand within another
        dtypes.PYTHON_DTYPES_MAP.update(names)
        dtypes.BIT64_TO_BIT32_DTYPE["float64"] = narrowing
        keras.config.set_floatx(floatx)


def _symbolic_inputs(layer: keras.layers.Layer) -> list[Any]:
    """The tensors whose dtype a functional model casts its inputs to; a sequential one keeps its inside."""
    functional = getattr(layer, "_functional", None) or layer
    return list(keras.tree.flatten(getattr(functional, "_inputs", None) or []))


def _is_float(dtype: str) -> bool:
    return "float" in dtype


def _cast(value: Any) -> Any:
    """A backend's own tensor in float64, as what the backend stores in a variable."""
    backend = keras.backend.backend()
    if backend == "torch":
        from keras3conv.frameworks.torch import module as torch_side

        return torch_side.float64_parameter(value)
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.Variable(tf.cast(value, "float64"), dtype="float64", trainable=value.trainable)
    return keras.ops.cast(value, "float64")


def _replace(variable: keras.Variable, value: Any, dtype: str) -> None:
    variable._value = value
    variable._dtype = dtype


def _set_dtype(tensor: Any, dtype: str) -> None:
    tensor._dtype = dtype
