"""Convert reductions of axes: sums, extremes, averages, norms."""

from collections.abc import Callable
from functools import partial
from typing import Any

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.operations.expressions import (
    as_float,
    axes_of,
    behind,
    converted,
    dims,
    is_float,
    torch,
    without,
)
from keras3conv.builder.program.operation import Dtype, Operation
from keras3conv.builder.program.program import Order, Value, identity

_REDUCTIONS = {
    "all": "all",
    "amax": "amax",
    "amin": "amin",
    "any": "any",
    "max": "amax",
    "min": "amin",
    "sum": "sum",
}

_OF_FLOATS = ("logsumexp", "mean", "std", "var")

_EXTRA = {"std": {"correction": 0}, "var": {"correction": 0}}
"""The argument of torch's `var` and `std` that divides by the number of values n, as Keras does, instead of n - 1."""

INT32 = Dtype("int32")


def over_axes(tensor: Value, axes: tuple[int, ...], keepdims: bool) -> dict[str, Any]:
    """Return the arguments of a torch reduction over some Keras axes, such as `dim=(1, 2), keepdim=True`."""
    return {"dim": dims(tensor, axes), **({"keepdim": True} if keepdims else {})}


def _order_after(tensor: Value, axes: tuple[int, ...], keepdims: bool) -> Order:
    """Return the axis order of a value after a reduction over some Keras axes, which are removed unless `keepdims`."""
    return tensor.order if keepdims else without(tensor.order, axes)


def _reduced(call: Call, tensor: Value, method: str, **extra: Any) -> tuple[Operation, Order]:
    """Return the expression of a reduction, and the axis order of the result.

    Args:
        call: The call, which has the axes.
        tensor: The tensor to reduce.
        method: The name of the tensor method, such as "sum".
        extra: Further arguments of the method, by name.
    """
    axes, keepdims = reduced_axes(call, tensor), bool(call.get("keepdims"))
    return tensor.method(method, **over_axes(tensor, axes, keepdims), **extra), _order_after(tensor, axes, keepdims)


def reduced_axes(call: Call, tensor: Value) -> tuple[int, ...]:
    """Return the axes of a call's argument `axis`; refuse an empty list."""
    if call.get("axis") in ((), []):
        raise call.refuse(
            "a reduction with an empty list of axes is not supported, because the result depends on the Keras backend"
        )
    return axes_of(call.get("axis"), tensor.rank)


def _reduction(call: Call, *, method: str) -> None:
    given, initial = call.tensor, call.get("initial")
    is_integer_sum = method == "sum" and not is_float(given) and call.dtype != "int64"
    made, order = _reduced(call, given, method, **({"dtype": Dtype(call.dtype)} if is_integer_sum else {}))
    if initial is not None:
        made = made.method("clamp", **{"min" if method == "amax" else "max": initial})
    call.returns(made, order)


def _reduction_of_floats(call: Call, *, method: str) -> None:
    call.returns(*_reduced(call, as_float(call, call.tensor), method, **_EXTRA.get(method, {})))


for _kind, _method in _REDUCTIONS.items():
    handles(f"keras.ops.{_kind}")(partial(_reduction, method=_method))
for _kind in _OF_FLOATS:
    handles(f"keras.ops.{_kind}")(partial(_reduction_of_floats, method=_kind))


def _in_a_row(call: Call, tensor: Value, axes: tuple[int, ...]) -> Value:
    """Return a tensor with some of its axes merged into one last axis.

    Args:
        call: The call; the statements that permute and flatten are added to it.
        tensor: The tensor.
        axes: The Keras axes to merge.
    """
    tensor = call.order(tensor, behind(tensor.order, axes))
    if len(axes) == 1:
        return tensor
    kept = [axis for axis in range(tensor.rank) if axis not in axes]
    order = (*without(tensor.order, axes), len(kept))
    if not kept:
        return call.step(tensor.method("flatten"), shape=(_elements(tensor, axes),), order=(0,))
    shape = (*(tensor.shape[axis] for axis in kept), _elements(tensor, axes))
    return call.step(tensor.method("flatten", len(kept)), shape=shape, order=order)


def _elements(tensor: Value, axes: tuple[int, ...]) -> int:
    """Return the product of the sizes of some axes, which are merged into one; 0 stands for an unknown size.

    It is unknown if one of the sizes is dynamic. The 0 is never used: the statement after the merge reduces the axis.

    Args:
        tensor: The tensor.
        axes: Its axes that are merged, by their indices in Keras.
    """
    product = 1
    for axis in axes:
        size = tensor.shape[axis]
        product *= size if isinstance(size, int) else 0
    return product


def _reduced_in_a_row(call: Call, tensor: Value, function: Callable[[Value], Operation]) -> None:
    """Convert a reduction that torch supports for one axis only; several axes are first merged into one.

    Args:
        call: The call, which has the axes.
        tensor: The tensor to reduce.
        function: Returns the expression that reduces the last axis of a value.
    """
    axes, keepdims = reduced_axes(call, tensor), bool(call.get("keepdims"))
    made = function(_in_a_row(call, tensor, axes))
    if not keepdims:
        call.returns(made, without(tensor.order, axes))
        return
    kept = [axis for axis in tensor.order if axis not in axes]
    call.returns(made[..., *(None,) * len(axes)], (*kept, *axes))


