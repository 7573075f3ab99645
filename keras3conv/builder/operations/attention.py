"""Convert attention, and stacks of recurrent cells, to torch functions and modules of keras3conv."""

from typing import Any

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.operations.expressions import (
    F,
    converted,
    dtype_of,
    fixed,
    number,
    torch,
)
from keras3conv.builder.operations.recurrent import masked
from keras3conv.builder.program.names import OWN_LAYERS
from keras3conv.builder.program.operation import Expression
from keras3conv.builder.program.program import Order, Value


@handles("keras.layers.Attention", "keras.layers.AdditiveAttention", "keras.layers.GroupQueryAttention")
def _attention(call: Call) -> None:
    """Convert a Keras attention layer.

    Keras takes query, value and optional key in one list; torch takes three arguments.
    """
    for name in ("mask", "query_mask", "value_mask", "key_mask", "attention_mask"):
        given = call.get(name)
        if any(part is not None for part in (given if isinstance(given, list | tuple) else (given,))):
            raise call.refuse(
                f"the argument {name} of an attention layer is not supported: mask the tensors with operations before "
                "the layer"
            )
    if call.get("return_attention_scores"):
        raise call.refuse(
            "return_attention_scores=True is not supported: the torch module returns no scores; call the layer "
            "without it"
        )
    given = [call.keras_order(value) for value in call.tensors]
    settings = {"is_causal": True} if call.get("use_causal_mask") else {}
    call.returns(call.builder.rule_module(call, OWN_LAYERS)(*given, **settings))


@handles("keras.layers.RNN")
def _cells(call: Call) -> None:
    if call.get("mask") is not None:
        masked(call)
        return
    if call.get("initial_state") is not None:
        raise call.refuse(
            "the argument initial_state is not supported: the torch module always starts from a zero state"
        )
    if call.get("return_state"):
        raise call.refuse(
            "return_state=True is not supported for this layer: the torch module returns only the outputs"
        )
    given: Value = call.keras_order(call["sequences"])
    call.returns(call.builder.rule_module(call, OWN_LAYERS)(given))


_HEADS_SECOND: Order = (0, 2, 1, 3)


@handles("keras.ops.dot_product_attention")
def _dot_product_attention(call: Call) -> None:
    """Convert `dot_product_attention`. torch has the head axis before the sequence axis, Keras after it."""
    if call["attn_logits_soft_cap"] is not None:
        raise call.refuse("the argument attn_logits_soft_cap is not supported: torch's attention has no counterpart")
    query, key, value = (call.order(call[name], _HEADS_SECOND) for name in ("query", "key", "value"))
    options: dict[str, Any] = {}
    if call["mask"] is not None or call["bias"] is not None:
        options["attn_mask"] = _attention_mask(call, query)
    elif call["is_causal"]:
        options["is_causal"] = True
    if call["scale"] is not None:
        options["scale"] = number(call["scale"], "scale", call)
    heads = [fixed(call, one.shape[2], "the number of heads") for one in (query, key)]
    if heads[0] != heads[1]:
        options["enable_gqa"] = True
    call.returns(F.scaled_dot_product_attention(query, key, value, **options), _HEADS_SECOND)


def _attention_mask(call: Call, query: Value) -> Expression:
    """Return the tensor that torch adds to the attention scores: the bias of the call, or its boolean mask as numbers.

    The numbers are very negative for masked keys. A boolean mask would give NaN for a row in which all keys are masked;
    Keras avoids that with a finite number.

    Args:
        call: The call, which has a mask or a bias.
        query: The query, whose dtype the numbers get.
    """
    mask, bias = call["mask"], call["bias"]
    if mask is not None and bias is not None:
        raise call.refuse(
            "dot_product_attention is supported with a mask or a bias, not with both; add the mask to the bias"
        )
    if call["is_causal"]:
        raise call.refuse(
            "is_causal=True together with a mask or a bias is not supported, because Keras' backends differ; make "
            "the mask causal"
        )
    if mask is None:
        return call.keras_order(bias)
    mask = converted(call, call.keras_order(mask), "bool")
    lowest = torch.finfo(dtype_of(query)).attribute("min")
    return (~mask).method("to", dtype_of(query)) * (lowest / 2)
