"""Pieces of torch expressions: numbers, dtypes, axes, and the order in which axes stand after some are gone or new."""

from collections.abc import Iterable, Sequence
from math import isfinite
from typing import Any

from keras3conv.builder.operations.call import Call
from keras3conv.builder.program.program import Order, Value
from keras3conv.model.graph import Size

_TORCH_DTYPES = frozenset(
    {"bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"}
)


def number(value: Any) -> str:
    """A number as it stands inside an expression: a negative one in brackets, for -2 ** x is -(2 ** x)."""
    if isinstance(value, float) and not isfinite(value):
        return f'float("{value}")'
    return f"({value!r})" if isinstance(value, int | float) and value < 0 else repr(value)


def dtype_name(call: Call, dtype: str) -> str:
    """What torch calls a dtype of Keras.

    Raises:
        RuleError: It has none that it computes in.
    """
    if dtype not in _TORCH_DTYPES:
        raise call.refuse(f"torch computes nothing in {dtype}")
    return f"torch.{dtype}"


def is_float(value: Value) -> bool:
    """Whether a value holds floating-point numbers."""
    return "float" in value.dtype


def converted(call: Call, value: Value, dtype: str) -> Value:
    """The value in another dtype; as it is where it has that already."""
    if value.dtype == dtype:
        return value
    return call.step(f"{{0}}.to({dtype_name(call, dtype)})", [value], dtype=dtype)


def as_float(call: Call, value: Value) -> Value:
    """The value as floating-point numbers, for functions that torch has for these only."""
    return value if is_float(value) else converted(call, value, "float32")


def axes_of(axis: Any, rank: int) -> tuple[int, ...]:
    """The axes that an argument names, counted from the front; all of them for None."""
    if axis is None:
        return tuple(range(rank))
    listed = axis if isinstance(axis, tuple | list) else (axis,)
    return tuple(int(one) % rank for one in listed)


def dims(value: Value, axes: Iterable[int]) -> str:
    """Where axes of Keras stand in torch: "1", or "(1, 2)"."""
    found = sorted(value.place(axis) for axis in axes)
    return str(found[0]) if len(found) == 1 else f"({', '.join(map(str, found))})"


def without(order: Order, removed: Sequence[int]) -> Order:
    """The order of the axes that stay when some are gone."""
    kept = [axis for axis in order if axis not in removed]
    return tuple(sorted(kept).index(axis) for axis in kept)


def with_new(order: Order, axis: int) -> tuple[Order, int]:
    """The order with a new axis of Keras, and the place of torch where it is: behind the one that Keras has before it.

    Args:
        order: The order before.
        axis: The number of the new axis, counted from the front.
    """
    moved = [old + (old >= axis) for old in order]
    place = moved.index(axis - 1) + 1 if axis else 0
    return (*moved[:place], axis, *moved[place:]), place


def behind(order: Order, axes: Sequence[int]) -> Order:
    """The order with some axes at the end, as they are given."""
    return (*(axis for axis in order if axis not in axes), *axes)


def tuple_text(items: Sequence[str]) -> str:
    """A tuple as Python writes it."""
    return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"


def fixed(call: Call, size: int | Size, what: str) -> int:
    """A size that must be a number.

    Raises:
        RuleError: It depends on the inputs.
    """
    if isinstance(size, int):
        return size
    raise call.refuse(f"{what} depends on the inputs ({size}): give inputs=..., which fix the sizes")


def tuple_of(value: Any, rank: int) -> tuple[int, ...]:
    """One number for each of several axes: 2 and (2, 2)."""
    return (int(value),) * rank if isinstance(value, int) else tuple(int(one) for one in value)
