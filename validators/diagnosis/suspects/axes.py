"""Axes that are split, merged or moved in another order: heads and widths, a packed query, key and value, groups."""

from collections.abc import Iterator
from itertools import permutations
from math import prod
from typing import Any

from keras3conv.frameworks.torch.replay import Operation, TorchCall
from keras3conv.transforms import Shape
from keras3conv.validators.diagnosis.suspects.base import Case, Suspect, Suspicion, doing, running

_RESHAPING = ("reshape", "view", "unflatten", "flatten")
_MOVING = ("transpose", "permute", "swapaxes", "movedim")
_MOST = 3
"""An axis that is split into more parts than this is not looked at: too many orders would fit by chance."""


def _parts(whole: Shape, split: Shape) -> tuple[int, int, int] | None:
    """Which axis of the first shape is which axes of the second: its place, and theirs; None if it is not one."""
    extra = len(split) - len(whole)
    for place, size in enumerate(whole):
        parts = split[place : place + extra + 1]
        if extra > 0 and prod(parts) == size and (*whole[:place], *parts, *whole[place + 1 :]) == tuple(split):
            return place, place, place + extra + 1
    return None


def _split(case: Case) -> Iterator[Suspicion]:
    for operation in _reshapings(case):
        found = _parts(operation.get("input"), operation.result or ())
        if found is None or found[2] - found[1] > _MOST:
            continue
        place, end = found[1], found[2]
        for order in _orders(end - place, (operation.result or ())[place:end]):
            yield Suspicion(
                cause=f"an axis is split in another order: torch has the parts {_told(operation.result, place, end)}, "
                f"Keras has torch's parts {_numbers(order)} from the outside in",
                fix=_line("x = x.reshape(", operation.result, place, order, ")"),
                changes={operation.key: doing(_split_otherwise, place, order)},
            )


def _merged(case: Case) -> Iterator[Suspicion]:
    for operation in _reshapings(case):
        shape = operation.get("input")
        found = _parts(operation.result or (), shape)
        if found is None or found[2] - found[1] > _MOST:
            continue
        place, end = found[1], found[2]
        for order in _orders(end - place, shape[place:end]):
            yield Suspicion(
                cause=f"axes are merged in another order: torch merges {_told(shape, place, end)}, Keras has torch's "
                f"parts {_numbers(order)} from the outside in",
                fix=f"x = x.permute({', '.join(map(str, _whole_order(len(shape), place, order)))})  "
                f"# before {operation.name} {operation.owner or case.where}",
                changes={operation.key: doing(_merged_otherwise, place, order)},
            )


def _split_and_merged(case: Case) -> Iterator[Suspicion]:
    """Heads: cut out of the features in another order, and put together in that order again."""
    split, merged = [*_split(case)], [*_merged(case)]
    if split and merged:
        changes = {key: change for suspicion in (*split, *merged) for key, change in suspicion.changes.items()}
        if len(changes) == len(split) + len(merged):  # where there is one other order for each
            yield Suspicion(
                cause="the heads are cut otherwise: torch has (heads, width) along the features, Keras (width, heads)",
                fix=f"x = x.unflatten(-1, (-1, heads)).transpose(-1, -2)  # {case.where}",
                changes=changes,
            )


def _reshapings(case: Case) -> Iterator[Operation]:
    for operation in case.named(*_RESHAPING):
        if isinstance(operation.get("input"), tuple) and operation.result is not None:
            yield operation


def _orders(number: int, sizes: Shape) -> Iterator[tuple[int, ...]]:
    """The other orders of so many axes; where all but one have size 1 there is none."""
    if sum(size > 1 for size in sizes) > 1:
        yield from (order for order in permutations(range(number)) if list(order) != sorted(order))


def _whole_order(rank: int, place: int, order: tuple[int, ...]) -> list[int]:
    return [*range(place), *(place + axis for axis in order), *range(place + len(order), rank)]


def _split_otherwise(call: TorchCall, place: int, order: tuple[int, ...]) -> Any:
    shape = tuple(call.run().shape)
    whole = _whole_order(len(shape), place, order)
    return call.get("input").reshape([shape[axis] for axis in whole]).permute(_inverse(whole))


def _merged_otherwise(call: TorchCall, place: int, order: tuple[int, ...]) -> Any:
    values = call.get("input")
    return values.permute(_whole_order(values.ndim, place, order)).reshape(call.run().shape)


def _inverse(order: list[int]) -> list[int]:
    return sorted(range(len(order)), key=order.__getitem__)


def _reshaped_for_moved(case: Case) -> Iterator[Suspicion]:
    """The shape is right, the order of the values is not: a reshape where axes should have been exchanged."""
    for operation in case.named(*_MOVING):
        shape = operation.get("input")
        if isinstance(shape, tuple) and operation.result is not None and operation.result != ():
            yield Suspicion(
                cause=f"torch exchanges axes by {operation.name}, from {shape} to {operation.result} "
                f"{_in(case, operation)}; Keras only reshapes",
                fix=f"x = keras.ops.transpose(x, ...)  # {case.where_keras}, in the place of a reshape",
                changes={operation.key: lambda call: call.get("input").reshape(call.run().shape)},
            )


def _in(case: Case, operation: Operation) -> str:
    return f"in {operation.owner}" if operation.owner else case.where


def _tiled(case: Case) -> Iterator[Suspicion]:
    """Heads of key and value that are shared: each several times in a row, or all of them several times."""
    for operation in case.named("repeat_interleave"):
        yield Suspicion(
            cause="torch repeats every head in a row, Keras repeats all of them in turn",
            fix=f"x = keras.ops.repeat(x, repeats, axis)  # {case.where_keras}, in the place of a tile",
            changes={operation.key: _in_turn},
        )


def _in_turn(call: TorchCall) -> Any:
    values, times, axis = call.get("input"), call.get("repeats"), call.get("dim")
    counts = [1] * values.ndim
    counts[axis] = times
    return values.repeat(counts)


def _told(shape: Shape | None, place: int, end: int) -> str:
    return str(tuple((shape or ())[place:end]))


def _numbers(order: tuple[int, ...]) -> str:
    return ", ".join(str(axis + 1) for axis in order)


def _line(begin: str, shape: Shape | None, place: int, order: tuple[int, ...], end: str) -> str:
    whole = _whole_order(len(shape or ()), place, order)
    sizes = [(shape or ())[axis] for axis in whole]
    sizes[0] = -1
    return f"{begin}{', '.join(map(str, sizes))}{end}.permute({', '.join(map(str, _inverse(whole)))})"


def _rolled(case: Case) -> Iterator[Suspicion]:
    """A cyclic shift: the other way, or by another number along one of its axes."""
    operations = list(case.named("roll"))
    for operation in operations:
        shifts = operation.get("shifts")
        turned = -shifts if isinstance(shifts, int) else [-shift for shift in shifts]
        yield Suspicion(
            cause=f"torch rolls by {_plain(shifts)}, Keras by {_plain(turned)}",
            fix=f"x = torch.roll(x, {_plain(turned)}, ...)  # {_in(case, operation)}",
            changes={operation.key: running(shifts=turned)},
        )


def _plain(shifts: Any) -> Any:
    return shifts if isinstance(shifts, int) else tuple(shifts)


SUSPECTS = (
    Suspect("an axis split in another order", _split),
    Suspect("axes merged in another order", _merged),
    Suspect("heads cut and joined otherwise", _split_and_merged),
    Suspect("shared heads in turn", _tiled),
    Suspect("a reshape for a transposition", _reshaped_for_moved),
    Suspect("a roll the other way", _rolled),
)
