"""Layers of several tensors: arithmetic and joining."""

from functools import partial

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.program.names import places
from keras3conv.builder.program.program import Value

_MERGES = {
    "keras.layers.Add": " + ",
    "keras.layers.Subtract": " - ",
    "keras.layers.Multiply": " * ",
}

_NESTED = {"keras.layers.Maximum": "torch.maximum", "keras.layers.Minimum": "torch.minimum"}


def _merge(call: Call, *, sign: str) -> None:
    values, order = call.aligned(_broadcast_after_the_batch(call))
    call.returns(sign.join(f"{{{place}}}" for place in range(len(values))), values, order)


def _nested(call: Call, *, function: str) -> None:
    values, order = call.aligned(_broadcast_after_the_batch(call))
    template = "{0}"
    for place in range(1, len(values)):
        template = f"{function}({template}, {{{place}}})"
    call.returns(template, values, order)


def _broadcast_after_the_batch(call: Call) -> list[Value]:
    """Values of fewer axes get axes of size one after the batch: so a merging layer of Keras broadcasts."""
    values = call.tensors
    rank = max(value.rank for value in values)
    return [value if value.rank == rank else _widened(call, value, rank) for value in values]


def _widened(call: Call, value: Value, rank: int) -> Value:
    value = call.keras_order(value)
    missing = rank - value.rank
    shape = (value.shape[0], *(1,) * missing, *value.shape[1:])
    index = ", ".join((":", *("None",) * missing))
    return call.step(f"{{0}}[{index}]", [value], shape=shape, order=tuple(range(rank)))


@handles("keras.layers.Average")
def _average(call: Call) -> None:
    values, order = call.aligned(_broadcast_after_the_batch(call))
    total = " + ".join(f"{{{place}}}" for place in range(len(values)))
    call.returns(f"({total}) / {len(values)}", values, order)


@handles("keras.layers.Concatenate")
def _concatenate(call: Call) -> None:
    values, order = call.aligned(call.tensors)
    axis = call.get("axis", -1)
    call.returns(f"torch.cat([{places(values)}], dim={values[0].place(axis)})", values, order)


@handles("keras.layers.Dot")
def _dot(call: Call) -> None:
    first, second = (call.keras_order(value) for value in call.tensors)
    axes = call.get("axes")
    pair = (axes, axes) if isinstance(axes, int) else tuple(axes)
    if call.get("normalize"):
        first, second = (
            call.step(f"F.normalize({{0}}, dim={axis % value.rank})", [value])
            for value, axis in zip((first, second), pair, strict=True)
        )
    left, right = list("bcdefgh"[: first.rank]), list("bijklmn"[: second.rank])
    right[pair[1] % second.rank] = left[pair[0] % first.rank]
    summed = left[pair[0] % first.rank]
    kept = "".join(letter for letter in (*left, *right[1:]) if letter != summed)
    equation = f"{''.join(left)},{''.join(right)}->{kept}"
    if not call.node.outputs[0].shape[1:] or len(kept) == 1:
        call.returns(f'torch.einsum("{equation}", {{0}}, {{1}})[:, None]', [first, second])
    else:
        call.returns(f'torch.einsum("{equation}", {{0}}, {{1}})', [first, second])


for _kind, _sign in _MERGES.items():
    handles(_kind)(partial(_merge, sign=_sign))
for _kind, _name in _NESTED.items():
    handles(_kind)(partial(_nested, function=_name))
