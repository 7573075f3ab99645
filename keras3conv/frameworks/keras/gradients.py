"""One backward pass of a Keras model, by its backend's own differentiation; the model is left as it was."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import torch

from keras3conv.errors import ModelError, Problem
from keras3conv.frameworks.keras.state import tensors_kept
from keras3conv.frameworks.keras.tree import named_layers, variables_of
from keras3conv.frameworks.keras.values import backend, raised_by_keras, to_numpy, to_tensors
from keras3conv.frameworks.shared.recording import Backward, flatten
from keras3conv.frameworks.torch import module as torch_side
from keras3conv.messages import lay_out
from keras3conv.transforms import Array

Variables = dict[str, keras.Variable]


def backward(
    model: keras.layers.Layer,
    inputs: object,
    weights: Mapping[str, Array],
    *,
    of: Collection[str],
    training: Collection[str] = (),
) -> Backward:
    """The gradients of the sum of all outputs, each element of which counts as much as its weight says.

    The model is run as it is: float64, and the values to run with, are the caller's business.

    Args:
        model: The model.
        inputs: What it is called with; see `keras_side.run`.
        weights: A weight for every element of the outputs that count, by the name of the output.
        of: The paths of the variables whose gradients are wanted.
        training: The paths of the layers that are in training mode; all others are in inference mode.

    Raises:
        ModelError: The model raised.
    """
    variables = {
        f"{path}/{role}" if path else role: variable
        for path, layer in named_layers(model)
        for role, variable in variables_of(layer)
    }
    wanted = {path: variables[path] for path in of}
    others = {path: variable for path, variable in variables.items() if path not in wanted}
    args = to_tensors(inputs if isinstance(inputs, tuple) else (inputs,))
    kept = {path: np.array(to_numpy(variable)) for path, variable in others.items()}

    def loss() -> Any:
        outputs = dict(flatten(model(*args, training=False), keras.ops.is_tensor))
        return sum(keras.ops.sum(outputs[name] * to_tensors(weight)) for name, weight in weights.items())

    differentiate = {"torch": _with_torch, "jax": _with_jax, "tensorflow": _with_tensorflow}[backend()]
    try:
        with tensors_kept(model), _training(model, training):
            found, states = differentiate(loss, wanted, others)
    except raised_by_keras() as error:
        problem = Problem(keras=model.name, fact=f"{type(error).__name__}: {str(error).strip().splitlines()[0]}")
        raise ModelError(lay_out(f"Keras raised in a backward pass on {backend()}", [problem])) from error
    finally:
        for path, value in kept.items():
            others[path].assign(value)
    return Backward(gradients=found, states=states)


def _with_torch(loss: Callable[[], Any], wanted: Variables, others: Variables) -> tuple[dict[str, Array], ...]:
    found = _torch_gradients(loss, [variable.value for variable in wanted.values()])
    return dict(zip(wanted, found, strict=True)), _values(others)


def _with_jax(loss: Callable[[], Any], wanted: Variables, others: Variables) -> tuple[dict[str, Array], ...]:
    import jax

    states: dict[str, Any] = {}

    def stateless(values: list[Any]) -> tuple[Any, dict[str, Any]]:
        with keras.StatelessScope(state_mapping=list(zip(wanted.values(), values, strict=True))) as scope:
            total = loss()
        return total, {path: scope.get_current_value(variable) for path, variable in others.items()}

    values = [variable.value for variable in wanted.values()]
    found, states = jax.grad(stateless, has_aux=True)(values)
    gradients = {path: np.asarray(value) for path, value in zip(wanted, found, strict=True)}
    return gradients, _values(others) | {path: np.asarray(value) for path, value in states.items() if value is not None}


def _with_tensorflow(loss: Callable[[], Any], wanted: Variables, others: Variables) -> tuple[dict[str, Array], ...]:
    import tensorflow as tf

    values = [variable.value for variable in wanted.values()]
    with tf.GradientTape() as tape:
        tape.watch(values)
        total = loss()
    found = tape.gradient(total, values, unconnected_gradients="zero")
    gradients = {path: tf.convert_to_tensor(value).numpy() for path, value in zip(wanted, found, strict=True)}
    return gradients, _values(others)


def _values(variables: Variables) -> dict[str, Array]:
    return {path: np.array(to_numpy(variable)) for path, variable in variables.items()}


@contextmanager
def _training(model: keras.layers.Layer, paths: Collection[str]) -> Iterator[None]:
    """Calls some layers in training mode."""
    chosen = {id(layer) for path, layer in named_layers(model) if path in paths}
    original = keras.layers.Layer.__call__

    def call(self: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        if id(self) in chosen:
            kwargs["training"] = True
        return original(self, *args, **kwargs)

    keras.layers.Layer.__call__ = call
    try:
        yield
    finally:
        keras.layers.Layer.__call__ = original


__all__ = ["backward"]


def _torch_gradients(loss: Callable[[], Any], tensors: Sequence[torch.Tensor]) -> list[Array]:
    """The gradients of what a function returns with respect to some tensors; zero where it does not depend on one."""
    flags = [tensor.requires_grad for tensor in tensors]
    try:
        for tensor in tensors:
            tensor.requires_grad_()
        with torch.enable_grad(), torch_side.precise():
            found: tuple[torch.Tensor | None, ...] = torch.autograd.grad(loss(), list(tensors), allow_unused=True)
    finally:
        for tensor, flag in zip(tensors, flags, strict=True):
            tensor.requires_grad_(flag)
    pairs = zip(tensors, found, strict=True)
    return [torch_side.to_numpy(torch.zeros_like(old) if new is None else new) for old, new in pairs]
