"""Convert merging layers: Add, Subtract, Multiply, Average, Maximum, Minimum, Concatenate, Dot."""

from functools import partial

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.operations.expressions import F, torch
from keras3conv.builder.program.operation import Function, chained
from keras3conv.builder.program.program import Value

_MERGES = {
    "keras.layers.Add": "+",
    "keras.layers.Subtract": "-",
    "keras.layers.Multiply": "*",
}

_NESTED = {"keras.layers.Maximum": torch.maximum, "keras.layers.Minimum": torch.minimum}


def _merge(call: Call, *, sign: str) -> None:
    values, order = call.aligned(_broadcast_after_the_batch(call))
    call.returns(chained(sign, values), order)


def _nested(call: Call, *, function: Function) -> None:
    (made, *values), order = call.aligned(_broadcast_after_the_batch(call))
    for value in values:
        made = function(made, value)
    call.returns(made, order)


def _broadcast_after_the_batch(call: Call) -> list[Value]:
    """Return the inputs of a merging layer, all with the same number of axes.

    As in Keras, an input with fewer axes gets axes of size 1 after the batch axis.
    """
    values = call.tensors
    rank = max(value.rank for value in values)
    return [value if value.rank == rank else _widened(call, value, rank) for value in values]


def _widened(call: Call, value: Value, rank: int) -> Value:
    value = call.keras_order(value)
    missing = rank - value.rank
    shape = (value.shape[0], *(1,) * missing, *value.shape[1:])
    return call.step(value[:, *(None,) * missing], shape=shape, order=tuple(range(rank)))


@handles("keras.layers.Average")
def _average(call: Call) -> None:
    values, order = call.aligned(_broadcast_after_the_batch(call))
    call.returns(chained("+", values) / len(values), order)


@handles("keras.layers.Concatenate")
def _concatenate(call: Call) -> None:
    values, order = call.aligned(call.tensors)
    call.returns(torch.cat(values, dim=values[0].position(call.get("axis", -1))), order)


@handles("keras.layers.Dot")
def _dot(call: Call) -> None:
    first, second = (call.keras_order(value) for value in call.tensors)
    axes = call.get("axes")
    pair = (axes, axes) if isinstance(axes, int) else tuple(axes)
    if call.get("normalize"):
        first, second = (
            call.step(F.normalize(value, dim=axis % value.rank))
            for value, axis in zip((first, second), pair, strict=True)
        )
    left, right = list("bcdefgh"[: first.rank]), list("bijklmn"[: second.rank])
    summed = left[pair[0] % first.rank]
    right[pair[1] % second.rank] = summed
    kept = "".join(letter for letter in (*left, *right[1:]) if letter != summed)
    made = torch.einsum(f"{''.join(left)},{''.join(right)}->{kept}", first, second)
    call.returns(made[:, None] if not call.shape[1:] or len(kept) == 1 else made)


for _kind, _sign in _MERGES.items():
    handles(_kind)(partial(_merge, sign=_sign))
for _kind, _function in _NESTED.items():
    handles(_kind)(partial(_nested, function=_function))
