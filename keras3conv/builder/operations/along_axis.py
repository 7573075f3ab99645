"""Convert operations along an axis that keep the axis: softmax, normalization, sorting, cumulative sums."""

from functools import partial

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.operations.expressions import (
    F,
    axes_of,
    converted,
    dims,
    is_float,
    torch,
)
from keras3conv.builder.operations.reduction import INT32, over_axes, reduced_axes
from keras3conv.builder.program.operation import Dtype
from keras3conv.builder.program.program import Value


@handles("keras.ops.normalize")
def _normalize(call: Call) -> None:
    """Convert `normalize`. Keras limits the inverse of the norm and torch the norm itself, with equal results."""
    given, level = call["x"], call["order"]
    axes = reduced_axes(call, given)
    if level != 2 and len(axes) > 1:
        raise call.refuse(
            f"normalize with order={level} along several axes is a matrix norm in Keras, which is not supported"
        )
    settings = {} if level == 2 else {"p": level}
    epsilon = 1e-7 if call["epsilon"] is None else call["epsilon"]
    call.returns(F.normalize(given, **settings, dim=dims(given, axes), eps=epsilon), given.order)


@handles("keras.ops.softmax", "keras.ops.log_softmax", "keras.layers.Softmax")
def _softmax(call: Call) -> None:
    given, mask = call.tensor, call.get("mask")
    axes = axes_of(call.get("axis", -1), given.rank)
    is_log = call.node.kind.endswith("log_softmax")
    if mask is not None:
        _masked_softmax(call, given, mask, axes)
    elif len(axes) == 1:
        function = F.log_softmax if is_log else F.softmax
        call.returns(function(given, dim=dims(given, axes)), given.order)
    else:
        logarithm = given - given.method("logsumexp", **over_axes(given, axes, keepdims=True))
        call.returns(logarithm if is_log else torch.exp(logarithm), given.order)


def _masked_softmax(call: Call, tensor: Value, mask: Value, axes: tuple[int, ...]) -> None:
    """Convert a softmax with a mask. Masked positions get 0, even if all positions along the axes are masked."""
    if len(axes) > 1:
        raise call.refuse("softmax with a mask is supported only along one axis")
    mask = mask if mask.dtype == "bool" else call.step(mask > 0.5, dtype="bool")
    (tensor, mask), order = call.aligned([tensor, mask])
    seen = call.step(torch.where(mask, tensor, -1e9), like=tensor)
    call.returns(torch.where(mask, F.softmax(seen, dim=dims(tensor, axes)), 0.0), order)


@handles("keras.ops.sparsemax", "keras.activations.sparsemax")
def _sparsemax(call: Call) -> None:
    """Convert `sparsemax`, with the threshold that Keras uses instead of the one in the paper on sparsemax.

    Keras computes the threshold from the sum of the cumulative sums of the chosen values; the paper computes it from
    the last cumulative sum.
    """
    given = call.tensor
    dim = dims(given, axes_of(call.get("axis", -1), given.rank))
    ordered = call.step(given.method("sort", dim=dim, descending=True).attribute("values"))
    sums = call.step(ordered.method("cumsum", dim=dim))
    ranks = call.step(torch.ones_like(given).method("cumsum", dim=dim))
    chosen = call.step(ordered * ranks > sums - 1, dtype="bool")
    total = (sums * chosen).method("sum", dim=dim, keepdim=True)
    limit = call.step((total - 1) / chosen.method("sum", dim=dim, keepdim=True))
    call.returns(F.relu(given - limit), given.order)


@handles("keras.ops.glu")
def _glu(call: Call) -> None:
    given = call.tensor
    call.returns(F.glu(given, dim=given.position(call["axis"])), given.order)


def _along(call: Call, *, method: str) -> None:
    given = call.tensor
    keeps_dtype = is_float(given) and call.dtype in (given.dtype, "float32")
    settings = {} if keeps_dtype else {"dtype": Dtype(call.dtype)}
    if call["axis"] is None:
        call.returns(call.flat(given, call.shape).method(method, dim=0, **settings))
    else:
        call.returns(given.method(method, dim=given.position(call["axis"]), **settings), given.order)


for _kind in ("cumsum", "cumprod"):
    handles(f"keras.ops.{_kind}")(partial(_along, method=_kind))


@handles("keras.ops.sort", "keras.ops.argsort")
def _sort(call: Call) -> None:
    given, axis, is_argsort = call.tensor, call["axis"], "arg" in call.node.kind
    given = converted(call, given, "uint8") if given.dtype == "bool" and is_argsort else given
    if axis is None:
        given, axis = call.flat(given, call.shape), 0
    position = given.position(axis)
    if is_argsort:
        call.returns(given.method("argsort", dim=position, stable=True).method("to", INT32), given.order)
    else:
        call.returns(given.method("sort", dim=position).attribute("values"), given.order)


@handles("keras.ops.top_k")
def _top_k(call: Call) -> None:
    given = call.tensor
    settings = {} if call["sorted"] else {"sorted": False}
    made = [(call.shape, given.order, given.dtype), (call.shape, given.order, "int64")]
    values, indices = call.steps(given.method("topk", call["k"], dim=given.position(-1), **settings), made)
    call.passes_all([values, converted(call, indices, "int32")])


@handles("keras.ops.diff")
def _diff(call: Call) -> None:
    given = call["a"]
    call.returns(given.method("diff", n=call["n"], dim=given.position(call["axis"])), given.order)
