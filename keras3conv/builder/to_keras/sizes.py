"""Compute with sizes that may be dynamic: quotients, products, and the common factors of two shapes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from keras3conv.builder.program.operation import Dtype
from keras3conv.builder.program.program import Order, Value
from keras3conv.builder.to_keras.call import Writer, ops
from keras3conv.errors import RuleError
from keras3conv.model.graph import Shape, Size

Groups = tuple[tuple[int, ...], ...]
"""For each axis of a shape, the indices of the factors (in a list of factors) whose product is its size."""


def plus(size: int | Size, number: int) -> int | Size:
    """Return the sum of a size and a number; the size may be dynamic."""
    return size + number if isinstance(size, int) else replace(size, offset=size.offset + number)


def product(sizes: Sequence[int | Size]) -> int | Size | None:
    """Return the product of sizes, which may be dynamic; None if it cannot be expressed as one `Size`."""
    made = 1
    symbols: tuple[str, ...] = ()
    for size in sizes:
        if not isinstance(size, int) and (size.offset or "unknown" in size.symbols):
            return size if len(sizes) == 1 else None
        made *= size if isinstance(size, int) else size.factor
        symbols = symbols if isinstance(size, int) else (*symbols, *size.symbols)
    return Size(symbols=tuple(sorted(symbols)), factor=made) if symbols else made


def divided(size: int | Size, by: int | Size) -> int | Size | None:
    """Return the quotient of two sizes; None if the first is not a multiple of the second. Both may be dynamic."""
    if isinstance(size, int) and isinstance(by, int):
        return size // by if by and size % by == 0 else None
    (factor, symbols), (divisor, others) = _parts(size), _parts(by)
    if not divisor or factor % divisor or others - symbols:
        return None
    rest = tuple(sorted((symbols - others).elements()))
    return Size(symbols=rest, factor=factor // divisor) if rest else factor // divisor


def _parts(size: int | Size) -> tuple[int, Counter[str]]:
    if isinstance(size, int):
        return size, Counter()
    if size.offset or "unknown" in size.symbols:
        return 1, Counter([f"<{size}>"])  # a size with an offset has no known factors: treat it as one symbol
    return size.factor, Counter(size.symbols)


def common_factors(old: Shape, new: Shape) -> tuple[list[int | Size], Groups, Groups] | None:
    """Return factors of which the sizes of two shapes are products, to see which axes a reshape splits or merges.

    (4, 6) and (8, 3) have the factors 4, 2, 3: 4 and 2 x 3 give the old sizes, 4 x 2 and 3 the new ones.

    Returns:
        The factors, and for each axis of the old and of the new shape the indices of its factors; None if there are no
        such factors.
    """
    factors: list[int | Size] = []
    groups: tuple[list[list[int]], list[list[int]]] = [[] for _ in old], [[] for _ in new]
    rest = [*old], [*new]
    first = second = 0
    while True:
        first, second = _next(rest[0], first), _next(rest[1], second)
        if first == len(old) or second == len(new):
            complete = first == len(old) and second == len(new)
            return (factors, _frozen(groups[0]), _frozen(groups[1])) if complete else None
        left, right = rest[0][first], rest[1][second]
        if (quotient := divided(right, left)) is not None:
            factor, rest[0][first], rest[1][second] = left, 1, quotient
        elif (quotient := divided(left, right)) is not None:
            factor, rest[0][first], rest[1][second] = right, quotient, 1
        else:
            return None
        groups[0][first].append(len(factors))
        groups[1][second].append(len(factors))
        factors.append(factor)


def _next(sizes: list[int | Size], place: int) -> int:
    while place < len(sizes) and sizes[place] == 1:
        place += 1
    return place


def _frozen(groups: list[list[int]]) -> Groups:
    return tuple(map(tuple, groups))


def order_after_reshape(old: Shape, new: Shape, order: Order, *, splits: bool = False) -> Order | None:
    """Return the axis order of the result of a reshape without a permutation; None if the reshape needs one.

    An axis of size one goes after the axis before it. With `splits`, it may go before the axis after it instead, as if
    that axis were split: then an image whose height is split into one window has the same order as with several
    windows.

    Args:
        old: The shape before, in torch's axis order.
        new: The shape after, in torch's axis order.
        order: The axis order before.
        splits: Whether an axis of size one may go before the axis after it.
    """
    found = common_factors(old, new)
    if found is None:
        return None
    _, before, after = found
    sequence = [factor for axis in order for factor in before[axis]]
    made: list[int] = []
    while sequence:
        axis = next((axis for axis, group in enumerate(after) if group and group[0] == sequence[0]), None)
        if axis is None or tuple(sequence[: len(after[axis])]) != after[axis]:
            return None
        made.append(axis)
        sequence = sequence[len(after[axis]) :]
    for axis in range(len(new)):
        if axis not in made:
            made.insert(_place_of_one(made, axis, splits=splits), axis)
    return tuple(made)


def _place_of_one(order: list[int], axis: int, *, splits: bool) -> int:
    """Return the position at which to insert an axis of size one into an axis order.

    Args:
        order: The axis order so far.
        axis: The index of the axis of size one.
        splits: Whether to insert it before the next axis instead of after the previous one, if these two are not
            adjacent.
    """
    if axis == 0:
        return 0
    place = order.index(axis - 1) + 1
    following = next((one for one in sorted(order) if one > axis), None)
    if not splits or axis == 1 or following is None or order[place : place + 1] == [following]:
        return place
    return order.index(following)


def factors_with_ones(old: Shape, new: Shape) -> tuple[tuple[Shape, ...], Groups] | None:
    """Return the common factors of two shapes (see `common_factors`); each old axis of size one is a factor, too.

    Such an axis belongs to a new axis of size one at the same position, else to the new axis before it.

    Args:
        old: The shape before a reshape.
        new: The shape after it.

    Returns:
        The factors of each old axis, and for each new axis the indices of its factors; None without such factors.
    """
    found = common_factors(old, new)
    if found is None:
        return None
    factors, before, after = found
    owner = {factor: axis for axis, group in enumerate(after) for factor in group}
    groups: list[list[int]] = [[] for _ in new]
    last = number = 0
    for axis, size in enumerate(old):
        if size == 1:
            last += last + 1 < len(new) and new[last + 1] == 1 and (bool(groups[last]) or new[last] != 1)
        for factor in before[axis] or (None,):
            last = last if factor is None else owner[factor]
            groups[last].append(number)
            number += 1
    return tuple(tuple(factors[factor] for factor in group) or (1,) for group in before), _frozen(groups)


def moves_only_ones(sizes: Shape, moved: Sequence[int]) -> bool:
    """Return whether a permutation moves only axes of size one, so that a reshape does the same.

    Args:
        sizes: The shape before.
        moved: The permutation.
    """
    kept = [axis for axis in moved if sizes[axis] != 1]
    return kept == sorted(kept)


def unknown_after(shape: Shape) -> Shape:
    """Return the shape of a value between two Keras layers that one rule makes: only its batch size is known."""
    return (shape[0], *(Size(symbols=("unknown",)) for _ in shape[1:]))


def written(shape: Sequence[int | Size]) -> tuple[int, ...] | None:
    """Return a shape as the argument of a Keras reshape, with -1 for a dynamic size; None for several dynamic sizes."""
    dynamic = [size for size in shape if not isinstance(size, int)]
    return tuple(size if isinstance(size, int) else -1 for size in shape) if len(dynamic) < 2 else None


def numbers_up_to(writer: Writer, size: Size, inputs: Sequence[Value]) -> Value:
    """Return the numbers 0 ... size - 1 as a value, computed as a cumulative sum of ones along an input axis.

    Args:
        writer: The program under construction.
        size: The dynamic size.
        inputs: The inputs of the model; one of them has an axis of this size, or of a size of which it is a multiple.
    """
    base = replace(size, factor=1)
    found = ((one, axis) for one in inputs for axis, other in enumerate(one.shape) if other in (size, base))
    given, axis = next(found, (None, 0))
    if given is None:
        raise RuleError(
            f"a range from 0 to the dynamic size {size} is supported only if that is a multiple of the size of an "
            "axis of an input"
        )
    index = tuple(slice(None) if one == axis else 0 for one in given.order)
    made = writer.new((size,), (0,), "int32")
    ones = ops.ones_like(given[index], dtype=Dtype("int32"))
    if given.shape[axis] != size:
        ones = ops.repeat(ones, size.factor, axis=0)
    writer.write(ops.cumsum(ones, axis=0) - 1, [made])
    if axis == 0:
        writer.example_numbers.add(made.name)
    return made
