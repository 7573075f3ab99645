"""Convert embeddings, which Keras also calls with indices in floating-point numbers."""

from keras3conv.builder.operations.call import Call, handles


@handles("keras.layers.Embedding")
def _embedding(call: Call) -> None:
    """Convert an Embedding; as in Keras, indices in floating-point numbers are rounded towards zero."""
    given = call.tensor
    if not given.dtype.startswith(("float", "bfloat")):
        call.by_rule()
        return
    table = call.rule_module("torch.nn.")
    call.returns(table(call.keras_order(given).method("int")))
