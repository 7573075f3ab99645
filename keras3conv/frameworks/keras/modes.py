"""Define context managers for runs of a Keras model in float64, in full precision, or without gradients."""

from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import keras
import numpy as np

from keras3conv.frameworks.keras.float64_kernels import float64_kernels
from keras3conv.frameworks.keras.internals import dtypes
from keras3conv.frameworks.keras.observing import replaced
from keras3conv.frameworks.keras.state import untracked_variables
from keras3conv.frameworks.keras.tree import named_layers, variables_of
from keras3conv.frameworks.keras.values import backend


@contextmanager
def float64_mode(model: keras.layers.Layer, overwritten: Collection[int] = ()) -> Iterator[None]:
    """Cast every variable and the dtype policy of every layer to float64 inside the `with` block.

    The model is cast in place, because subclassed models cannot be copied in general. Keras casts the inputs of a
    functional model to the dtypes of its symbolic inputs, so these dtypes are changed as well.

    Args:
        model: The model.
        overwritten: The ids of the variables that the `with` block overwrites first; their values need no cast.
    """
    with _float64_allowed(), float64_kernels(), _torch_kernels(), _mel_weights_in_float32():
        layers = [layer for _, layer in named_layers(model)]
        policies = [(layer, layer._dtype_policy) for layer in layers]
        named = (entry for layer in layers for entry in (*variables_of(layer), *untracked_variables(layer)))
        variables = {id(variable): variable for _, variable in named}
        values = [(variable, variable._value, variable._dtype) for variable in variables.values()]
        tensors = [tensor for layer in layers for tensor in _symbolic_inputs(layer)]
        input_dtypes = [(tensor, tensor.dtype) for tensor in tensors]
        try:
            for layer in layers:
                layer._dtype_policy = keras.dtype_policies.DTypePolicy("float64")
            for variable, value, dtype in values:
                if _is_float(dtype):
                    cast = _unset if id(variable) in overwritten else _cast
                    _replace(variable, cast(value), "float64")
            for tensor, dtype in input_dtypes:
                if _is_float(str(dtype)):
                    _set_dtype(tensor, "float64")
            with _normalization_rebuilt(layers):
                yield
        finally:
            for layer, policy in policies:
                layer._dtype_policy = policy
            for variable, value, dtype in values:
                _replace(variable, value, dtype)
            for tensor, dtype in input_dtypes:
                _set_dtype(tensor, dtype)


def _torch_kernels() -> AbstractContextManager[object]:
    """Replace functions of the torch backend that are slow in float64, or that refuse a float32 constant beside it."""
    if backend() != "torch":
        return nullcontext()
    from keras3conv.frameworks.torch.float64 import Float64Kernels

    return Float64Kernels()


@contextmanager
def _normalization_rebuilt(layers: Iterable[keras.layers.Layer]) -> Iterator[None]:
    """Recompute in float64 the values that `Normalization` layers precompute; restore the old values on exit."""
    found = [layer for layer in layers if isinstance(layer, keras.layers.Normalization) and layer.built]
    before = [(vars(layer), dict(vars(layer))) for layer in found]
    try:
        for layer in found:
            if layer.input_mean is None:
                layer.finalize_state()
            else:
                _rebuild(layer)
        yield
    finally:
        for attributes, old in before:
            attributes.update(old)


def _rebuild(layer: keras.layers.Normalization) -> None:
    """Recompute the constants of a layer whose mean and variance are constructor arguments, not variables."""
    given = layer.input_mean, layer.input_variance
    # TensorFlow converts a list to float32, and keeps the dtype of an array.
    layer.input_mean, layer.input_variance = (np.asarray(value, "float64") for value in given)
    try:
        layer.build(layer._build_input_shape)
    finally:
        layer.input_mean, layer.input_variance = given


NARROW = ("bfloat16", "float16")
"""The dtypes narrower than float32 in which layers may compute; bfloat16, with the larger rounding error, is first."""


def narrow_compute_dtype(model: keras.layers.Layer) -> str:
    """Return the narrowest dtype in which a layer of a model computes; empty if all compute in float32 or float64."""
    found = {layer.compute_dtype for _, layer in named_layers(model)}
    return next((dtype for dtype in NARROW if dtype in found), "")


