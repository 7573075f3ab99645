"""Replace the functions of a Keras backend that do not compute in float64, or are slow in it.

The replacements change the result of float64 inputs only, and compute the same mathematical function. The comparison
with PyTorch would reveal a mistake in them.

- JAX casts the attention scores to float32 before the softmax.
- TensorFlow converts some Python numbers to float32 first: the scale of attention, the constants of GELU, the slope of
  a leaky ReLU. On a CPU it has no float64 kernels for 3D pooling and for channels-first convolutions.
- On torch, a convolution copies its inputs and its kernel to memory with the channels last, where torch computes
  float32 faster. In float64 it gains nothing, and the next layer copies the result back.
"""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import keras

from keras3conv.frameworks.keras.internals import backend
from keras3conv.frameworks.keras.observing import Original, replaced


def float64_kernels() -> AbstractContextManager[None]:
    """Replace backend functions that compute in float32 by functions that compute in float64, in a `with` block."""
    name = keras.backend.backend()
    # Keras imports the functions of `core` into the namespaces of the backends too: `Rescaling` calls `cast` there.
    core, package = backend.core, sys.modules[backend.core.__name__.rpartition(".")[0]]
    owners = [(backend.nn, _NN), (core, _CORE), (package, _CORE), (backend, _CORE)]
    return replaced(
        [
            (module, function, partial(replacement, getattr(module, function)))
            for module, replacements in owners
            for function, replacement in replacements.get(name, {}).items()
            if hasattr(module, function)  # some versions of Keras lack functions whose name starts with "_"
        ]
    )


def _is_float64(value: Any) -> bool:
    return bool(keras.backend.standardize_dtype(value.dtype) == "float64")


def _attention(original: Original, query: Any, key: Any, value: Any, *options: Any, **keywords: Any) -> Any:
    """Compute `keras.ops.dot_product_attention` in float64.

    The query has the shape (batch, queries, heads, size), key and value (batch, keys, heads, size). Several query heads
    may share a key and value head.

    Args:
        original: The function of the backend; it is called if the query is not in float64.
        query: The query.
        key: The key.
        value: The value.
        options: Further positional arguments; with any of them `original` is called.
        keywords: The keyword arguments of the call: scale, bias, mask, is_causal.
    """
    if options or not _is_float64(query):
        return original(query, key, value, *options, **keywords)
    repeats = query.shape[2] // key.shape[2]
    key, value = (keras.ops.repeat(tensor, repeats, axis=2) for tensor in (key, value))
    scale = query.shape[-1] ** -0.5 if keywords.get("scale") is None else keywords["scale"]
    scores = keras.ops.einsum("btnh,bsnh->bnts", query, key) * scale
    if keywords.get("bias") is not None:
        scores = scores + keras.ops.cast(keywords["bias"], "float64")
    mask = keywords.get("mask")
    if keywords.get("is_causal"):
        causal = keras.ops.tril(keras.ops.ones(scores.shape[-2:], dtype="bool"))
        mask = causal if mask is None else keras.ops.logical_and(mask, causal)
    if mask is not None:
        scores = keras.ops.where(mask, scores, -1e38)
    return keras.ops.einsum("bnts,bsnh->btnh", keras.ops.softmax(scores, axis=-1), value)


def _gelu(original: Original, x: Any, approximate: bool = True) -> Any:
    import tensorflow as tf

    x = backend.convert_to_tensor(x)
    if not _is_float64(x):
        return original(x, approximate=approximate)
    numbers = [tf.constant(number, "float64") for number in (0.5, 1.0, 2.0**0.5, 0.7978845608028654, 0.044715)]
    half, one, root, factor, cubic = numbers
    if approximate:  # the tanh form, with sqrt(2 / pi)
        return half * x * (one + tf.tanh(factor * (x + cubic * x * x * x)))
    return half * x * tf.math.erfc(-x / root)


def _leaky_relu(original: Original, x: Any, negative_slope: float = 0.2) -> Any:
    import tensorflow as tf

    x = backend.convert_to_tensor(x)
    if not _is_float64(x):
        return original(x, negative_slope=negative_slope)
    return tf.where(x > 0, x, tf.constant(negative_slope, "float64") * x)


