"""Convert arrays between memory layouts, when no rule shows how the axes of two shapes correspond.

Every permutation and reshape from one shape to the other is a candidate. The values that both models compute in the
probe decide.
"""

from collections.abc import Iterator, Sequence
from itertools import permutations
from math import prod

import numpy as np

from keras3conv.alignment.shapes import reshaping, same_axes, without_ones
from keras3conv.model.views import TensorRef
from keras3conv.transforms import Array, Axes, Shape, Transform
from keras3conv.transforms.axes import side_of

_LETTERS = "abcdefghijklmnop"


def arrays_like(array: Array, shape: Shape) -> Iterator[Array]:
    """Yield an array in each layout that has the shape `shape`.

    These layouts are tried: unchanged, channels last or first, time and batch exchanged, axes split or merged, repeated
    along the batch, and only the first sample of the batch.
    """
    for candidate in _moved(array):
        if candidate.shape == shape:
            yield candidate
        elif candidate.size == prod(shape):
            yield candidate.reshape(shape)
        elif _repeats(candidate.shape, shape):
            yield np.broadcast_to(candidate, shape)
        elif candidate.shape[1:] == shape:
            yield candidate[0]  # the first sample of a batch in which all samples are equal


def _repeats(shape: Shape, target: Shape) -> bool:
    """Return whether an array can be broadcast to a shape: along its axes of size one, or along a new first axis."""
    if len(shape) == len(target) - 1:
        return shape == target[1:]
    return len(shape) == len(target) and all(size in (1, to) for size, to in zip(shape, target, strict=True))


def _moved(array: Array) -> Iterator[Array]:
    yield array
    if array.ndim > 2:
        yield np.moveaxis(array, 1, -1)
        yield np.moveaxis(array, -1, 1)
        yield np.swapaxes(array, 0, 1)
    if array.ndim == 4:
        yield np.swapaxes(array, 1, 2)


def transforms_between(torch: Shape, keras: Shape) -> Iterator[Transform]:
    """Yield every transform from the torch shape to the Keras shape that permutes, splits and merges axes.

    The most common transform comes first: the transposition of a matrix, the identity for any other shape.
    """
    given, wanted = without_ones(torch), without_ones(keras)
    if same_axes(torch, keras):
        yield from _permuted(torch, keras)
    elif prod(given) == prod(wanted) and len(given) != len(wanted):
        yield from _regrouped(torch, keras)


def likely_first(torch: TensorRef, keras: Shape) -> list[Transform]:
    """Return the transforms from a torch tensor to the shape of a Keras variable, the most likely one first.

    A matrix named "weight" is most likely the weight of a linear layer, (out, in). In Keras the input axes come first,
    of which there may be several, such as heads and their channels: (in, heads, channels).
    """
    found = list(transforms_between(torch.shape, keras))
    is_linear = len(torch.shape) == 2 and "weight" in torch.role.rpartition(".")[2]
    return sorted(found, key=lambda transform: not _moves_rows_last(transform)) if is_linear else found


def _moves_rows_last(transform: Transform) -> bool:
    """Return whether a transform of a matrix moves its first axis behind its second, and does nothing else.

    The axes may be merged or split: "(h d) i -> i h d".
    """
    if not isinstance(transform, Axes):
        return False
    left, right = transform.groups
    return len(left) == 2 and [*left[1], *left[0]] == [name for group in right for name in group]


def _permuted(torch: Shape, keras: Shape) -> Iterator[Transform]:
    given, wanted = without_ones(torch), without_ones(keras)
    if given == wanted:
        yield reshaping(torch, keras)
    orders = [order for order in permutations(range(len(given))) if tuple(given[axis] for axis in order) == wanted]
    names = _LETTERS[: len(given)]
    for order in orders if len(given) <= 4 else ():
        if list(order) != sorted(order):
            yield Axes(f"{side_of(torch, names)} -> {side_of(keras, [names[axis] for axis in order])}")


def _regrouped(torch: Shape, keras: Shape) -> Iterator[Transform]:
    """Yield the transforms between shapes with different numbers of axes, which merge or split adjacent axes."""
    if len(without_ones(torch)) < len(without_ones(keras)):
        yield from _merged(torch, keras)
    else:
        yield from (transform.inverse for transform in _merged(keras, torch))


def _merged(coarse: Shape, fine: Shape) -> Iterator[Axes]:
    """Yield the transforms that split the axes of one shape into the axes of another: (12, 5) into (3, 4, 5)."""
    sizes = without_ones(fine)
    if len(sizes) > 4:
        return
    names = _LETTERS[: len(sizes)]
    for order in permutations(range(len(sizes))):
        groups = _groups(coarse, [sizes[axis] for axis in order])
        if groups is None:
            continue
        left, letters = [], iter([names[axis] for axis in order])
        known: dict[str, int] = {}
        for length in groups:
            members = [next(letters) for _ in range(length)]
            known |= {name: sizes[names.index(name)] for name in members[1:]}
            left.append("1" if not members else members[0] if length == 1 else f"({' '.join(members)})")
        yield Axes(f"{' '.join(left)} -> {side_of(fine, names)}", **known)


def _groups(coarse: Shape, sizes: list[int]) -> list[int] | None:
    """Return how many of the sizes multiply to each axis: [2, 1] for the axes (12, 5) and the sizes 3, 4, 5.

    Args:
        coarse: The shape.
        sizes: The sizes to divide among the axes of `coarse`, in order.

    Returns:
        The numbers of sizes; None if the products differ from the axes of `coarse`, or sizes are left over.
    """
    groups, used = [], 0
    for size in coarse:
        count, product = 0, 1
        while product < size and used < len(sizes):
            product *= sizes[used]
            used, count = used + 1, count + 1
        if product != size:
            return None
        groups.append(count)
    return groups if used == len(sizes) else None


def same_sizes(first: Sequence[Shape], second: Sequence[Shape]) -> bool:
    """Return whether arrays of two lists of shapes have the same numbers of elements, in any order of the shapes."""
    return sorted(map(prod, first)) == sorted(map(prod, second))
