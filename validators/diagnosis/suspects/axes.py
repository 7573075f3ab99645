"""Propose as a cause that axes are split, merged or permuted in another order: heads, packed projections."""

from collections.abc import Iterator
from itertools import permutations
from math import prod
from typing import Any

from keras3conv.frameworks.torch.calls import Operation, TorchCall
from keras3conv.transforms import Shape
from keras3conv.validators.diagnosis.suspects.attention import HEADS_SPLIT_OTHERWISE, split_and_merged
from keras3conv.validators.diagnosis.suspects.base import Case, Hypothesis, Suspect, replaced_by, with_arguments
from keras3conv.validators.diagnosis.suspects.in_keras import in_keras

_RESHAPING = ("reshape", "view", "unflatten", "flatten")
_PERMUTING = ("transpose", "permute", "swapaxes", "movedim")
_MOST_PARTS = 3
"""The largest number of parts of a split axis whose permutations are tried.

With more, too many orders fit by chance.
"""


def _split_axes(whole: Shape, split: Shape) -> tuple[int, int] | None:
    """Return the range of axes into which a reshape splits one axis: (1, 3) for (2, 12, 5) -> (2, 3, 4, 5).

    Return None if the reshape does anything else.

    Args:
        whole: The shape before the split.
        split: The shape after it.
    """
    extra = len(split) - len(whole)
    for axis, size in enumerate(whole):
        parts = split[axis : axis + extra + 1]
        if extra > 0 and prod(parts) == size and (*whole[:axis], *parts, *whole[axis + 1 :]) == tuple(split):
            return axis, axis + extra + 1
    return None


def _split(case: Case) -> Iterator[Hypothesis]:
    for operation in _reshapings(case):
        shape = operation.result or ()
        axes = _split_axes(operation.get("input"), shape)
        if axes is None or axes[1] - axes[0] > _MOST_PARTS:
            continue
        start, end = axes
        for order in _other_orders(shape[start:end]):
            yield Hypothesis(
                cause=f"an axis is split in another order: torch has the parts {tuple(shape[start:end])}, "
                f"Keras the same parts in the order {_one_based(order)}",
                fix=_split_line(shape, start, order),
                keras=f"# {case.where_keras}: split the axis into {tuple(shape[start:end])}, as torch does",
                changes={operation.key: replaced_by(_split_in_order, start, order)},
            )


def _merged(case: Case) -> Iterator[Hypothesis]:
    for operation in _reshapings(case):
        shape = operation.get("input")
        axes = _split_axes(operation.result or (), shape)
        if axes is None or axes[1] - axes[0] > _MOST_PARTS:
            continue
        start, end = axes
        for order in _other_orders(shape[start:end]):
            permutation = ", ".join(map(str, _permutation(len(shape), start, order)))
            yield Hypothesis(
                cause=f"axes are merged in another order: torch merges {tuple(shape[start:end])}, "
                f"Keras the same axes in the order {_one_based(order)}",
                fix=f"x = x.permute({permutation})  # before {operation.name} {case.place(operation)}",
                keras=f"# {case.where_keras}: merge the axes in the order {tuple(shape[start:end])}, as torch does",
                changes={operation.key: replaced_by(_merge_in_order, start, order)},
            )


def _split_and_merged(case: Case) -> Iterator[Hypothesis]:
    """Yield hypotheses that Keras splits and merges the axis of the heads in a different order: (size, heads)."""
    split, merged = [*_split(case)], [*_merged(case)]
    if split and merged:
        changes = {key: change for hypothesis in (*split, *merged) for key, change in hypothesis.changes.items()}
        if len(changes) == len(split) + len(merged):  # each split and merge has exactly one other order
            yield Hypothesis(
                cause=HEADS_SPLIT_OTHERWISE,
                fix=split_and_merged(case.where),
                keras=f"# {case.where_keras}: split the features into (heads, width), as torch does",
                changes=changes,
            )


def _reshapings(case: Case) -> Iterator[Operation]:
    for operation in case.operations_named(*_RESHAPING):
        if isinstance(operation.get("input"), tuple) and operation.result is not None:
            yield operation


def _other_orders(sizes: Shape) -> Iterator[tuple[int, ...]]:
    """Yield every order of axes but the present one: (1, 0) for two axes; none if at most one axis is longer than 1."""
    if sum(size > 1 for size in sizes) > 1:
        yield from (order for order in permutations(range(len(sizes))) if list(order) != sorted(order))