@handles("keras.ops.prod")
def _prod(call: Call) -> None:
    given = call.tensor
    settings = {} if is_float(given) or call.dtype == "int64" else {"dtype": Dtype(call.dtype)}
    _reduced_in_a_row(call, given, lambda row: row.method("prod", -1, **settings))


@handles("keras.ops.median")
def _median(call: Call) -> None:
    """Convert `median` to `torch.quantile`.

    For an even number of values it averages the middle two, as Keras does; `torch.median` does not.
    """
    _reduced_in_a_row(call, as_float(call, call.tensor), lambda row: row.method("quantile", 0.5, dim=-1))


@handles("keras.ops.quantile", "keras.ops.percentile")
def _quantile(call: Call) -> None:
    level, method = call["q"], call["method"]
    if not isinstance(level, int | float):
        raise call.refuse("quantile is supported only with one number as q; call it once for each quantile")
    if method != "linear":
        raise call.refuse(
            f'quantile is supported only with method="linear": in a model Keras ignores method={method!r} and '
            "interpolates linearly"
        )
    level = level / 100 if call.node.kind.endswith("percentile") else level
    _reduced_in_a_row(call, as_float(call, call.tensor), lambda row: row.method("quantile", level, dim=-1))


@handles("keras.ops.ptp")
def _ptp(call: Call) -> None:
    highest, order = _reduced(call, call.tensor, "amax")
    lowest, _ = _reduced(call, call.tensor, "amin")
    call.returns(highest - lowest, order)


@handles("keras.ops.count_nonzero")
def _count_nonzero(call: Call) -> None:
    given = call.tensor
    axes = reduced_axes(call, given)
    if given.rank - len(axes) > 1:
        raise call.refuse(
            "count_nonzero is not supported if more than one axis remains: Keras' torch backend returns these "
            "axes in reverse order, "
            "the other backends do not"
        )
    counted = given.method("count_nonzero", dim=dims(given, axes))
    call.returns(counted.method("to", INT32), without(given.order, axes))


@handles("keras.ops.average")
def _average(call: Call) -> None:
    given, weights = as_float(call, call["x"]), call["weights"]
    axes = reduced_axes(call, given)
    if weights is None:
        call.returns(given.method("mean", dim=dims(given, axes)), without(given.order, axes))
        return
    if not isinstance(weights, Value) or axes != (given.rank - 1,):
        raise call.refuse(
            "average with weights is supported only for axis=-1: for other axes the result depends on the backend"
        )
    left = without(weights.order, (weights.rank - 1,))
    total = call.step(weights.method("sum", dim=weights.position(-1)), shape=weights.shape[:-1], order=left)
    (given, weights), order = call.aligned([given, weights])
    total = call.order(total, without(order, axes)) if total.rank > 1 else total
    call.returns((given * weights).method("sum", dim=given.position(-1)) / total, without(order, axes))


@handles("keras.ops.norm")
def _norm(call: Call) -> None:
    given, kind = as_float(call, call["x"]), call["ord"]
    axes, keepdims = reduced_axes(call, given), bool(call["keepdims"])
    order = _order_after(given, axes, keepdims)
    is_default = kind is None or (kind == 2 and len(axes) == 1) or (kind == "fro" and len(axes) == 2)
    if is_default or len(axes) == 1:
        level = [] if is_default else [kind]
        call.returns(torch.linalg.vector_norm(given, *level, **over_axes(given, axes, keepdims)), order)
        return
    if len(axes) != 2:
        raise call.refuse(
            f"norm with ord={kind!r} is supported only along one or two axes, not {len(axes)}: give the argument axis"
        )
    pair = given.position(axes[0]), given.position(axes[1])
    settings = {"keepdim": True} if keepdims else {}
    call.returns(torch.linalg.matrix_norm(given, kind, dim=pair, **settings), order)


@handles("keras.ops.argmax", "keras.ops.argmin")
def _argmax(call: Call) -> None:
    given, name = call.tensor, call.node.kind.rpartition(".")[2]
    given = converted(call, given, "uint8") if given.dtype == "bool" else given
    if call["axis"] is None:
        given = call.keras_order(given)
        found = given.method(name, **({"keepdim": True} if call["keepdims"] else {}))
        order = identity(given.rank if call["keepdims"] else 0)
    else:
        found, order = _reduced(call, given, name)
    call.returns(found.method("to", INT32), order)


@handles("keras.ops.moments")
def _moments(call: Call) -> None:
    given, keepdims = as_float(call, call["x"]), bool(call["keepdims"])
    if call["synchronized"]:
        raise call.refuse("moments is supported only with synchronized=False")
    axes = axes_of(call["axes"], given.rank)
    over, order = over_axes(given, axes, keepdims), _order_after(given, axes, keepdims)
    mean = call.step(given.method("mean", **over), shape=call.shape, order=order)
    variance = call.step(given.method("var", **over, correction=0), shape=call.shape, order=order)
    call.passes_all([mean, variance])


@handles("keras.ops.nansum", "keras.ops.nanmean")
def _without_gaps(call: Call) -> None:
    if not is_float(call.tensor):
        raise call.refuse(
            f"{call.node.kind.rpartition('.')[2]} is supported only for floating-point numbers, not for "
            f"{call.tensor.dtype}"
        )
    call.returns(*_reduced(call, call.tensor, call.node.kind.rpartition(".")[2]))
