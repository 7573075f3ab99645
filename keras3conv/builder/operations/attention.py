"""Convert attention layers and stacks of recurrent cells to torch modules of keras3conv."""

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.operations.recurrent import masked
from keras3conv.builder.program.names import OWN_LAYERS
from keras3conv.builder.program.program import Value


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
    call.returns(call.rule_module(OWN_LAYERS)(*given, **settings))


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
    call.returns(call.rule_module(OWN_LAYERS)(given))