@contextmanager
def precise() -> Iterator[None]:
    """Use the most precise matrix products of the backend inside the `with` block."""
    name = backend()
    if name == "jax":
        import jax

        with jax.default_matmul_precision("highest"):
            yield
    elif name == "tensorflow":
        import tensorflow as tf

        before = tf.config.experimental.tensor_float_32_execution_enabled()
        tf.config.experimental.enable_tensor_float_32_execution(False)
        try:
            yield
        finally:
            tf.config.experimental.enable_tensor_float_32_execution(before)
    else:
        from keras3conv.frameworks.torch.modes import precise as torch_precise

        with torch_precise():
            yield


@contextmanager
def without_gradients() -> Iterator[None]:
    """Disable the recording of gradients on a backend that records them by default."""
    if backend() == "torch":
        import torch

        with torch.no_grad():
            yield
    else:
        yield


@contextmanager
def _float64_allowed() -> Iterator[None]:
    """Prevent Keras and JAX from converting float64 to float32 inside the `with` block.

    The type promotion of Keras converts float64 to float32, so that a BatchNormalization would compute in float32 with
    any policy. JAX does the same by default. Many normalization and rotary embedding layers cast to "float32"
    explicitly, which would hide differences below 1e-7; so "float32" means float64 meanwhile.
    """
    narrowing, names = dtypes.BIT64_TO_BIT32_DTYPE["float64"], dict(dtypes.PYTHON_DTYPES_MAP)
    floatx = keras.config.floatx()
    dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"
    dtypes.PYTHON_DTYPES_MAP["float32"] = "float64"
    keras.config.set_floatx("float64")
    try:
        if backend() == "jax":
            import jax

            with jax.enable_x64(True):
                yield
        else:
            yield
    finally:
        dtypes.PYTHON_DTYPES_MAP.clear()  # restore the saved values, not the defaults: contexts may be nested
        dtypes.PYTHON_DTYPES_MAP.update(names)
        dtypes.BIT64_TO_BIT32_DTYPE["float64"] = narrowing
        keras.config.set_floatx(floatx)


def _mel_weights_in_float32() -> AbstractContextManager[None]:
    """Let `MelSpectrogram` compute its constant matrix in float32 inside the `with` block of a float64 run.

    The layer computes the matrix in each call, in float32 with any policy. A torch model stores these values, and the
    matrix in float64 would differ from them by a millionth.
    """
    original = keras.layers.MelSpectrogram.linear_to_mel_weight_matrix

    def computed(*args: Any, **kwargs: Any) -> Any:
        meant, floatx = dtypes.PYTHON_DTYPES_MAP["float32"], keras.config.floatx()
        dtypes.PYTHON_DTYPES_MAP["float32"] = "float32"
        keras.config.set_floatx("float32")
        try:
            return original(*args, **kwargs)
        finally:
            dtypes.PYTHON_DTYPES_MAP["float32"] = meant
            keras.config.set_floatx(floatx)

    return replaced([(keras.layers.MelSpectrogram, "linear_to_mel_weight_matrix", computed)])


def _symbolic_inputs(layer: keras.layers.Layer) -> list[Any]:
    """Return the symbolic inputs of a functional model, or of the functional model inside a sequential model."""
    functional = getattr(layer, "_functional", None) or layer
    inputs = getattr(functional, "_inputs", None)
    return list(keras.tree.flatten(inputs)) if inputs else []  # `flatten` is slow, and few layers have such inputs


def _is_float(dtype: str) -> bool:
    return "float" in dtype


def _cast(value: Any) -> Any:
    """Return a tensor cast to float64, in the tensor type that the backend stores in a variable."""
    name = backend()
    if name == "torch":
        import torch

        float64 = value.detach().to(torch.float64, copy=True)
        return torch.nn.Parameter(float64, requires_grad=value.requires_grad)
    if name == "tensorflow":
        import tensorflow as tf

        return tf.Variable(tf.cast(value, "float64"), dtype="float64", trainable=value.trainable)
    return keras.ops.cast(value, "float64")


def _unset(value: Any) -> Any:
    """Return a float64 tensor of the same shape; on the torch backend with unset values, as setting them takes time."""
    if backend() != "torch":
        return _cast(value)
    import torch

    return torch.nn.Parameter(torch.empty_like(value, dtype=torch.float64), requires_grad=value.requires_grad)


def _replace(variable: keras.Variable, value: Any, dtype: str) -> None:
    variable._value = value
    variable._dtype = dtype


def _set_dtype(tensor: Any, dtype: str) -> None:
    tensor._dtype = dtype
