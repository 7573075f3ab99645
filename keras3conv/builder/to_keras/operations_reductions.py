"""Convert operators along axes: reductions, softmax, cumulative sums."""

from functools import partial
from math import prod
from typing import Any

import numpy as np

from keras3conv.builder.program.program import Order, Value
from keras3conv.builder.program.structure import Argument
from keras3conv.builder.to_keras.broadcasting import sign
from keras3conv.builder.to_keras.call import Call, Result, handles, ops, own
from keras3conv.builder.to_keras.forms import Constant
from keras3conv.builder.to_keras.operations_attention import dropout
from keras3conv.errors import RuleError
from keras3conv.model.graph import Size

_REDUCTIONS = {
    "mean": "mean",
    "sum": "sum",
    "amax": "max",
    "amin": "min",
    "prod": "prod",
    "logsumexp": "logsumexp",
    "any": "any",
    "all": "all",
    "argmax": "argmax",
    "argmin": "argmin",
}


def _axes(call: Call, value: Value) -> list[int]:
    """Return the axes along which a call reduces a value; all axes if the call has no `dim`."""
    dims = call.get("dim", call.get("dims"))
    if dims is None or dims == []:
        return list(range(value.rank))
    return [dim % value.rank for dim in ([dims] if isinstance(dims, int) else dims)]


def _options(call: Call, value: Value, axes: list[int]) -> tuple[dict[str, Any], Order]:
    """Return the keyword arguments of a Keras reduction ("axis", "keepdims"), and the axis order of its result.

    Args:
        call: The call of the torch reduction.
        value: The value to reduce.
        axes: The axes of torch along which it is reduced.
    """
    places = sorted(value.position(axis) for axis in axes)
    options: dict[str, Any] = {"axis": places[0] if len(places) == 1 else tuple(places)}
    if call.get("keepdim", False):
        return {**options, "keepdims": True}, value.order
    kept = [axis for axis in value.order if axis not in axes]
    return options, tuple(sorted(kept).index(axis) for axis in kept)


def _reduce(call: Call, *, name: str) -> Result:
    value = call.value("self")
    axes = _axes(call, value)
    if any(isinstance(value.shape[axis], Size) for axis in axes):
        raise RuleError(
            f"{call.name} runs along the batch axis or another axis of dynamic size; in Keras the result would depend "
            "on the other samples of a batch"
        )
    if name.startswith("arg") and len(axes) > 1 and value.rank > 1:
        raise RuleError(f"{call.name} is supported only with an axis: give it the argument dim")
    options, order = _options(call, value, axes)
    return call.step(ops.named(name)(value, **options), order=order)


for _torch, _keras in _REDUCTIONS.items():
    handles(_torch)(partial(_reduce, name=_keras))


@handles("max.default", "min.default")
def _whole_maximum(call: Call) -> Result:
    return _reduce(call, name=call.name)


@handles("max.dim", "min.dim")
def _maximum(call: Call) -> Result:
    values = _reduce(call, name=call.name)
    if 1 not in call.node.config["used"]:
        return [values, None]  # type: ignore[list-item]
    value = call.value("self")
    options, order = _options(call, value, _axes(call, value))
    indices = call.step(ops.named(f"arg{call.name}")(value, **options), order=order, dtype="int64")
    return [values, indices]  # type: ignore[list-item]


@handles("var", "std")
def _variance(call: Call) -> Result:
    return _deviation(call, is_root=call.name == "std")


@handles("var_mean", "std_mean")
def _variance_and_mean(call: Call) -> Result:
    used = call.node.config["used"]
    return [
        _deviation(call, is_root=call.name == "std_mean") if 0 in used else None,
        _reduce(call, name="mean") if 1 in used else None,  # type: ignore[list-item]
    ]


