"""Replace methods and functions of Keras while a model runs, to observe its calls.

Keras has no hooks like those of PyTorch, so a method such as `Layer.__call__` is replaced for the duration of a `with`
block. Other modules replace nothing, or do it by `replaced`, as `float64_kernels` does. Every context manager
here restores the original on exit, also after an exception.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import keras
import numpy as np

from keras3conv.frameworks.keras.internals import NODE_MODULES, tensorflow
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
