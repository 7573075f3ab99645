"""Replace methods and functions of Keras while a model runs, to observe its calls and to compute in float64.

No other module does so. Keras has no hooks like those of PyTorch, so a method such as `Layer.__call__` is replaced for
the duration of a `with` block. Every context manager here restores the original on exit, also after an exception.

In a float64 run, the replacements of backend functions change the result of float64 inputs only, and compute the same
mathematical function. The comparison with PyTorch would reveal a mistake in them.

- JAX casts the attention scores to float32 before the softmax.
- TensorFlow converts some Python numbers to float32 first: the scale of attention, the constants of GELU, the slope of
  a leaky ReLU. On a CPU it has no float64 kernels for 3D pooling and for channels-first convolutions.
- On torch, a convolution copies its inputs and its kernel to memory with the channels last, where torch computes
  float32 faster. In float64 it gains nothing, and the next layer copies the result back.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any

import keras
import numpy as np

from keras3conv.frameworks.keras.internals import NODE_MODULES, backend, tensorflow
from keras3conv.frameworks.keras.values import to_numpy
from keras3conv.transforms import Array

Original = Callable[..., Any]
"""The replaced method: `original(layer, *args, **kwargs)` does what Keras does."""

CallHandler = Callable[[Original, Any, tuple[Any, ...], dict[str, Any]], Any]
"""A function that is called instead of a method, with the original method, the layer, and the positional and keyword
arguments. It returns the output of the call."""


@contextmanager
def replaced(replacements: Iterable[tuple[object, str, object]]) -> Iterator[None]:
    """Replace attributes of classes or modules inside the `with` block.

    Args:
        replacements: For each attribute, its owner, its name and its temporary value.
    """
    kept: list[tuple[object, str, bool, object]] = []
    try:
        for owner, name, value in replacements:
            kept.append((owner, name, name in vars(owner), getattr(owner, name)))
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, is_own, original in reversed(kept):
            if is_own:
                setattr(owner, name, original)
            else:  # remove the replacement, so that the class inherits the attribute again
                delattr(owner, name)


def tensorflow_not_imported() -> AbstractContextManager[None]:
    """Prevent Keras from importing TensorFlow inside the `with` block, unless it is imported already.

    When Keras serializes an object it asks if the object is of a type of TensorFlow, and imports TensorFlow for that,
    which takes seconds. No object is of such a type before TensorFlow is imported.
    """
    is_decided = "tensorflow" in sys.modules or tensorflow._available is not None
    return replaced([] if is_decided else [(tensorflow, "_available", False)])


def layer_calls(handle: CallHandler) -> AbstractContextManager[None]:
    """Call a handler instead of `Layer.__call__` inside the `with` block; see `CallHandler` for its arguments."""
    return _calls_handled(keras.layers.Layer, "__call__", handle)


def batch_normalizations(handle: CallHandler) -> AbstractContextManager[None]:
    """Call a handler instead of `BatchNormalization.call` inside the `with` block; Keras has chosen `training` then."""
    return _calls_handled(keras.layers.BatchNormalization, "call", handle)


def added_losses(handle: CallHandler) -> AbstractContextManager[None]:
    """Call a handler instead of `Layer.add_loss` inside the `with` block."""
    return _calls_handled(keras.layers.Layer, "add_loss", handle)


def operation_calls(handle: CallHandler) -> AbstractContextManager[None]:
    """Call a handler instead of `Operation.__call__`, except for layers, inside the `with` block.

    The operations of a functional model are objects of the class `keras.Operation`. A function of `keras.ops` that is
    called with eager tensors creates no such object, so the handler does not see the call.
    """

    def only_operations(original: Original, called: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if isinstance(called, keras.layers.Layer):
            return original(called, *args, **kwargs)
        return handle(original, called, args, kwargs)

    return _calls_handled(keras.Operation, "__call__", only_operations)


@contextmanager
def symbolic_calls(on_layer: CallHandler, on_operation: CallHandler) -> Iterator[None]:
    """Call a handler instead of every call with symbolic tensors inside the `with` block.

    Keras creates no `Node` objects meanwhile. They would stay in the layers, and Keras raises if the outputs of a call
    contain None.

    Args:
        on_layer: The handler of calls of layers.
        on_operation: The handler of calls of other operations.
    """

    def no_node(**kwargs: Any) -> None:
        """Do nothing; this replaces the creation of a Keras `Node`."""

    with ExitStack() as contexts:
        contexts.enter_context(_calls_handled(keras.layers.Layer, "symbolic_call", on_layer))
        contexts.enter_context(_calls_handled(keras.Operation, "symbolic_call", on_operation))
        contexts.enter_context(replaced((module, "Node", no_node) for module in NODE_MODULES))
        yield


@contextmanager
def _calls_handled(owner: type, method: str, handle: CallHandler) -> Iterator[None]:
    original = getattr(owner, method)

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return handle(original, self, args, kwargs)

    with replaced([(owner, method, call)]):
        yield


@contextmanager
def activation_inputs(layer: keras.layers.Layer, wanted: bool = True) -> Iterator[list[Array]]:
    """Collect copies of the inputs of a layer's activation function inside the `with` block.

    A Keras Dense or convolution layer can apply an activation. In PyTorch the activation is a separate module, so the
    output of the torch layer corresponds to the input of the activation.

    Args:
        layer: The layer.
        wanted: Whether to collect; if False, the list stays empty.

    Yields:
        The list of arrays; it stays empty for a layer without weights or without an activation.
    """
    seen: list[Array] = []
    activation = layer.__dict__.get("activation")
    if not wanted or not callable(activation) or activation is keras.activations.linear or not layer.weights:
        yield seen
        return

    def observed(value: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(np.array(to_numpy(value)))
        return activation(value, *args, **kwargs)

    layer.__dict__["activation"] = observed
    try:
        yield seen
    finally:
        layer.__dict__["activation"] = activation


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
