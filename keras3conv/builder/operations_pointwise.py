"""Operations that treat every value alike, wherever its axes stand; and softmax, whose axis is moved."""

from functools import partial

from keras3conv.builder.call import Call, handles

_UNARY = {
    "keras.ops.relu": "F.relu({0})",
    "keras.ops.sigmoid": "torch.sigmoid({0})",
    "keras.ops.tanh": "torch.tanh({0})",
    "keras.ops.exp": "torch.exp({0})",
    "keras.ops.negative": "-{0}",
}


def unary(call: Call, *, template: str) -> None:
    """One value in, one value out, the axes as they stand."""
    call.returns(template, [call.tensor], call.tensor.order, flattened=call.tensor.flattened)


for _kind, _template in _UNARY.items():
    handles(_kind)(partial(unary, template=_template))


@handles("keras.activations.relu")
def _relu(call: Call) -> None:
    slope, limit, threshold = (call.get(name) for name in ("negative_slope", "max_value", "threshold"))
    if threshold or (slope and limit is not None):
        raise call.refuse(f"with negative_slope={slope}, max_value={limit} and threshold={threshold} is not supported")
    if slope:
        template = f"F.leaky_relu({{0}}, {slope!r})"
    elif limit is None:
        template = "F.relu({0})"
    else:
        template = "F.relu6({0})" if limit == 6 else f"{{0}}.clamp(0, {limit!r})"
    unary(call, template=template)


@handles("keras.layers.Softmax", "keras.ops.softmax")
def _softmax(call: Call) -> None:
    given = call.tensor
    axis = call.get("axis", -1)
    if call.get("mask") is not None:
        raise call.refuse("a mask is not supported")
    if not isinstance(axis, int):
        raise call.refuse(f"several axes, {tuple(axis)}, are not supported")
    call.returns(f"F.softmax({{0}}, dim={given.place(axis)})", [given], given.order)


@handles("keras.ops.convert_to_tensor", "keras.ops.cast")
def _cast(call: Call) -> None:
    given, dtype = call.tensor, call.get("dtype")
    if dtype in (None, given.dtype):
        call.passes(given)
    else:
        call.returns(f"{{0}}.to(torch.{dtype})", [given], given.order, flattened=given.flattened)
