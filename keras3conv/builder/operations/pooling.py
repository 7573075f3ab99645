"""Pooling over all places: an average or a maximum along axes, wherever they stand."""

from functools import partial

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.program.program import Order, Value, identity


def _global(call: Call, *, function: str) -> None:
    given = call.tensor
    first = 2 if call.get("data_format") == "channels_first" else 1
    axes = range(first, first + given.rank - 2)
    if call.get("mask") is not None:
        _masked_mean(call, given)
        return
    dims = sorted(given.place(axis) for axis in axes)
    written = str(tuple(dims)) if len(dims) > 1 else str(dims[0])
    keep = ", keepdim=True" if call.get("keepdims") else ""
    order = given.order if call.get("keepdims") else without(given, tuple(axes))
    call.returns(f"{{0}}.{function}(dim={written}{keep})", [given], order)


def without(given: Value, axes: tuple[int, ...]) -> Order:
    """The order of what is left of a value without some axes of Keras."""
    left = [axis for axis in range(given.rank) if axis not in axes]
    return tuple(left.index(axis) for axis in given.order if axis in left)


def _masked_mean(call: Call, given: Value) -> None:
    """The average over the steps that the mask leaves."""
    if call.get("keepdims") or "GlobalAveragePooling1D" not in call.node.kind:
        raise call.refuse("a mask is not supported")
    given = call.order(given, identity(given.rank))
    weights = call.step("{0}[:, :, None].to({1}.dtype)", [call["mask"], given], shape=given.shape, dtype=given.dtype)
    call.returns("({0} * {1}).sum(dim=1) / {1}.sum(dim=1)", [given, weights])


for _rank in (1, 2, 3):
    handles(f"keras.layers.GlobalAveragePooling{_rank}D")(partial(_global, function="mean"))
    handles(f"keras.layers.GlobalMaxPooling{_rank}D")(partial(_global, function="amax"))
