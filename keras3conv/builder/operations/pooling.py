"""Convert Keras' global pooling layers to torch code: the average or the maximum over all spatial axes."""

from functools import partial

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.operations.expressions import dims, dtype_of, without
from keras3conv.builder.program.program import Value


def _global(call: Call, *, method: str) -> None:
    given = call.tensor
    if call.get("mask") is not None:
        _masked_mean(call, given)
        return
    first = 2 if call.get("data_format") == "channels_first" else 1
    axes = range(first, first + given.rank - 2)
    if call.get("keepdims"):
        call.returns(given.method(method, dim=dims(given, axes), keepdim=True), given.order)
    else:
        call.returns(given.method(method, dim=dims(given, axes)), without(given.order, axes))


def _masked_mean(call: Call, given: Value) -> None:
    """Convert GlobalAveragePooling1D with a mask: the average over the time steps that are not masked."""
    if call.get("keepdims") or "GlobalAveragePooling1D" not in call.node.kind:
        raise call.refuse(
            "a mask is supported only for GlobalAveragePooling1D with keepdims=False, not for this pooling layer"
        )
    given = call.keras_order(given)
    mask = call["mask"][:, :, None].method("to", dtype_of(given))
    weights = call.step(mask, like=given)
    call.returns((given * weights).method("sum", dim=1) / weights.method("sum", dim=1))


for _rank in (1, 2, 3):
    handles(f"keras.layers.GlobalAveragePooling{_rank}D")(partial(_global, method="mean"))
    handles(f"keras.layers.GlobalMaxPooling{_rank}D")(partial(_global, method="amax"))
