"""Provide helpers for handlers: torch functions, dtypes, axes, and axis orders after axes are removed or added."""

from collections.abc import Iterable, Sequence
from typing import Any

from keras3conv.builder.operations.call import Call
from keras3conv.builder.program.operation import Dtype, Expression, Function, Operation
from keras3conv.builder.program.program import Order, Value
from keras3conv.model.graph import Size

torch = Function("torch")
F = Function("torch.nn.functional")
"""The namespaces of torch functions: `torch.cat([x, y], dim=1)` creates an `Operation` and computes nothing."""

_TORCH_DTYPES = frozenset(
    {"bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"}
)


def torch_dtype(call: Call, dtype: str) -> Dtype:
    """Return a Keras dtype such as "float32" as the `Dtype` that an operation takes as an argument.

    Raises:
        RuleError: torch has no such dtype, or does not compute in it.
    """
    if dtype not in _TORCH_DTYPES:
        raise call.refuse(f"the dtype {dtype} has no counterpart in torch")
    return Dtype(dtype)


def dtype_of(value: Expression) -> Operation:
    """Return the expression `x.dtype`."""
    return value.attribute("dtype")


def device_of(value: Expression) -> Operation:
    """Return the expression `x.device`."""
    return value.attribute("device")


def is_float(value: Value) -> bool:
    """Return True if a value has a floating-point dtype."""
    return "float" in value.dtype


def converted(call: Call, value: Value, dtype: str) -> Value:
    """Return the value converted to a dtype by a new statement; the value itself if it has that dtype."""
    if value.dtype == dtype:
        return value
    return call.step(value.method("to", torch_dtype(call, dtype)), dtype=dtype)


def as_float(call: Call, value: Value) -> Value:
    """Return the value converted to a floating-point dtype, for torch functions that need floating-point numbers."""
    return value if is_float(value) else converted(call, value, "float32")


def axes_of(axis: Any, rank: int) -> tuple[int, ...]:
    """Return the axes of an `axis` argument as non-negative numbers; all axes for None."""
    if axis is None:
        return tuple(range(rank))
    listed = axis if isinstance(axis, tuple | list) else (axis,)
    return tuple(int(one) % rank for one in listed)


def dims(value: Value, axes: Iterable[int]) -> int | tuple[int, ...]:
    """Return the positions of Keras axes in the torch tensor: a number for one axis, a sorted tuple for several.

    Args:
        value: The value, which has the axis order.
        axes: The indices of the axes in Keras.
    """
    found = sorted(value.position(axis) for axis in axes)
    return found[0] if len(found) == 1 else tuple(found)


def without(order: Order, removed: Sequence[int]) -> Order:
    """Return an axis order without the Keras axes in `removed`: (0, 3, 1, 2) without axis 1 is (0, 2, 1)."""
    kept = [axis for axis in order if axis not in removed]
    return tuple(sorted(kept).index(axis) for axis in kept)


def with_new(order: Order, axis: int) -> tuple[Order, int]:
    """Return an axis order extended by a new Keras axis, and the position of this axis in torch.

    In torch the new axis comes directly after the axis that precedes it in Keras. For example, the axis order (0, 2, 1)
    and a new axis 2 give (0, 3, 1, 2) and the position 3.

    Args:
        order: The axis order without the new axis.
        axis: The index of the new axis in Keras, not negative.
    """
    moved = [old + (old >= axis) for old in order]
    position = moved.index(axis - 1) + 1 if axis else 0
    return (*moved[:position], axis, *moved[position:]), position


def in_front(order: Order, count: int) -> Order:
    """Return an axis order with `count` new axes in front: (1, 0) with one new axis becomes (0, 2, 1)."""
    return (*range(count), *(axis + count for axis in order))


def behind(order: Order, axes: Sequence[int]) -> Order:
    """Move `axes` to the end of an axis order: (0, 1, 3, 2) for the order (0, 2, 1, 3) and the axis 2."""
    return (*(axis for axis in order if axis not in axes), *axes)


def along(position: int, index: Any) -> Any:
    """Return the index that applies `index` to one axis of a torch tensor only: (slice(None), 0) for x[:, 0].

    Args:
        position: The torch position of the axis.
        index: A number, slice or index array for the axis.
    """
    return (*(slice(None),) * position, index) if position else index


def number(value: Any, name: str, call: Call) -> Any:
    """Return an argument of a call unchanged; raise `RuleError` if it is not a number.

    Args:
        value: The argument.
        name: Its name in the error message.
        call: The call that has the argument.

    Raises:
        RuleError: The argument is not a number, but for example a tensor.
    """
    if not isinstance(value, int | float):
        raise call.refuse(f"the argument {name} must be a number, found {type(value).__name__}")
    return value


def fixed(call: Call, size: int | Size, name: str) -> int:
    """Return a size unchanged; raise `RuleError` if it is not an integer, but depends on the inputs.

    Args:
        call: The call that needs the size.
        size: The size.
        name: Its name in the error message.

    Raises:
        RuleError: The size is dynamic: it depends on the inputs.
    """
    if isinstance(size, int):
        return size
    raise call.refuse(f"{name} depends on the inputs ({size}), but must be fixed: give inputs=..., which fix the sizes")


def tuple_of(value: Any, rank: int) -> tuple[int, ...]:
    """Return an argument as a tuple of one number per axis; a single number is repeated for all `rank` axes."""
    return (int(value),) * rank if isinstance(value, int) else tuple(int(one) for one in value)


def one_or_all(values: Sequence[int]) -> int | tuple[int, ...]:
    """Return a tuple of equal numbers as one number, (2, 2) as 2, and any other tuple unchanged; torch accepts both."""
    return values[0] if len({*values}) == 1 else tuple(values)
