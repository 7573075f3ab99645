"""Correct the shapes that Keras infers wrongly for symbolic tensors."""

from typing import Any

import keras

from keras3conv.frameworks.keras.operations import arguments_of


def corrected(operation: keras.Operation, args: Any, kwargs: Any, outputs: Any) -> Any:
    """Return the symbolic outputs of an operation with the shape that the operation computes.

    Keras infers the shape of the query for the result of `dot_product_attention`, but the last axis of the result is
    that of the value. Without the correction, a `MultiHeadAttention` with unequal value_dim and key_dim raises.

    Args:
        operation: The operation that was called.
        args: The positional arguments of the call.
        kwargs: The keyword arguments of the call.
        outputs: What Keras inferred.
    """
    if type(operation).__name__ != "DotProductAttention":
        return outputs
    value = arguments_of(operation, args, kwargs)["value"]
    return keras.KerasTensor((*outputs.shape[:-1], value.shape[-1]), dtype=outputs.dtype)
