"""Keep axes separate that Keras could merge only by a permutation (see `Unmerged`), and merge them if needed.

They are merged when an operation takes the merged axis.
"""

from collections.abc import Sequence
from itertools import accumulate

from keras3conv.builder.program.program import Value, identity
from keras3conv.builder.to_keras.call import Call, Writer
from keras3conv.builder.to_keras.forms import Unmerged
from keras3conv.builder.to_keras.operations_axes import reshape_step, reshaped, reshaped_to
from keras3conv.builder.to_keras.sizes import Groups, factors_with_ones, order_after_reshape, product
from keras3conv.model.graph import Shape, Size

MOST_AXES = 8
"""The largest number of axes of a tensor that TensorFlow can slice."""


def grouped(lengths: Sequence[int]) -> Groups:
    """Return groups of consecutive numbers with these lengths: (2, 1) gives ((0, 1), (2,))."""
    ends = list(accumulate(lengths))
    return tuple(tuple(range(end - length, end)) for end, length in zip(ends, lengths, strict=True))


def can_reshape(value: Value, shape: Shape) -> bool:
    """Return whether a value can be reshaped to a shape without a permutation."""
    return order_after_reshape(value.shape, shape, value.order) is not None


def apart(call: Call, parts: Value, groups: Groups, shape: Shape) -> Value | Unmerged:
    """Return a tensor whose axes are merged from others: a `Value` if Keras needs no permutation, else `Unmerged`.

    Args:
        call: The call.
        parts: The tensor before the axes are merged.
        groups: For each axis of the result, the axes of `parts` that it is merged from.
        shape: The shape of the result.
    """
    if can_reshape(parts, shape) and _are_adjacent(parts, groups):
        return reshaped(call, parts, shape)
    runs = [_runs(group, parts) for group in groups]
    every = [run for found in runs for run in found]
    sizes = [product([parts.shape[axis] for axis in run]) for run in every]
    joined = tuple(size for size in sizes if size is not None)
    if len(joined) == len(sizes) < parts.rank:
        order = sorted(range(len(every)), key=lambda place: parts.order.index(every[place][0]))
        parts = reshaped_to(call, parts, joined, tuple(order))
        groups = grouped([len(found) for found in runs])
    return Unmerged(parts=parts, groups=groups, shape=tuple(shape))


def _are_adjacent(parts: Value, groups: Groups) -> bool:
    """Return whether the axes of each group are adjacent in Keras.

    They are not adjacent if another axis is between them, even one of size one: a model with a single window is then
    converted as one with several windows.
    """
    for group in groups:
        places = [parts.order.index(axis) for axis in group if parts.shape[axis] != 1]
        if places and {*parts.order[min(places) : max(places) + 1]} - {*group}:
            return False
    return True


def _runs(group: tuple[int, ...], parts: Value) -> list[list[int]]:
    """Divide axes that are merged into one axis into lists of axes that are adjacent in Keras.

    Args:
        group: The axes that are merged into one.
        parts: The tensor that has the axes.
    """
    runs: list[list[int]] = []
    for axis in group:
        if runs and parts.order.index(axis) == parts.order.index(runs[-1][-1]) + 1:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    return runs


def with_axes_split(call: Call, value: Value, sizes: Sequence[Sequence[int | Size]]) -> Value:
    """Return a value with each axis split into several; in Keras' axis order, these are where the old axis was.

    Args:
        call: The call.
        value: The value.
        sizes: For each axis, the sizes that it is split into.
    """
    numbers = grouped([len(one) for one in sizes])
    order = tuple(number for axis in value.order for number in numbers[axis])
    return reshaped_to(call, value, tuple(size for one in sizes for size in one), order)


def split_further(call: Call, tensor: Value | Unmerged, shape: Shape) -> Value | Unmerged | None:
    """Reshape a tensor without a permutation, if necessary to an `Unmerged`; return None if that is impossible."""
    value = tensor.parts if isinstance(tensor, Unmerged) else tensor
    found = factors_with_ones(value.shape, shape)
    if found is None or sum(map(len, found[0])) > MOST_AXES:
        return reshaped(call, value, shape) if can_reshape(value, shape) else None
    return apart(call, with_axes_split(call, value, found[0]), found[1], shape)


def merged(writer: Writer, tensor: Unmerged) -> Value:
    """Return an `Unmerged` tensor as a value, with its axes merged after a permutation.

    A channels-last image stays channels-last.
    """
    parts, rank = tensor.parts, len(tensor.shape)
    is_image = rank > 3 and parts.order[-1] != parts.rank - 1
    order = writer.image_order(rank) if is_image else identity(rank)
    moved = writer.ordered(parts, tuple(part for axis in order for part in tensor.groups[axis]))
    made = reshape_step(writer, moved, tensor.shape, order)
    writer.before_reshape[made] = parts
    return made