def _permutation(rank: int, start: int, order: tuple[int, ...]) -> list[int]:
    """Return the permutation of all axes of an array that reorders some of them: (4, 1, (1, 0)) -> [0, 2, 1, 3].

    Args:
        rank: The number of axes of the array.
        start: The first axis to reorder.
        order: The order of the axes from `start` on; as many axes as the order has are reordered.
    """
    return [*range(start), *(start + axis for axis in order), *range(start + len(order), rank)]


def _split_in_order(call: TorchCall, start: int, order: tuple[int, ...]) -> Any:
    shape = tuple(call.run().shape)
    permutation = _permutation(len(shape), start, order)
    return call.get("input").reshape([shape[axis] for axis in permutation]).permute(_inverse(permutation))


def _merge_in_order(call: TorchCall, start: int, order: tuple[int, ...]) -> Any:
    values = call.get("input")
    return values.permute(_permutation(values.ndim, start, order)).reshape(call.run().shape)


def _inverse(permutation: list[int]) -> list[int]:
    return sorted(range(len(permutation)), key=permutation.__getitem__)


def _reshaped_instead_of_permuted(case: Case) -> Iterator[Hypothesis]:
    """Yield hypotheses that Keras reshapes where torch permutes axes: the shape is right, the order of values wrong."""
    for operation in case.operations_named(*_PERMUTING):
        shape = operation.get("input")
        if isinstance(shape, tuple) and operation.result is not None and operation.result != ():
            yield Hypothesis(
                cause=f"torch permutes axes with {operation.name}, from {shape} to {operation.result} "
                f"{case.place_in_words(operation)}; Keras only reshapes",
                keras=f"x = keras.ops.transpose(x, ...)  # {case.where_keras}, instead of a reshape",
                changes={operation.key: lambda call: call.get("input").reshape(call.run().shape)},
            )


def _tiled(case: Case) -> Iterator[Hypothesis]:
    """Yield hypotheses that torch repeats each shared key or value head, and Keras all heads in turn (tile)."""
    for operation in case.operations_named("repeat_interleave"):
        yield Hypothesis(
            cause="torch repeats each head in a row (repeat), Keras repeats all heads in turn (tile)",
            keras=f"x = keras.ops.repeat(x, {operation.get('repeats')!r}, {operation.get('dim')!r})  "
            f"# {case.where_keras}, instead of a tile",
            changes={operation.key: _tile},
        )


def _tile(call: TorchCall) -> Any:
    values = call.get("input")
    repeats = [1] * values.ndim
    repeats[call.get("dim")] = call.get("repeats")
    return values.repeat(repeats)


def _one_based(order: tuple[int, ...]) -> str:
    return ", ".join(str(axis + 1) for axis in order)


def _split_line(shape: Shape, start: int, order: tuple[int, ...]) -> str:
    permutation = _permutation(len(shape), start, order)
    sizes = [shape[axis] for axis in permutation]
    sizes[0] = -1
    return f"x = x.reshape({', '.join(map(str, sizes))}).permute({', '.join(map(str, _inverse(permutation)))})"


def _rolled(case: Case) -> Iterator[Hypothesis]:
    """Yield hypotheses that Keras shifts positions cyclically (`roll`) in the opposite direction."""
    for operation in case.operations_named("roll"):
        shifts = operation.get("shifts")
        opposite = -shifts if isinstance(shifts, int) else tuple(-shift for shift in shifts)
        yield Hypothesis(
            cause=f"torch rolls by {shifts if isinstance(shifts, int) else tuple(shifts)}, Keras by {opposite}",
            fix=f"x = torch.roll(x, {opposite}, ...)  # {case.place_in_words(operation)}",
            keras=in_keras(case, operation, "the roll"),
            changes={operation.key: with_arguments(shifts=opposite)},
        )


SUSPECTS = (
    Suspect("an axis split in another order", _split),
    Suspect("axes merged in another order", _merged),
    Suspect("heads split and merged in another order", _split_and_merged),
    Suspect("shared heads tiled", _tiled),
    Suspect("reshape instead of a permutation", _reshaped_instead_of_permuted),
    Suspect("roll in the opposite direction", _rolled),
)