def _deviation(call: Call, *, is_root: bool) -> Value:
    value = call.value("self")
    axes, correction = _axes(call, value), call.get("correction", 1)
    if isinstance(call.get("unbiased"), bool):
        correction = int(call.arguments["unbiased"])
    sizes = [value.shape[axis] for axis in axes]
    if any(isinstance(size, Size) for size in sizes):
        raise RuleError(
            f"{call.name} runs along an axis of dynamic size, but its correction needs a fixed number of elements"
        )
    number = prod(size for size in sizes if isinstance(size, int))
    options, order = _options(call, value, axes)
    made: Any = ops.var(value, **options)
    if correction:
        made = made * (number / (number - correction))
    return call.step(ops.sqrt(made) if is_root else made, order=order)


@handles("linalg_vector_norm", "norm")
def _norm(call: Call) -> Result:
    if call.get("ord", call.get("p", 2)) != 2:
        raise RuleError("a norm is supported only with the order 2")
    value = call.value("self")
    options, order = _options(call, value, _axes(call, value))
    return call.step(ops.sqrt(ops.sum(ops.square(value), **options)), order=order)


@handles("softmax", "_softmax", "log_softmax", "_log_softmax")
def _softmax(call: Call) -> Result:
    value = call.value("self")
    place = value.position(call.arguments["dim"])
    function = ops.log_softmax if "log" in call.name else ops.softmax
    made = call.step(function(value, axis=-1 if place == value.rank - 1 else place), order=value.order)
    rate = call.node.config.get("dropout", 0.0)
    return dropout(call, made, rate) if rate else made


@handles("cumsum", "cumprod")
def _running(call: Call) -> Result:
    value = call.value("self")
    return call.step(ops.named(call.name)(value, axis=value.position(call.arguments["dim"])), order=value.order)


@handles("cummax", "cummin")
def _running_maximum(call: Call) -> Result:
    """Convert `cummax` and `cummin`; of equal values, the index is that of the last one."""
    value, axis = call.value("self"), call.arguments["dim"] % call.value("self").rank
    found = _cumulative(call, value, axis, "maximum" if call.name == "cummax" else "minimum")
    if 1 not in call.node.config["used"]:
        return [found, None]
    name, size = call.node.outputs[1].name, value.shape[axis]
    assert isinstance(size, int)
    sizes = tuple(size if one == axis else 1 for one in range(value.rank))
    places = Constant(name=f"{name} places", array=np.arange(size, dtype="int32").reshape(sizes), shape=sizes)
    is_reached = ops.logical_or(ops.equal(value, found), ops.isnan(value))
    reached = ops.where(is_reached, call.writer.value(places, value.order), 0)
    last = call.step(reached, value.shape, value.order, "int64")
    return [found, _cumulative(call, last, axis, "maximum")]


@handles("logcumsumexp")
def _running_sum_of_exponentials(call: Call) -> Result:
    value = call.value("self")
    return _cumulative(call, value, call.arguments["dim"] % value.rank, "logaddexp")


def _cumulative(call: Call, value: Value, axis: int, function: str) -> Value:
    """Return, for each position along an axis, the values up to it combined by a function of `keras.ops`.

    Args:
        call: The call.
        value: The value.
        axis: The axis.
        function: The name of the function, which is associative: "maximum".
    """
    if not isinstance(value.shape[axis], int):
        raise RuleError(f"axis {axis} has a dynamic size, but {call.name} needs an axis of fixed size")
    made = own.cumulative(value, Argument(f"ops.{function}"), value.position(axis))
    return call.step(made, value.shape, value.order, value.dtype)


@handles("glu")
def _gated(call: Call) -> Result:
    value = call.value("self")
    axis = call.get("dim", -1) % value.rank
    halves = [call.writer.new(call.shape, value.order, value.dtype) for _ in range(2)]
    call.writer.write(ops.split(value, 2, axis=value.position(axis)), halves)
    return call.step(sign(call, "*", halves[0], ops.sigmoid(halves[1])), order=value.order)


@handles("normalize")
def _normalize(call: Call) -> Result:
    """Convert `normalize`, which scales the vectors along an axis to length one.

    The module `recognising` puts this operator in the place of a formula.
    """
    value = call.value("self")
    options = {"axis": value.position(call.arguments["dim"]), "order": 2, "epsilon": call.arguments["eps"]}
    return call.step(ops.normalize(value, **options), order=value.order)
