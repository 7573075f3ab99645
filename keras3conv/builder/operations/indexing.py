"""Convert index expressions from the axis order of Keras to the axis order of torch."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from keras3conv.builder.operations.call import Call
from keras3conv.builder.program.operation import Expression
from keras3conv.builder.program.program import Order, Value
from keras3conv.messages import with_article
from keras3conv.model.graph import Size

ALL = slice(None, None, None)
"""The slice `:`, which selects a whole axis."""


def full_key(call: Call, key: Any, rank: int) -> list[Any]:
    """Return an index with one entry for each axis: `x[..., 0]` for three axes gives [:, :, 0].

    Entries for new axes (None) are kept.

    Args:
        call: The call, for the error message.
        key: The index as Keras takes it.
        rank: The number of axes of the indexed tensor.
    """
    entries = list(key) if isinstance(key, tuple) else [key]
    if any(isinstance(one, Value) and one.dtype == "bool" for one in entries):
        raise call.refuse(
            "an index that is a boolean mask is not supported: the shape of the result depends on the values; use "
            "keras.ops.where"
        )
    indexed = sum(one is not None and one is not Ellipsis for one in entries)
    missing = [ALL] * (rank - indexed)
    at = next((place for place, one in enumerate(entries) if one is Ellipsis), None)
    if at is None:
        return entries + missing
    return entries[:at] + missing + entries[at + 1 :]


def sliced(call: Call, tensor: Value, key: Sequence[Any]) -> tuple[Expression, Order]:
    """Return the torch expression that indexes a value with a Keras index, and the axis order of its result.

    Args:
        call: The call.
        tensor: The value to index; it is returned unchanged if the index selects everything.
        key: A number or slice for every axis in the order of Keras, and None for every new axis.
    """
    entries = _entries(key)
    flipped = [axis for axis, entry in entries.of.items() if isinstance(entry, slice) and _step(call, entry) < 0]
    index: list[Any] = []
    order: list[int] = []
    for axis in tensor.order:
        index += [None] * len(entries.new_before[axis])
        order += entries.new_before[axis]
        entry = entries.of[axis]
        index.append(_checked(call, _mirrored(call, entry) if axis in flipped else entry))
        if axis in entries.number:
            order.append(entries.number[axis])
    index += [None] * len(entries.new_behind)
    order += entries.new_behind
    while index and is_all(index[-1]):
        index.pop()
    expression: Expression = tensor
    if flipped:
        expression = expression.method("flip", *(tensor.position(axis) for axis in flipped))
    if index:
        expression = expression[tuple(index) if len(index) > 1 else index[0]]
    return expression, tuple(order)


def indexed(call: Call, tensor: Value, entries: Sequence[Any]) -> Expression:
    """Return the torch expression that indexes a value with arrays: `x[rows, columns]`, in the axis order of Keras.

    Args:
        call: The call.
        tensor: The value to index.
        entries: A number, slice or array of integers for every axis in the order of Keras, and None for new axes.

    Raises:
        RuleError: A number and an array are separated by a slice, or an entry is of another type.
    """
    selecting = [place for place, entry in enumerate(entries) if entry is not None and not isinstance(entry, slice)]
    arrays = [place for place in selecting if isinstance(entries[place], Value)]
    if len(arrays) < len(selecting) and selecting[-1] - selecting[0] >= len(selecting):
        raise call.refuse(
            "an index with an integer and an array on two sides of a slice gives other axis orders on other Keras "
            "backends; index twice"
        )
    index = [
        call.keras_order(entry) if place in arrays else entry if entry is None else _checked(call, entry)
        for place, entry in enumerate(entries)
    ]
    while is_all(index[-1]):
        index.pop()
    return call.keras_order(tensor)[tuple(index)]


@dataclass(kw_only=True)
class _Entries:
    """The entries of an index expression, by axis, and the positions of new axes (None).

    For `x[0, None, 1:]`: of={0: 0, 1: slice(1, None)}, new_before={0: [], 1: [0]}, number={1: 1}, new_behind=[].

    Attributes:
        of: The entry (a number or slice) for each Keras axis of `x`.
        new_before: For each axis of `x`, the new axes directly before it, by their indices in the result.
        number: For each axis of `x` with a slice, its index in the result; an axis with a number is not in the result.
        new_behind: The new axes after the last axis of `x`, by their indices in the result.
    """

    of: dict[int, Any] = field(default_factory=dict)
    new_before: dict[int, list[int]] = field(default_factory=dict)
    number: dict[int, int] = field(default_factory=dict)
    new_behind: list[int] = field(default_factory=list)


def _entries(key: Sequence[Any]) -> _Entries:
    found = _Entries()
    made = 0
    for one in key:
        axis = len(found.of)
        if one is None:
            found.new_behind.append(made)
        else:
            found.of[axis], found.new_before[axis], found.new_behind = one, found.new_behind, []
            if isinstance(one, slice):
                found.number[axis] = made
        made += one is None or isinstance(one, slice)
    return found


def _step(call: Call, entry: slice) -> int:
    if entry.step is None:
        return 1
    if not isinstance(entry.step, int):
        raise call.refuse("the step of a slice must be an integer, but it depends on the inputs")
    return entry.step


def _mirrored(call: Call, entry: slice) -> slice:
    """Return the slice of a flipped axis that selects the same elements as a slice with a negative step.

    torch has no negative steps. The flip moves the element at index i to the index -i - 1: [4::-2] becomes [-5::2].
    """
    ends = (entry.start, entry.stop)
    if any(isinstance(end, Size) for end in ends):
        raise call.refuse(
            "a slice with a negative step needs integers as its bounds, but a bound is a dynamic size; use "
            "keras.ops.flip"
        )
    start, stop = (None if end is None else -end - 1 for end in ends)
    return slice(start, stop, -_step(call, entry))


def is_all(entry: Any) -> bool:
    """Return True for the slice `:`."""
    return isinstance(entry, slice) and entry.start is entry.stop is None and entry.step in (None, 1)


def _checked(call: Call, entry: Any) -> Any:
    """Return one entry of an index unchanged; raise `RuleError` unless it consists of integers and sizes.

    Raises:
        RuleError: The entry contains anything else, such as a tensor.
    """
    if not isinstance(entry, slice):
        return _bound(call, entry)
    start, stop = (None if end is None else _bound(call, end) for end in (entry.start, entry.stop))
    return slice(start, stop, entry.step)


def _bound(call: Call, value: Any) -> int | Size:
    if isinstance(value, Value):
        raise call.refuse("a bound of a slice that is a tensor is not supported; use keras.ops.take")
    if isinstance(value, bool) or not isinstance(value, int | Size):
        raise call.refuse(
            f"an index in brackets must be an integer or a slice, found {with_article(type(value).__name__)}"
        )
    return call.size(value)
