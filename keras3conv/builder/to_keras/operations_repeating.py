"""Convert expansions and repetitions along axes."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from keras3conv.builder.program.program import Value, identity
from keras3conv.builder.to_keras.call import Call, Result, handles, ops
from keras3conv.builder.to_keras.forms import Constant, Held
from keras3conv.builder.to_keras.operations_axes import for_each_example, reshaped
from keras3conv.errors import RuleError
from keras3conv.model.graph import Size


@handles("expand", "broadcast_to", "expand_as")
def _expand(call: Call) -> Result:
    given, shape = call.arguments["self"], call.shape
    if tuple(given.shape) == tuple(shape):
        return given  # type: ignore[no-any-return]
    lacks = len(shape) - len(given.shape)
    old = (1,) * lacks + tuple(given.shape)
    grown = [axis for axis, (before, after) in enumerate(zip(old, shape, strict=True)) if before != after]
    if isinstance(given, Held) and grown == [0] and not lacks and shape[0] == call.writer.example_ones().shape[0]:
        return call.writer.held(given, for_each_example=True)
    value = reshaped(call, call.value("self"), old)
    fixed = {axis: shape[axis] for axis in grown if isinstance(shape[axis], int)}
    if fixed:
        sizes = tuple(fixed.get(axis, size) for axis, size in enumerate(value.shape))
        value = call.step(
            ops.tile(value, tuple(fixed.get(axis, 1) for axis in value.order)), sizes, value.order, value.dtype
        )
    return for_each_example(call, value, [axis for axis in grown if axis not in fixed])


@handles("zeros", "ones", "full", "new_zeros", "new_ones", "new_full", "empty", "new_empty")
def _filled(call: Call) -> Result:
    """Convert `full` when one size is dynamic: repeat a number along the axis that has this size.

    The elements of `empty` are not defined, until values are written into them; here they are zeros.
    """
    number = call.get("fill_value", 1.0 if "ones" in call.name else 0.0)
    if not isinstance(number, int | float):
        raise RuleError(f"{call.name} is supported only with a constant fill value, but this one is computed")
    sizes = tuple(size if isinstance(size, int) else 1 for size in call.shape)
    array = np.full(sizes, number, "float64" if call.dtype.startswith(("float", "bfloat")) else call.dtype)
    given = Constant(name=f"{call.node.outputs[0].name}", array=array, shape=sizes)
    free = [axis for axis, size in enumerate(call.shape) if not isinstance(size, int)]
    return for_each_example(call, call.writer.value(given), free)


@handles("broadcast_tensors")
def _broadcast(call: Call) -> Result:
    made: list[Any] = []
    for given, output in zip(call.arguments["tensors"], call.node.outputs, strict=True):
        node = replace(call.node, outputs=(output,))
        made.append(_expand(Call(node, {"self": given}, call.writer)))
    return made


@handles("repeat", "tile")
def _repeat(call: Call) -> Result:
    value, times = call.value("self"), call.get("repeats", call.get("dims"))
    times = [1] * (value.rank - len(times)) + [*times]
    if any(not isinstance(number, int) for number in times):
        return _repeated_for_examples(call, value, times)
    value = reshaped(call, value, (1,) * (len(times) - value.rank) + value.shape)
    return call.step(ops.tile(value, tuple(times[axis] for axis in value.order)), order=value.order)


def _repeated_for_examples(call: Call, value: Value, times: Sequence[int | Size]) -> Value:
    """Return a value that is repeated `batch` times along one axis, and a fixed number of times along the others.

    Args:
        call: The call.
        value: The value.
        times: The number of repetitions for each axis; one of them is the batch size.
    """
    number, *others = times
    value = reshaped(call, value, (1,) * (len(times) - value.rank) + value.shape)
    free = [axis for axis, one in enumerate(times) if not isinstance(one, int)]
    if len(free) == 1 and free[0] and value.shape[free[0]] == 1:
        fixed = tuple(1 if axis == free[0] else times[axis] for axis in value.order)
        sizes = tuple(size if axis == free[0] else size * times[axis] for axis, size in enumerate(value.shape))
        value = value if {*fixed} == {1} else call.step(ops.tile(value, fixed), sizes, value.order, value.dtype)
        return for_each_example(call, value, free)
    if any(not isinstance(one, int) for one in others) or not isinstance(value.shape[0], int):
        raise RuleError("repeat with a dynamic number of repetitions needs the first axis, and that its size is fixed")
    fixed = tuple(
        one * size if isinstance(one, int) and isinstance(size, int) else size
        for one, size in zip((1, *others), value.shape, strict=True)
    )
    if fixed != value.shape:
        steps = (1, *others)
        value = call.step(ops.tile(value, tuple(steps[axis] for axis in value.order)), fixed, value.order, value.dtype)
    if value.shape[0] == 1:
        return for_each_example(call, value, [0])
    apart = reshaped(call, value, (1, *value.shape))
    ones = ops.reshape(call.writer.example_ones(), (-1, *(1,) * value.rank))
    shape = (call.writer.example_ones().shape[0], *value.shape)
    if number != shape[0] or not value.dtype.startswith("float"):
        raise RuleError(
            f"repeat with the dynamic number of repetitions {number} is supported only for the batch size and "
            "floating-point tensors"
        )
    made = call.step(call.ordered(apart, identity(apart.rank)) * ones, shape, identity(apart.rank), value.dtype)
    return reshaped(call, made, call.shape)


@handles("repeat_interleave.self_int")
def _repeat_interleave(call: Call) -> Result:
    value, axis = call.value("self"), call.get("dim")
    if axis is None:
        raise RuleError("repeat_interleave is supported only with an axis: give it the argument dim")
    times = call.arguments["repeats"]
    return call.step(ops.repeat(value, times, axis=value.position(axis)), order=value.order)
