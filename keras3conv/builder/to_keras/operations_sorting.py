"""Convert operators that sort, or that look up numbers in a sorted sequence."""

from typing import Any

import numpy as np

from keras3conv.builder.program.operation import Dtype
from keras3conv.builder.program.program import Order, Value, identity
from keras3conv.builder.to_keras.call import Call, Result, handles, ops
from keras3conv.builder.to_keras.forms import Constant
from keras3conv.builder.to_keras.operations_indexing import picked
from keras3conv.builder.to_keras.sizes import written
from keras3conv.errors import RuleError
from keras3conv.model.graph import Size


def _axis(call: Call, value: Value) -> int:
    """Return the axis along which a call sorts a value.

    Raises:
        RuleError: The size of the axis is dynamic.
    """
    axis: int = call.get("dim", -1) % value.rank
    if not isinstance(value.shape[axis], int):
        raise RuleError(f"axis {axis} has a dynamic size, but {call.name} needs an axis of fixed size")
    return axis


def _places(call: Call, value: Value, axis: int, *, descending: bool) -> Value:
    """Return the indices that sort a value along an axis (argsort); equal elements keep their order."""
    if value.dtype == "bool":
        value = call.step(ops.cast(value, Dtype("int32")), value.shape, value.order, "int32")
    key: Any = -value if descending else value
    return call.step(ops.argsort(key, axis=value.position(axis)), value.shape, value.order, "int64")


@handles("argsort")
def _argsort(call: Call) -> Result:
    value = call.value("self")
    return _places(call, value, _axis(call, value), descending=call.get("descending", False))


@handles("sort", "msort")
def _sort(call: Call) -> Result:
    value = call.value("self")
    axis = 0 if call.name == "msort" else _axis(call, value)
    return _sorted(call, value, axis, descending=call.get("descending", False))


def _sorted(call: Call, value: Value, axis: int, *, descending: bool) -> list[Value | None]:
    """Return the sorted elements of a value along an axis, and the indices that sort it, in a list.

    An item is None if the model does not use it.

    Args:
        call: The call.
        value: The value.
        axis: The axis.
        descending: Whether the largest element comes first.
    """
    place = value.position(axis)
    if 1 not in call.node.config.get("used", ()) and not descending:
        return [call.step(ops.sort(value, axis=place), value.shape, value.order, value.dtype), None]
    places = _places(call, value, axis, descending=descending)
    made = ops.take_along_axis(value, places, axis=place)
    return [call.step(made, value.shape, value.order, value.dtype), places]


@handles("topk")
def _largest(call: Call) -> Result:
    value, number = call.value("self"), call.arguments["k"]
    if not isinstance(number, int):
        raise RuleError("the argument k of topk is a dynamic size, but must be an integer")
    axis = call.get("dim", -1) % value.rank
    order: Order = (*(one for one in value.order if one != axis), axis)
    value = call.ordered(value, order)
    is_largest = call.get("largest", True)
    key: Any = value if is_largest else -value
    values, places = (call.writer.new(call.shape, order, dtype) for dtype in (value.dtype, call.node.outputs[1].dtype))
    call.writer.write(ops.top_k(key, number), [values, places])
    if not is_largest:
        values = call.step(-values, order=order, dtype=value.dtype)
    return [values, places]


@handles("median.dim", "kthvalue")
def _of_rank(call: Call) -> Result:
    """Convert `kthvalue` and `median`; torch's median of an even number of elements is the lower of the middle two."""
    value = call.value("self")
    axis = _axis(call, value)
    size = value.shape[axis]
    assert isinstance(size, int)
    rank = call.arguments["k"] - 1 if call.name == "kthvalue" else (size - 1) // 2
    key: Any = slice(rank, rank + 1) if call.get("keepdim", False) else rank
    found = _sorted(call, value, axis, descending=False)
    return [None if one is None else picked(call, one, axis, key, call.shape) for one in found]


@handles("mode")
def _most_frequent(call: Call) -> Result:
    """Convert `mode`: count the elements that equal each element; of the most frequent ones, take the smallest."""
    value = call.value("self")
    axis = _axis(call, value)
    if 1 in call.node.config["used"]:
        raise RuleError(
            "torch does not define which of several equal elements the indices of mode name: use the values"
        )
    order = (*(one for one in value.order if one != axis), axis)
    value = call.ordered(value, order)
    pairs = ops.equal(ops.expand_dims(value, -1), ops.expand_dims(value, -2))
    number = call.step(ops.sum(ops.cast(pairs, Dtype("int32")), axis=-1), value.shape, order, "int64")
    is_frequent = ops.equal(number, ops.max(number, axis=-1, keepdims=True))
    highest = float("inf") if value.dtype.startswith(("float", "bfloat")) else np.iinfo("int32").max
    smallest = ops.where(is_frequent, value, highest)
    keeps = call.get("keepdim", False)
    made = ops.min(smallest, axis=-1, **({"keepdims": True} if keeps else {}))
    kept = order if keeps else tuple(one - (one > axis) for one in order if one != axis)
    return [call.step(made, order=kept, dtype=value.dtype), None]


@handles("searchsorted", "bucketize")
def _search(call: Call) -> Result:
    names = ("sorted_sequence", "self") if call.name == "searchsorted" else ("boundaries", "self")
    sequence, given = call.arguments[names[0]], call.arguments[names[1]]
    rank = sequence.array.ndim if isinstance(sequence, Constant) else len(sequence.shape)
    if rank != 1 or call.get("sorter") is not None:
        raise RuleError(f"{call.name} is supported only for a sorted sequence of one axis, without a sorter")
    is_right = call.get("right", False) or call.get("side", "left") == "right"
    value = call.ordered(given, identity(len(given.shape)))
    flat = call.step(ops.reshape(value, (-1,)), (Size(symbols=("unknown",)),), dtype=value.dtype)  # for TensorFlow
    made = ops.searchsorted(call.writer.value(sequence), flat, side="right" if is_right else "left")
    found = call.step(made, flat.shape)
    sizes = written(call.shape)
    if sizes is None:
        raise RuleError(f"{call.name} is supported only for a tensor with at most one axis of dynamic size")
    return call.step(ops.reshape(found, sizes))
