"""Convert matrix products, einsum and attention."""

from typing import Any

from keras3conv.builder.program.program import Order, Value, identity
from keras3conv.builder.to_keras.broadcasting import elementwise, sign
from keras3conv.builder.to_keras.call import Call, Constant, Held, Result, handles, ops
from keras3conv.builder.to_keras.operations_axes import reshaped
from keras3conv.errors import RuleError
from keras3conv.model.graph import Shape

_BATCH_LETTERS = "abcdefg"


def matmul(call: Call, left: Value, right: Value, shape: Shape) -> Value:
    """Multiply two values like torch.matmul; use an einsum if an operand is not in torch's axis order."""
    if left.rank < 2 or right.rank < 2:
        vectors = [call.ordered(value, identity(value.rank)) for value in (left, right)]
        return call.step(ops.matmul(*vectors), shape, dtype="float32")
    plain = left.order == identity(left.rank) and right.order == identity(right.rank)
    same_batch = left.shape[:-2] == right.shape[:-2] or right.rank == 2
    if plain or not same_batch:
        values = [call.ordered(value, identity(value.rank)) for value in (left, right)]
        return call.step(ops.matmul(*values), shape, dtype="float32")
    batch = _BATCH_LETTERS[: left.rank - 2]
    names = f"{batch}mk", f"{batch if right.rank == left.rank else ''}kn"
    written = ["".join(name[axis] for axis in value.order) for name, value in zip(names, (left, right), strict=True)]
    order = _order_of_product(left, right)
    made = "".join(f"{batch}mn"[axis] for axis in order)
    return call.step(ops.einsum(f"{','.join(written)}->{made}", left, right), shape, order, dtype="float32")


def _order_of_product(left: Value, right: Value) -> Order:
    """Return the axis order of a product: that of the right operand if its columns are the last axis, else torch's.

    The product of weights (batch, heads, m, n) and values that are stored as (batch, n, heads, size) is then stored as
    (batch, m, heads, size), whose heads can be joined without a permutation.
    """
    last = left.rank - 1
    return right.order if right.rank == left.rank and right.order[-1] == last else identity(left.rank)


@handles("matmul", "bmm", "mm")
def _matmul(call: Call) -> Result:
    right = call.arguments.get("other", call.arguments.get("mat2"))
    return matmul(call, call.value("self"), call.writer.value(right), call.shape)


@handles("mv")
def _matrix_and_vector(call: Call) -> Result:
    left, right = call.ordered(call.arguments["self"], (0, 1)), call.ordered(call.arguments["vec"], (0,))
    return call.step(ops.matmul(left, right))


@handles("dot", "vdot")
def _vectors(call: Call) -> Result:
    other = call.arguments.get("tensor", call.arguments.get("other"))
    return call.step(ops.sum(ops.multiply(call.value("self"), call.writer.value(other))))


@handles("_weight_norm")
def _weight_norm(call: Call) -> Result:
    """Scale a weight to a given norm along all axes but one."""
    value, scale = call.value("v"), call.value("g")
    kept = call.get("dim", 0)
    axes = tuple(axis for axis in range(value.rank) if axis != kept % value.rank) if kept != -1 else None
    square = ops.sum(ops.square(value), axis=axes, keepdims=True)
    return call.step(value * (scale / ops.sqrt(square)))


@handles("baddbmm")
def _baddbmm(call: Call) -> Result:
    made = matmul(call, call.value("batch1"), call.value("batch2"), call.shape)
    alpha, beta = call.get("alpha", 1), call.arguments.get("beta", 1)
    if alpha != 1:
        made = elementwise(call, [made], lambda value: value * alpha)
    if beta == 0:
        return made
    if beta != 1:
        raise RuleError("baddbmm with a factor beta")
    return elementwise(call, [call.arguments["self"], made], lambda first, second: sign(call, "+", first, second))


@handles("einsum")
def _einsum(call: Call) -> Result:
    left, _, right = call.arguments["equation"].replace(" ", "").partition("->")
    if "..." in left or not right:
        raise RuleError("einsum with an ellipsis or without a result is not supported")
    values = [call.writer.value(one) for one in call.arguments["tensors"]]
    names = left.split(",")
    written = ["".join(name[axis] for axis in value.order) for name, value in zip(names, values, strict=True)]
    return call.step(ops.einsum(f"{','.join(written)}->{right}", *values))


@handles("scaled_dot_product_attention")
def _attention(call: Call) -> Result:
    """Convert attention: Keras takes (batch, length, heads, size), torch (batch, heads, length, size)."""
    values = [call.value(name) for name in ("query", "key", "value")]
    if any(value.rank != 4 for value in values):
        raise RuleError("scaled_dot_product_attention is supported for tensors of four axes only")
    if call.get("dropout_p", 0.0):
        raise RuleError("scaled_dot_product_attention with dropout in evaluation mode")
    order = (0, 2, 1, 3)
    options: dict[str, Any] = {}
    if call.get("is_causal", False):
        options["is_causal"] = True
    if call.get("scale") is not None:
        options["scale"] = call.arguments["scale"]
    mask = call.get("attn_mask")
    if mask is not None and not _masks_nothing(mask):
        name = "mask" if mask.dtype == "bool" else "bias"
        options[name] = _mask(call, mask)
    given = [call.ordered(value, order) for value in values]
    query, value = values[0], values[2]
    shape = (*query.shape[:3], value.shape[3])
    return call.step(ops.dot_product_attention(*given, **options), shape, order)


def _masks_nothing(mask: Any) -> bool:
    if not isinstance(mask, Constant):
        return False
    return bool(mask.array.all() if mask.dtype == "bool" else not mask.array.any())


def _mask(call: Call, mask: Any) -> Value:
    """Return the mask as a value with four axes."""
    shape = mask.array.shape if isinstance(mask, Constant) else mask.shape
    full = (1,) * (4 - len(shape)) + tuple(shape)
    if isinstance(mask, Constant):
        array = mask.array.reshape([size for size in full if isinstance(size, int)])
        return call.writer.value(Constant(name=f"{mask.name} mask", array=array, shape=full))
    value = call.writer.value(mask) if isinstance(mask, Held) else mask
    return call.ordered(reshaped(call, value, full), identity(4))


__all__ = ["matmul"]
