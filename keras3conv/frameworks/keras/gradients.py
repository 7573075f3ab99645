"""Run one backward pass of a Keras model with the automatic differentiation of its backend."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import keras
import numpy as np
import torch

from keras3conv.errors import ModelError, Problem
from keras3conv.frameworks.keras.observing import Original, layer_calls
from keras3conv.frameworks.keras.state import state_kept
from keras3conv.frameworks.keras.tree import named_layers, variables_by_path
from keras3conv.frameworks.keras.values import backend, error_message, raised_by_keras, to_numpy, to_tensors
from keras3conv.frameworks.shared.inputs import flatten
from keras3conv.frameworks.shared.recording import Backward
from keras3conv.frameworks.torch.modes import precise as torch_precise
from keras3conv.frameworks.torch.tensors import to_numpy as torch_to_numpy
from keras3conv.garbage import collect_after_a_run
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
    """Return the gradients of a weighted sum of all output elements. The model is unchanged afterwards.

    The model runs with its current dtype and values; casting it and writing other values is up to the caller.

    Args:
        model: The model.
        inputs: An array, a list of arrays or a dict by name; a tuple has several positional arguments.
        weights: For each output by name, the weight of each of its elements in the sum.
        of: The paths of the variables whose gradients are returned.
        training: The paths of the layers that run in training mode; all others run in inference mode.

    Raises:
        ModelError: The model raised.
    """
    variables = variables_by_path(model)
    wanted = {path: variables[path] for path in of}
    others = {path: variable for path, variable in variables.items() if path not in wanted}
    args = to_tensors(inputs if isinstance(inputs, tuple) else (inputs,))
    kept = {path: np.array(to_numpy(variable)) for path, variable in others.items()}

    def loss() -> Any:
        outputs = dict(flatten(model(*args, training=False), keras.ops.is_tensor))
        return sum(keras.ops.sum(outputs[name] * to_tensors(weight)) for name, weight in weights.items())

    differentiate = {"torch": _with_torch, "jax": _with_jax, "tensorflow": _with_tensorflow}[backend()]
    try:
        with state_kept(model), _training(model, training):
            found, states = differentiate(loss, wanted, others)
    except raised_by_keras() as error:
        problem = Problem(keras=model.name, fact=f"{type(error).__name__}: {error_message(error)}")
        raise ModelError(lay_out(f"Keras raised an exception in a backward pass on {backend()}", [problem])) from error
    finally:
        for path, value in kept.items():
            others[path].assign(value)
    collect_after_a_run()
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


def _training(model: keras.layers.Layer, paths: Collection[str]) -> AbstractContextManager[None]:
    """Call some layers in training mode inside the `with` block; other layers run in the mode of their caller.

    Args:
        model: The model.
        paths: The paths of the layers to call in training mode.
    """
    chosen = {id(layer) for path, layer in named_layers(model) if path in paths}

    def handle(original: Original, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if id(layer) not in chosen:
            return original(layer, *args, **kwargs)
        context = layer._get_call_context()
        mode = context.get_value("training")
        try:
            return original(layer, *args, **{**kwargs, "training": True})
        finally:
            context.set_value("training", mode)  # Keras keeps it for the later calls in the code of the caller

    return layer_calls(handle)


def _torch_gradients(loss: Callable[[], Any], tensors: Sequence[torch.Tensor]) -> list[Array]:
    """Return the gradients of a loss with respect to tensors; zero if the loss does not depend on a tensor."""
    flags = [tensor.requires_grad for tensor in tensors]
    try:
        for tensor in tensors:
            tensor.requires_grad_()
        with torch.enable_grad(), torch_precise():
            found: tuple[torch.Tensor | None, ...] = torch.autograd.grad(loss(), list(tensors), allow_unused=True)
    finally:
        for tensor, flag in zip(tensors, flags, strict=True):
            tensor.requires_grad_(flag)
    pairs = zip(tensors, found, strict=True)
    return [torch_to_numpy(torch.zeros_like(old) if new is None else new) for old, new in pairs]
