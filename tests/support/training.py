"""Run both sides of a trial in training mode, and compute their gradients, in float64."""

import copy
from contextlib import ExitStack
from typing import Any

import keras
import numpy as np
import torch

from keras3conv.frameworks.keras import model as keras_side
from keras3conv.frameworks.shared.inputs import flatten
from keras3conv.frameworks.torch import module as torch_side
from keras3conv.frameworks.torch.float64 import Float64, Float64Kernels
from keras3conv.transforms import Array, Shape
from tests.support.trials import (
    Tensors,
    Trial,
    as_keras_returns,
    call_layers,
    enter_float64,
    keras_tensor,
    keras_tensors,
    tensors_in,
    to_keras_layout,
    torch_tensors,
    wide,
)


def torch_training(trial: Trial) -> tuple[list[Array], Tensors]:
    """Call the torch layer once in float64 and in training mode; return the outputs and the updated tensors."""
    module = copy.deepcopy(trial.module).double().train()
    given = tuple(torch_side.to_torch(wide(array)) for array in trial.inputs)
    with Float64(trial.module):
        value = module(*trial.rule.torch_arguments(given))
    outputs = [np.array(torch_side.to_numpy(tensor)) for tensor in tensors_in(value)]
    return as_keras_returns(trial, tuple(outputs)), torch_tensors(module)


def keras_training(trial: Trial) -> tuple[list[Array], Tensors]:
    """Call the Keras layers once in float64 and in training mode; return the outputs and the updated variables."""
    with ExitStack() as contexts:
        contexts.enter_context(keras_side.precise())  # as in the laws, so JAX compiles nothing twice
        enter_float64(contexts, trial.layers)
        given = tuple(keras_tensor(trial, array) for array in trial.inputs)
        value = call_layers(trial, given, lambda layer, args: layer(*args, training=True))
        outputs = [np.array(keras_side.to_numpy(tensor)) for _, tensor in flatten(value, keras.ops.is_tensor)]
        return outputs[:1] if trial.rule.output is not None else outputs, keras_tensors(trial)


def torch_gradients(trial: Trial) -> tuple[list[Array], Tensors]:
    """Return the float64 gradients of a weighted sum of the output: of the inputs (Keras' layout) and the tensors."""
    module = copy.deepcopy(trial.module).double()
    inputs = tuple(torch_side.to_torch(wide(array)) for array in trial.inputs)
    for tensor in inputs:
        tensor.requires_grad_(tensor.is_floating_point())
    with Float64Kernels(), Float64(trial.module):  # without the float32 constants in some of torch's gradients
        output = tensors_in(module(*trial.rule.torch_arguments(inputs)))[0]
    (output * torch_side.to_torch(_cotangent(tuple(output.shape)))).sum().backward()
    real = [tensor for tensor in inputs if tensor.is_floating_point()]
    return (
        [to_keras_layout(trial.rule, trial.config, _gradient(tensor)) for tensor in real],
        {name: _gradient(tensor) for name, tensor in module.named_parameters()},
    )


def keras_gradients(trial: Trial) -> tuple[list[Array], Tensors]:
    """Return the same gradients on the Keras side, by the automatic differentiation of the backend."""
    arguments = trial.rule.torch_arguments(trial.inputs)
    outputs = [*torch_side.run(trial.module, arguments, float64=True).outputs.values()]
    cotangent = as_keras_returns(trial, (_cotangent(outputs[0].shape), *outputs[1:]))[0]
    differentiate = {"torch": _differentiate_torch, "jax": _differentiate_jax, "tensorflow": _differentiate_tensorflow}
    with ExitStack() as contexts:
        enter_float64(contexts, trial.layers)
        inputs = [keras_tensor(trial, array) for array in trial.inputs]
        return differentiate[keras_side.backend()](trial, inputs, cotangent)


def _trained(trial: Trial) -> dict[str, keras.Variable]:
    """Return the trainable variables by role."""
    return {role: variable for role, variable in trial.variables.items() if variable.trainable}


def _infer(trial: Trial, inputs: list[Any]) -> Any:
    return _first(call_layers(trial, tuple(inputs), lambda layer, args: layer(*args, training=False)))


def _differentiate_torch(trial: Trial, inputs: list[Any], cotangent: Array) -> tuple[list[Array], Tensors]:
    real = [tensor.requires_grad_() for tensor in inputs if tensor.is_floating_point()]
    (_infer(trial, inputs) * torch_side.to_torch(np.array(cotangent))).sum().backward()
    of_variables = {role: _gradient(variable.value) for role, variable in _trained(trial).items()}
    return [_gradient(tensor) for tensor in real], of_variables


def _differentiate_jax(trial: Trial, inputs: list[Any], cotangent: Array) -> tuple[list[Array], Tensors]:
    import jax

    real = [place for place, tensor in enumerate(inputs) if "float" in str(tensor.dtype)]
    variables = _trained(trial)

    def loss(reals: list[Any], values: list[Any]) -> Any:
        given = [*inputs]
        for place, tensor in zip(real, reals, strict=True):
            given[place] = tensor
        with keras.StatelessScope(state_mapping=list(zip(variables.values(), values, strict=True))):
            output = _infer(trial, given)
        return (output * cotangent).sum()

    values = [variable.value for variable in variables.values()]
    of_inputs, of_variables = jax.jit(jax.grad(loss, argnums=(0, 1)))([inputs[place] for place in real], values)
    named = {role: np.asarray(value) for role, value in zip(variables, of_variables, strict=True)}
    return [np.asarray(value) for value in of_inputs], named


def _differentiate_tensorflow(trial: Trial, inputs: list[Any], cotangent: Array) -> tuple[list[Array], Tensors]:
    import tensorflow as tf

    variables = {role: variable.value for role, variable in _trained(trial).items()}
    real = [tensor for tensor in inputs if tensor.dtype.is_floating]
    with tf.GradientTape() as tape:
        tape.watch(real)
        loss = tf.reduce_sum(_infer(trial, inputs) * cotangent)
    of_inputs, of_variables = tape.gradient(loss, (real, list(variables.values())))
    named = {role: tf.convert_to_tensor(tensor).numpy() for role, tensor in zip(variables, of_variables, strict=True)}
    return [tensor.numpy() for tensor in of_inputs], named


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple | list) else value


def _gradient(tensor: torch.Tensor) -> Array:
    """Return the gradient of a tensor; zero where the output does not depend on it."""
    gradient = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
    return np.array(torch_side.to_numpy(gradient))


def _cotangent(shape: Shape) -> Array:
    return np.random.default_rng(11).uniform(0.5, 1.5, shape)