def _conv(
    original: Original,
    inputs: Any,
    kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> Any:
    if not _is_float64(inputs) or backend.standardize_data_format(data_format) == "channels_last":
        return original(inputs, kernel, strides, padding, data_format, dilation_rate)
    inputs = keras.ops.moveaxis(inputs, 1, -1)
    return keras.ops.moveaxis(original(inputs, kernel, strides, padding, "channels_last", dilation_rate), -1, 1)


def _pool(
    original: Original,
    inputs: Any,
    pool_size: Any,
    strides: Any = None,
    padding: str = "valid",
    data_format: str | None = None,
) -> Any:
    strides = pool_size if strides is None else strides
    if not _is_float64(inputs) or len(inputs.shape) != 5:
        return original(inputs, pool_size, strides, padding, data_format)
    size, step = ((value,) * 3 if isinstance(value, int) else tuple(value) for value in (pool_size, strides))

    def over_planes(planes: Any) -> Any:
        return original(planes, size[1:], step[1:], padding, "channels_last")

    def over_depth(columns: Any) -> Any:
        return original(columns, (size[0], 1), (step[0], 1), padding, "channels_last")

    return _by_planes(inputs, data_format, over_planes, over_depth)


def _adaptive_pool(original: Original, inputs: Any, output_size: Any, data_format: str | None = None) -> Any:
    if not _is_float64(inputs) or len(inputs.shape) != 5:
        return original(inputs, output_size, data_format)
    size = (output_size,) * 3 if isinstance(output_size, int) else tuple(output_size)

    def over_planes(planes: Any) -> Any:
        return original(planes, size[1:], "channels_last")

    def over_depth(columns: Any) -> Any:
        return original(columns, (size[0], columns.shape[2]), "channels_last")

    return _by_planes(inputs, data_format, over_planes, over_depth)


def _by_planes(
    inputs: Any, data_format: str | None, over_planes: Callable[[Any], Any], over_depth: Callable[[Any], Any]
) -> Any:
    """Pool over three axes: first over height and width, then over depth. Maximum and average pooling are separable.

    Args:
        inputs: The input, with three spatial axes.
        data_format: "channels_first", "channels_last", or None for the default of Keras.
        over_planes: Pools images of shape (number, height, width, channels) over height and width.
        over_depth: Pools an input of shape (batch, depth, positions, channels) over the depth.
    """
    first = backend.standardize_data_format(data_format) == "channels_first"
    inputs = keras.ops.moveaxis(inputs, 1, -1) if first else inputs
    _, depth, height, width, channels = inputs.shape
    planes = over_planes(keras.ops.reshape(inputs, (-1, height, width, channels)))
    _, height, width, _ = planes.shape
    columns = over_depth(keras.ops.reshape(planes, (-1, depth, height * width, channels)))
    pooled = keras.ops.reshape(columns, (-1, columns.shape[1], height, width, channels))
    return keras.ops.moveaxis(pooled, -1, 1) if first else pooled


def _cast(original: Original, x: Any, dtype: Any) -> Any:
    import tensorflow as tf

    number = isinstance(x, float) and keras.backend.standardize_dtype(dtype) == "float64"
    return tf.constant(x, "float64") if number else original(x, dtype)


def _keep_memory_order(original: Original, tensor: Any) -> Any:
    """Return a float64 tensor as it is, instead of a copy with its channels last in memory: only strides differ."""
    return tensor if _is_float64(tensor) else original(tensor)


Replacements = dict[str, dict[str, Callable[..., Any]]]
"""The replacements of backend functions, by backend and name of the function.

Each takes the original function as its first argument.
"""

_CORE: Replacements = {"tensorflow": {"cast": _cast}}

_NN: Replacements = {
    "jax": {"dot_product_attention": _attention},
    "tensorflow": {
        "dot_product_attention": _attention,
        "conv": _conv,
        "gelu": _gelu,
        "leaky_relu": _leaky_relu,
        "max_pool": _pool,
        "average_pool": _pool,
        "adaptive_max_pool": _adaptive_pool,
        "adaptive_average_pool": _adaptive_pool,
    },
    "torch": {"_maybe_convert_to_channels_last": _keep_memory_order},
}
