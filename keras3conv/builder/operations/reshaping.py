"""Compute the axis order of a reshaped value. A reshape that merges only adjacent axes needs no permutation."""

from collections import Counter

from keras3conv.builder.program.program import Order, Value, identity
from keras3conv.model.graph import Shape, Size

_Product = tuple[int, Counter[str]]
"""A number of elements, as a number and the dynamic sizes by which it is multiplied: 64 * batch is (64, ("batch",))."""


def kept_order(tensor: Value, new_shape: Shape) -> Order | None:
    """Return the axis order of a value after a reshape; None if the value must be permuted before the reshape.

    The axes form groups that are reshaped independently: [batch], [height, width]. No permutation is needed if, in the
    axis order of torch, the axes of each group are adjacent and in the order of Keras.

    Args:
        tensor: The value to reshape.
        new_shape: The new shape in the axis order of Keras.
    """
    if tensor.order == identity(tensor.rank):
        return identity(len(new_shape))
    groups = _groups(tensor.shape, new_shape)
    if groups is None:
        return None
    order: list[int] = []
    rest = [axis for axis in tensor.order if tensor.shape[axis] != 1]
    while rest:
        old, new = next(group for group in groups if rest[0] in group[0])
        old = [axis for axis in old if tensor.shape[axis] != 1]
        if rest[: len(old)] != old:
            return None
        order += new
        rest = rest[len(old) :]
    return _with_single(order, new_shape)


def _with_single(order: list[int], shape: Shape) -> Order:
    """Return an axis order extended by the missing axes of size 1, each after the axis that precedes it in Keras.

    Args:
        order: The axis order without these axes; the list itself is changed.
        shape: The shape of the value, which has all axes.
    """
    for axis in range(len(shape)):
        if axis not in order:
            order.insert(order.index(axis - 1) + 1 if axis else 0, axis)
    return tuple(order)


def _groups(old_shape: Shape, new_shape: Shape) -> list[tuple[list[int], list[int]]] | None:
    """Return the groups of axes that a reshape changes independently of each other; None if there are none.

    A group is a list of old axes and a list of new axes with the same number of elements. For a reshape of (2, 12) to
    (2, 3, 4), the groups are ([0], [0]) and ([1], [1, 2]). The groups are as small as possible. Axes of size 1 are in
    no group.
    """
    if any(isinstance(size, Size) and "unknown" in size.symbols for size in (*old_shape, *new_shape)):
        return None
    old = [axis for axis, size in enumerate(old_shape) if size != 1]
    new = [axis for axis, size in enumerate(new_shape) if size != 1]
    found: list[tuple[list[int], list[int]]] = []
    while old and new:
        group: tuple[list[int], list[int]] = [old.pop(0)], [new.pop(0)]
        while (products := (_product(old_shape, group[0]), _product(new_shape, group[1])))[0] != products[1]:
            if old and _divides(products[0], products[1]):
                group[0].append(old.pop(0))
            elif new:
                group[1].append(new.pop(0))
            else:
                return None
        found.append(group)
    return None if old or new else found


def _product(shape: Shape, axes: list[int]) -> _Product:
    factor, symbols = 1, Counter[str]()
    for axis in axes:
        size = shape[axis]
        if isinstance(size, Size):
            if size.offset:
                symbols[f"({size})"] += 1  # a sum of sizes counts as a symbol, since it has no factors
                continue
            symbols.update(size.symbols)
        factor *= size.factor if isinstance(size, Size) else size
    return factor, symbols


def _divides(one: _Product, other: _Product) -> bool:
    return one[0] != 0 and other[0] % one[0] == 0 and one[1] <= other[1]
