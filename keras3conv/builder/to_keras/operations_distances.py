"""Convert `cdist`, the distances between the rows of two tensors."""

from typing import Any

from keras3conv.builder.program.program import identity
from keras3conv.builder.to_keras.call import Call, Result, handles, ops
from keras3conv.errors import RuleError


@handles("cdist")
def _cdist(call: Call) -> Result:
    """Convert `cdist`, the distances of all pairs of rows; the gradient of a distance of zero is zero, as in torch."""
    order = float(call.get("p", 2.0))
    first, second = (call.ordered(call.arguments[name], identity(len(call.shape))) for name in ("x1", "x2"))
    if first.rank != second.rank:
        raise RuleError("cdist is supported only for two tensors with the same number of axes")
    pairs = (*call.shape, first.shape[-1])
    apart = ops.subtract(ops.expand_dims(first, -2), ops.expand_dims(second, -3))
    difference = call.step(apart, pairs, dtype=first.dtype)
    if order == float("inf"):
        return call.step(ops.max(ops.abs(difference), axis=-1))
    if order == 1:
        return call.step(ops.sum(ops.abs(difference), axis=-1))
    if order != 2:
        raise RuleError(f"cdist is supported only with p=1, p=2 and p=inf, not p={order}")
    total = call.step(ops.sum(ops.square(difference), axis=-1))
    return call.step(_root(total))


def _root(total: Any) -> Any:
    is_zero = ops.equal(total, 0.0)
    return ops.where(is_zero, 0.0, ops.sqrt(ops.where(is_zero, 1.0, total)))
