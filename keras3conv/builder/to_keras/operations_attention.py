"""Convert attention operators.

The query, key and value have the axes (batch, length, heads, size) in Keras, and (batch, heads, length, size) in torch.
"""

from typing import Any

import numpy as np

from keras3conv.builder.program.program import Order, Value, identity
from keras3conv.builder.to_keras.broadcasting import elementwise
from keras3conv.builder.to_keras.call import Call, Result, handles, ops
from keras3conv.builder.to_keras.forms import Constant, Held
from keras3conv.builder.to_keras.operations_axes import reshaped
from keras3conv.errors import RuleError

_ORDER: Order = (0, 2, 1, 3)
_NEVER = -1e30
"""An attention score so low that softmax gives it the weight zero."""


@handles("scaled_dot_product_attention")
def _attention(call: Call) -> Result:
    values = [call.value(name) for name in ("query", "key", "value")]
    if any(value.rank != 4 for value in values):
        raise RuleError(
            "scaled_dot_product_attention is supported only if query, key and value have four axes: (batch, heads, "
            "steps, size)"
        )
    given = [call.ordered(value, _ORDER) for value in values]
    if given[1].shape[1] != given[0].shape[1]:  # groups of queries share a head, which TensorFlow and JAX refuse
        given[1:] = [_repeated(call, one, given[0].shape[1]) for one in given[1:]]
    mask = call.get("attn_mask")
    mask = None if mask is None or masks_nothing(mask) else mask
    rate = float(call.get("dropout_p", 0.0) or call.node.config.get("dropout", 0.0))
    is_even = given[0].shape[3] == given[2].shape[3]  # else jax.nn.dot_product_attention refuses
    made = _fused(call, given, mask) if is_even and not rate else _written_out(call, given, mask)
    return made if mask is None else _without_masked_rows(call, made, mask)


def _fused(call: Call, inputs: list[Value], mask: Any) -> Value:
    options: dict[str, Any] = {}
    if call.get("is_causal", False):
        options["is_causal"] = True
    if call.get("scale") is not None:
        options["scale"] = call.arguments["scale"]
    if mask is not None:
        options["mask" if mask.dtype == "bool" else "bias"] = _mask(call, mask)
    shape = (*inputs[0].shape[:3], inputs[2].shape[3])
    return call.step(ops.dot_product_attention(*inputs, **options), shape, _ORDER)


def _written_out(call: Call, inputs: list[Value], mask: Any) -> Value:
    """Convert a scaled dot-product attention to matrix products and a softmax, and return its output.

    Args:
        call: The call of the operator.
        inputs: The query, the key and the value, in this order.
        mask: The attention mask; None for none.
    """
    query, key, value = inputs
    size = query.shape[3]
    if not isinstance(size, int):
        raise RuleError(
            "the size of a head (the last axis of the query) is dynamic, but scaled_dot_product_attention with "
            "dropout needs a fixed size"
        )
    shape, plain = (*query.shape[:3], key.shape[2]), identity(4)
    products = call.step(ops.einsum("bthd,bshd->bhts", query, key), shape, plain, query.dtype)
    weights = scored_weights(call, products, size, mask)
    made = (*query.shape[:3], value.shape[3])
    return call.step(ops.einsum("bhts,bshd->bthd", weights, value), made, _ORDER)


def scored_weights(call: Call, products: Value, size: int, mask: Any) -> Value:
    """Return the attention weights: the softmax of the scaled and masked scores, after a dropout if the call has one.

    Args:
        call: The call of the operator.
        products: The matrix products of queries and keys, in torch's axis order.
        size: The size of a head.
        mask: The attention mask; None for none.
    """
    scale, plain, shape = call.get("scale"), identity(products.rank), products.shape
    scores = call.step(products * float(size**-0.5 if scale is None else scale), shape, plain, products.dtype)
    if call.get("is_causal", False):
        allowed = ops.tril(ops.ones_like(scores)) > 0
        scores = call.step(ops.where(allowed, scores, _NEVER), shape, plain, products.dtype)
    if mask is not None and mask.dtype == "bool":
        scores = call.step(ops.where(_mask(call, mask), scores, _NEVER), shape, plain, products.dtype)
    elif mask is not None:
        scores = call.step(scores + _mask(call, mask), shape, plain, products.dtype)
    weights = call.step(ops.softmax(scores), shape, plain, products.dtype)
    rate = float(call.get("dropout_p", 0.0) or call.node.config.get("dropout", 0.0))
    return dropout(call, weights, rate) if rate else weights


def dropout(call: Call, value: Value, rate: float) -> Value:
    """Add the call of a Dropout layer with the given rate, and return its output."""
    made = call.writer.new(value.shape, value.order, value.dtype)
    name = f"{call.node.path}.dropout" if call.node.path else "dropout"
    call.writer.layer("keras.layers.Dropout", {"rate": rate}, value, (), name, made)
    return made


def _repeated(call: Call, value: Value, heads: Any) -> Value:
    own = value.shape[1]
    if not isinstance(heads, int) or not isinstance(own, int) or heads % own:
        raise RuleError(
            f"the number of heads of the query ({heads}) must be a multiple of the number of heads of key and value "
            f"({own})"
        )
    shape = (value.shape[0], heads, *value.shape[2:])
    return call.step(ops.repeat(value, heads // own, axis=2), shape, _ORDER, value.dtype)


def masks_nothing(mask: Any) -> bool:
    """Return whether a mask is a constant that masks no position."""
    if not isinstance(mask, Constant):
        return False
    return bool(mask.array.all() if mask.dtype == "bool" else not mask.array.any())


def _mask(call: Call, mask: Any) -> Value:
    """Return an attention mask as a value with four axes, as Keras takes it; a missing leading axis gets size one."""
    shape = mask.array.shape if isinstance(mask, Constant) else mask.shape
    full = (1,) * (4 - len(shape)) + tuple(shape)
    if isinstance(mask, Constant):
        array = mask.array.reshape([size for size in full if isinstance(size, int)])
        return call.writer.value(Constant(name=f"{mask.name} mask", array=array, shape=full))
    value = call.writer.value(mask) if isinstance(mask, Held) else mask
    return call.ordered(reshaped(call, value, full), identity(4))


def masks_rows(mask: Any) -> bool:
    """Return whether a mask may hide all keys of a query: then torch returns zeros, Keras the mean of the values."""
    return not _allowed_rows(mask).all() if isinstance(mask, Constant) else bool(mask.dtype == "bool")


def _allowed_rows(mask: Constant) -> Any:
    is_allowed = mask.array if mask.dtype == "bool" else mask.array != -np.inf
    return np.asarray(is_allowed).any(-1, keepdims=True)


def _without_masked_rows(call: Call, output: Value, mask: Any) -> Value:
    """Return the output of an attention with zeros for each query whose keys are all masked, as in torch.

    Args:
        call: The call of the operator.
        output: The output as Keras computes it, which has the mean of the values for such a query.
        mask: The attention mask.
    """
    if not masks_rows(mask):
        return output
    if isinstance(mask, Constant):
        constant = Constant(name=f"{mask.name} rows", array=_allowed_rows(mask), shape=(*mask.shape[:-1], 1))
        return elementwise(call, [constant, output, 0.0], ops.where)
    value = call.ordered(mask, identity(len(mask.shape)))
    shape = (*value.shape[:-1], 1)
    attends = call.step(ops.any(value, axis=-1, keepdims=True), shape, dtype="bool")
    return elementwise(call, [attends, output, 0.0], ops.where)
