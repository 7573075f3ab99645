"""Convert bags of embeddings: for each sample, the sum, mean or maximum of the table rows that its indices select."""

from dataclasses import replace
from typing import Any

from keras3conv.builder.program.operation import Dtype
from keras3conv.builder.program.program import Value, identity
from keras3conv.builder.to_keras.call import Call, Result, handles, ops
from keras3conv.builder.to_keras.operations_layers import embedded
from keras3conv.errors import RuleError
from keras3conv.model.graph import Tensor

_SUM, _MEAN, _MAXIMUM = 0, 1, 2
"""The modes of torch's `embedding_bag` as the operator numbers them: sum, mean, maximum."""


@handles("embedding_bag")
def _bag(call: Call) -> Result:
    if not call.get("has_rows", False):
        raise RuleError(
            "an embedding bag with offsets is not supported, because the sizes of the bags depend on their values: "
            "pass indices with two axes"
        )
    indices, width = call.value("indices"), call.arguments["weight"].shape[1]
    rows = Tensor(name=call.node.outputs[0].name, shape=(*indices.shape, width))
    value = call.writer.value(embedded(Call(replace(call.node, outputs=(rows,)), call.arguments, call.writer)))
    value = call.ordered(value, identity(3))
    if (factors := call.get("per_sample_weights")) is not None:
        scale = ops.expand_dims(call.ordered(factors, identity(2)), -1)
        value = call.step(value * scale, value.shape, dtype=value.dtype)
    padding = call.get("padding_idx", -1)
    kept = None if padding < 0 else _kept(call, indices, padding)
    made = _reduced(call, value, kept)
    return [call.step(made), *(None for _ in call.node.outputs[1:])]


def _kept(call: Call, indices: Value, padding: int) -> Value:
    """Return a mask of the rows of each bag: False where the index is `padding`, so that the bag leaves the row out."""
    plain = call.ordered(indices, identity(2))
    return call.step(ops.expand_dims(ops.not_equal(plain, padding), -1), (*plain.shape, 1), dtype="bool")


def _reduced(call: Call, value: Value, kept: Value | None) -> Any:
    """Return the expression for the sum, mean or maximum of the rows of each bag; an empty bag gives zero.

    Args:
        call: The call, which has the argument `mode`: sum, mean or max.
        value: The rows, along the second axis.
        kept: A mask of the rows that are reduced; None if all are.
    """
    mode = call.get("mode", _SUM)
    if kept is None:
        return ops.named(("sum", "mean", "max")[mode])(value, axis=1)
    if mode == _MAXIMUM:
        found = ops.max(ops.where(kept, value, float("-inf")), axis=1)
        return ops.where(ops.any(kept, axis=1), found, 0.0)
    number = ops.cast(kept, Dtype("float32"))
    total = ops.sum(value * number, axis=1)
    return total / ops.maximum(ops.sum(number, axis=1), 1.0) if mode == _MEAN else total
