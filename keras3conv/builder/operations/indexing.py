"""Python's indices and slices, with the axes where torch has them."""

from typing import Any

from keras3conv.builder.operations.call import Call
from keras3conv.builder.program.program import Order, Value
from keras3conv.model.graph import Size

_ALL = slice(None, None, None)


def full_key(call: Call, key: Any, rank: int) -> list[Any]:
    """What stands in brackets, with an entry for every axis: "..." becomes the slices that it stands for."""
    entries = list(key) if isinstance(key, tuple) else [key]
    if any(isinstance(one, Value) and one.dtype == "bool" for one in entries):
        raise call.refuse("the size of what a mask picks depends on the values")
    taken = sum(one is not None and one is not Ellipsis for one in entries)
    missing = [_ALL] * (rank - taken)
    at = next((place for place, one in enumerate(entries) if one is Ellipsis), None)
    if at is None:
        return entries + missing
    return entries[:at] + missing + entries[at + 1 :]


def sliced(call: Call, given: Value, key: list[Any]) -> tuple[str, Order]:
    """The expression for plain indices and slices, and the order of the axes that it leaves.

    Args:
        call: The call.
        given: What is indexed.
        key: An entry for every axis of Keras, and None for every new one.
    """
    entries, new_before, numbers, new_behind = _entries(key)
    flipped = [axis for axis, entry in entries.items() if isinstance(entry, slice) and _step(call, entry) < 0]
    texts: list[str] = []
    order: list[int] = []
    for axis in given.order:
        texts += ["None"] * len(new_before[axis])
        order += new_before[axis]
        entry = entries[axis]
        texts.append(_text(call, _mirrored(call, entry) if axis in flipped else entry))
        if axis in numbers:
            order.append(numbers[axis])
    texts += ["None"] * len(new_behind)
    order += new_behind
    while texts and texts[-1] == ":":
        texts.pop()
    places = ", ".join(str(given.place(axis)) for axis in flipped)
    flips = f".flip({places})" if flipped else ""
    index = f"[{', '.join(texts)}]" if texts else ""
    return f"{{0}}{flips}{index}", tuple(order)


def _entries(key: list[Any]) -> tuple[dict[int, Any], dict[int, list[int]], dict[int, int], list[int]]:
    """The entry of each axis, the new axes before it, the number that it gets; and the new axes behind all."""
    entries: dict[int, Any] = {}
    before: dict[int, list[int]] = {}
    numbers: dict[int, int] = {}
    waiting: list[int] = []
    made = 0
    for one in key:
        axis = len(entries)
        if one is None:
            waiting.append(made)
        else:
            entries[axis], before[axis], waiting = one, waiting, []
            if isinstance(one, slice):
                numbers[axis] = made
        made += one is None or isinstance(one, slice)
    return entries, before, numbers, waiting


def _step(call: Call, entry: slice) -> int:
    if entry.step is None:
        return 1
    if not isinstance(entry.step, int):
        raise call.refuse("a step that depends on the inputs is not supported")
    return entry.step


def _mirrored(call: Call, entry: slice) -> slice:
    """The slice of the flipped axis, whose place i was -i - 1 before; torch knows no step backwards."""
    ends = (entry.start, entry.stop)
    if any(isinstance(end, Size) for end in ends):
        raise call.refuse("a slice backwards from a size that is free is not supported")
    start, stop = (None if end is None else -end - 1 for end in ends)
    return slice(start, stop, -_step(call, entry))


def _text(call: Call, entry: Any) -> str:
    if not isinstance(entry, slice):
        return _bound(call, entry)
    start, stop = ("" if end is None else _bound(call, end) for end in (entry.start, entry.stop))
    step = "" if entry.step in (None, 1) else f":{entry.step}"
    return f"{start}:{stop}{step}"


def _bound(call: Call, value: Any) -> str:
    if isinstance(value, Value):
        raise call.refuse("an index that depends on the values is not supported beside slices")
    if isinstance(value, bool) or not isinstance(value, int | Size):
        raise call.refuse(f"an index that is a {type(value).__name__} is not supported")
    return call.size(value)


__all__ = ["full_key", "sliced"]
