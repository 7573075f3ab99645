"""Report the part of a model that cannot be called with symbolic tensors; correct shapes that Keras infers wrongly."""

from typing import Any

import keras

from keras3conv.errors import ModelError, Problem
from keras3conv.frameworks.keras import model as keras_side
from keras3conv.frameworks.keras.operations import arguments_of, kind_of_operation
from keras3conv.frameworks.keras.tracing.unsupported import UnsupportedCall
from keras3conv.frameworks.keras.tree import variables_of
from keras3conv.messages import lay_out
from keras3conv.rules.rule import stub


def cannot_follow(path: str, layer: keras.layers.Layer, error: Exception) -> Problem:
    """Return the problem that the code of a layer cannot be called with symbolic tensors.

    Args:
        path: The path of the layer.
        layer: The layer.
        error: The exception that its code raised.
    """
    kind = keras_side.kinds_of(layer)[0] if keras_side.kinds_of(layer) else type(layer).__qualname__
    message = keras_side.error_message(error)
    if isinstance(error, AttributeError) and "'KerasTensor' object has no attribute 'assign" in message:
        fact = f"{kind} changes a variable in its call, but a torch module keeps no state between calls: {_STATELESS}"
        return Problem(keras=path, fact=fact)
    if isinstance(error, UnsupportedCall):
        line = (f"{error.line}  # {path}",) if error.line else ()
        return Problem(keras=path, fact=message, fixes=(*line, stub(kind, _roles(layer))))
    return Problem(
        keras=path,
        fact=f"{kind} cannot be traced with symbolic tensors: {type(error).__name__}: {message}",
        fixes=(stub(kind, _roles(layer)),),
    )


def _roles(layer: keras.layers.Layer) -> list[str]:
    return [role for role, _ in variables_of(layer)]


_STATELESS = "pass the state as one more input and return the new one, or change it in training only"


def cannot_call(model: keras.layers.Layer, error: Exception, problems: list[Problem]) -> ModelError:
    """Return the error for a model that cannot be called with symbolic tensors.

    Args:
        model: The model.
        error: The exception that the call raised.
        problems: The problems so far, which the error lists.
    """
    fact = f"{type(error).__name__}: {keras_side.error_message(error)}"
    return ModelError(
        lay_out(
            f"{model.name} (keras) cannot be called with symbolic tensors",
            [*problems, Problem(keras=model.name, fact=fact)],
        )
    )


def corrected(operation: keras.Operation, args: Any, kwargs: Any, outputs: Any) -> Any:
    """Return the symbolic outputs of an operation with the shape that the operation computes.

    Keras infers the shape of the query for the result of `dot_product_attention`, but the last axis of the result is
    that of the value. Without the correction, a `MultiHeadAttention` with unequal value_dim and key_dim raises. The two
    results of `slogdet` have the axes of the batch, which Keras leaves out.

    Args:
        operation: The operation that was called.
        args: The positional arguments of the call.
        kwargs: The keyword arguments of the call.
        outputs: The outputs with the shapes that Keras inferred.
    """
    kind = kind_of_operation(operation)
    if kind == "keras.ops.slogdet":
        x = arguments_of(operation, args, kwargs)["x"]
        return tuple(keras.KerasTensor(x.shape[:-2], dtype=x.dtype) for _ in outputs)
    if kind != "keras.ops.dot_product_attention":
        return outputs
    value = arguments_of(operation, args, kwargs)["value"]
    return keras.KerasTensor((*outputs.shape[:-1], value.shape[-1]), dtype=outputs.dtype)
