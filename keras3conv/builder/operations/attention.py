"""Attention that our own modules say in one layer, and stacks of cells: how they are called."""

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.operations.recurrent import masked
from keras3conv.builder.program.names import OWN_LAYERS
from keras3conv.builder.program.program import Value


@handles("keras.layers.Attention", "keras.layers.AdditiveAttention", "keras.layers.GroupQueryAttention")
def _attention(call: Call) -> None:
    """Query, value and perhaps key: one list on the Keras side, arguments on the other."""
    for name in ("mask", "query_mask", "value_mask", "key_mask", "attention_mask"):
        given = call.get(name)
        if any(part is not None for part in (given if isinstance(given, list | tuple) else (given,))):
            raise call.refuse(f"{name} is not supported: say it with operations before the layer")
    if call.get("return_attention_scores"):
        raise call.refuse("return_attention_scores=True is not supported: torch's module returns no scores")
    given = [call.keras_order(value) for value in call.tensors]
    causal = ", is_causal=True" if call.get("use_causal_mask") else ""
    template = ", ".join(f"{{{place}}}" for place in range(len(given)))
    call.returns(f"{{module}}({template}{causal})", given, module=call.rule_module(OWN_LAYERS))


@handles("keras.layers.RNN")
def _cells(call: Call) -> None:
    if call.get("mask") is not None:
        masked(call)
        return
    if call.get("initial_state") is not None:
        raise call.refuse("an initial state is not supported: torch's module begins with zeros")
    if call.get("return_state"):
        raise call.refuse("return_state=True is not supported")
    given: Value = call.keras_order(call["sequences"])
    call.returns("{module}({0})", [given], module=call.rule_module(OWN_LAYERS))
