"""Define the known row orders of fused weights, such as query, key and value interleaved by attention head.

A row of a weight computes one output of a layer. Two models may store the same rows in different orders. The outputs of
the layers are then equal up to a permutation. Only a later layer, which uses the values by position, shows the order.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, permutations

import numpy as np

from keras3conv.errors import TransformError
from keras3conv.model.paths import join_layers, split_layers
from keras3conv.planner.evidence import names
from keras3conv.transforms import Array, Axes, Beside, Chain, Concat, Same, Shape, Split, Take, Transform

WITH_ROWS = ("torch.nn.Linear", "torch.nn.Conv1d", "torch.nn.Conv2d")
"""The torch classes whose weight has a row for each output, as its first axis."""

_MOST_GROUPED = 64
"""The largest number of query heads that are assumed to share a key and a value in grouped-query attention."""


@dataclass(frozen=True)
class RowOrder:
    """A permutation of the rows of a weight and of its bias, from the order of torch to the order of Keras.

    Attributes:
        name: The order of the rows in torch, in words, such as "head by head (8 heads of 64)".
        transform: A function that gets the number of axes of a tensor, and returns the transform that permutes its
            rows, the elements along its first axis.
    """

    name: str
    transform: Callable[[int], Transform] = field(compare=False, repr=False)

    def __call__(self, array: Array, axis: int = 0) -> Array:
        """Return a torch weight or output with its rows permuted into the order of Keras.

        Args:
            array: The array.
            axis: The axis whose elements are the rows: -1 for the features of an output.
        """
        moved = np.moveaxis(array, axis, 0)
        (ordered,) = self.transform(2)((moved.reshape(len(moved), -1),))
        return np.moveaxis(ordered.reshape(moved.shape), 0, axis)

    def ordered(self, tensor: Array) -> Array:
        """Return a torch weight or bias with its rows in the order of Keras."""
        return self.transform(tensor.ndim)((tensor,))[0]

    def fits(self, shape: Shape) -> bool:
        """Return whether this permutation can be applied to a tensor: its rows must divide into the heads and parts."""
        try:
            self.transform(len(shape)).shapes((shape,))
        except TransformError:
            return False
        return True

    def then(self, other: "RowOrder | None") -> "RowOrder":
        """Return the composition of two row orders: first this permutation, then `other`."""
        if other is None:
            return self
        both = f"{self.name}, {other.name}"
        return RowOrder(both, lambda axes: Chain(self.transform(axes), other.transform(axes)))

    @property
    def inverse(self) -> "RowOrder":
        """The inverse permutation; it is used if Keras, not torch, has the fused layer."""
        return RowOrder(self.name, lambda axes: self.transform(axes).inverse)


@dataclass(frozen=True)
class RowOrders:
    """The orders of weight rows that one run of the probe assumes; torch and Keras may order the rows differently.

    Attributes:
        fused: The order of the rows of fused layers (query, key and value in one, or gate and up), by the path of the
            torch layer without numbers: "blocks.attn.qkv" for the layers "blocks.0.attn.qkv", "blocks.1.attn.qkv", ...
        rotated: A function from the number of rows of a query or key weight to the order of its rows, if the two sides
            apply rotary embeddings in different ways; None if they apply them in the same way.
    """

    fused: Mapping[str, RowOrder] = field(default_factory=dict)
    rotated: Callable[[int], RowOrder | None] | None = None

    def of(self, torch: str, rows: int) -> RowOrder | None:
        """Return the assumed order of the rows of a torch layer's weight; None if Keras has the same order."""
        order = self.fused.get(without_numbers(torch))
        if order and order.fits((rows,)):  # another layer with the same name but for numbers may have other rows
            return order
        is_rotated = self.rotated is not None and names.meaning(torch) in ("query", "key")
        return self.rotated(rows) if is_rotated and self.rotated else None

    @property
    def name(self) -> str:
        """The names of the assumed row orders, joined for a report, such as "head by head (8 heads of 64)"."""
        rotated = ["pairs of rotary positions"] if self.rotated else []
        return "; ".join([*(order.name for order in self.fused.values()), *rotated])


def without_numbers(path: str) -> str:
    """Return the path of a layer without numbers, so that corresponding layers of all blocks have the same result.

    Several paths, joined by " + ", are put into one order. A path of numbers alone is returned unchanged: the layers of
    a Sequential have nothing in common.
    """
    paths = {".".join(part for part in name.split(".") if not part.isdigit()) or name for name in split_layers(path)}
    return join_layers(sorted(paths))


def fused_orders(rows: int, parts: tuple[int, ...], integers: frozenset[int], *, whole: bool) -> Iterator[RowOrder]:
    """Yield the known orders of the rows of a fused layer (query, key and value in one), the most plausible first.

    Args:
        rows: The number of rows.
        parts: The numbers of rows of query, key and value, or of gate and up.
        integers: The integers in the configuration of the torch module; the number of heads is probably among them.
        whole: Whether the other side's layer is fused too, so that its parts may have another order.
    """
    if len(set(parts)) > 1:
        yield from _grouped_orders(parts, integers)
        return
    number = len(parts)
    exchanged = [_exchanged(order) for order in permutations(range(number))][1:] if whole else []
    sizes = _head_sizes(rows // 3, integers) if number == 3 else []
    rotated = {size: [_rotated_parts(parts, size, pairs=pairs) for pairs in (False, True)] for size in sizes}
    heads = {count: rows // number // count for count in _plausible(rows // number, integers)}
    by_heads = [_by_heads(count, number, size) for count, size in heads.items()]
    yield from (*by_heads, *exchanged, *chain.from_iterable(rotated.values()))
    for order, (count, size) in zip(by_heads, heads.items(), strict=True):
        if count in integers or size in integers:
            yield from (order.then(entry) for entry in (*exchanged, *rotated.get(size, ())))


_GATES = {4: ((0, 1, 3, 2), (1, 0, 2, 3), (1, 0, 3, 2), (0, 2, 1, 3)), 3: ((1, 0, 2),)}
"""Orders of gates in published cells, as places in torch, for Keras' input gate, forget gate, new values and output."""


def gate_orders(rows: int) -> Iterator[RowOrder]:
    """Yield the orders of the gates of a recurrent cell that somebody wrote: four as in an LSTM, or three as in a GRU.

    Args:
        rows: The number of rows of the weight, which has the same number for every gate.
    """
    for number, orders in _GATES.items():
        if rows % number == 0:
            yield from map(_exchanged, orders)


def half_orders(shape: Shape) -> Iterator[RowOrder]:
    """Yield the orders of the gate and up rows in a tensor of all experts, whose first axis counts the experts."""
    for axis in (axis for axis in range(1, len(shape)) if shape[axis] % 2 == 0 and shape[axis] > 2):
        exchanged = RowOrder(f"the halves of axis {axis} exchanged", lambda _, axis=axis: Take(axis, (1, 0)))  # type: ignore[misc]
        alternating = _alternating(axis)
        yield from (exchanged, alternating, alternating.then(exchanged))


def _alternating(axis: int) -> RowOrder:
    def transform(axes: int) -> Transform:
        letters = [*"uvwxyz"[:axes]]
        left, right = list(letters), list(letters)
        left[axis], right[axis] = "(h p)", "(p h)"
        return Axes(f"{' '.join(left)} -> {' '.join(right)}", p=2)

    return RowOrder(f"the halves of axis {axis} alternate", transform)


def rotary_orders(sizes: set[int], integers: frozenset[int]) -> Iterator[Callable[[int], RowOrder | None]]:
    """Yield the row orders of query and key weights that may be needed if the two sides differ in rotary embeddings.

    One model may rotate neighbouring values of a head, and the other the first half with the second half of a head.
    Each order is yielded as a function of the number of rows. The function returns None if the rows cannot be divided
    into heads.

    Args:
        sizes: The numbers of rows of the queries and keys.
        integers: The integers in the configuration of the torch module.
    """
    for size in _head_sizes(min(sizes), integers):
        turned = [size, *(part for part in sorted(integers) if part < size and part % 2 == 0 and part > 2)]
        for part in turned:
            for pairs in (False, True):
                order = _rotated(size, part, pairs=pairs)
                yield lambda rows, size=size, order=order: None if rows % size else order  # type: ignore[misc]


def _plausible(number: int, integers: frozenset[int]) -> list[int]:
    """Return the divisors of a number except 1, plausible ones first: those that occur in a model's configuration.

    A divisor is also plausible if number / divisor occurs in the configuration.

    Args:
        number: The number of rows, to be divided into heads.
        integers: The integers in the configuration of the torch module.
    """
    divisors = [count for count in range(2, number + 1) if number % count == 0]
    return sorted(divisors, key=lambda count: count not in integers and number // count not in integers)


def _head_sizes(rows: int, integers: frozenset[int]) -> list[int]:
    return [size for size in _plausible(rows, integers) if size % 2 == 0 and size > 2]


def _other_axes(axes: int) -> str:
    return "".join(f" {name}" for name in "wxyz"[: axes - 1])


def _by_heads(heads: int, parts: int, size: int) -> RowOrder:
    def transform(axes: int) -> Transform:
        rest = _other_axes(axes)
        return Axes(f"(h p d){rest} -> (p h d){rest}", h=heads, p=parts, d=size)

    return RowOrder("row by row" if size == 1 else f"head by head ({heads} heads of {size})", transform)


def _exchanged(order: tuple[int, ...]) -> RowOrder:
    return RowOrder(f"the parts exchanged, {order}", lambda axes: Take(0, order))


def _grouped_orders(parts: tuple[int, ...], integers: frozenset[int]) -> Iterator[RowOrder]:
    """Yield the row orders of grouped-query attention, where a key and a value follow the queries that share them.

    Args:
        parts: The numbers of rows of query, key and value; nothing is yielded for other parts.
        integers: The integers in the configuration of the torch module; the number of heads is probably among them.
    """
    if len(parts) != 3 or parts[1] != parts[2] or parts[0] % parts[1] or parts[0] // parts[1] > _MOST_GROUPED:
        return
    for groups in _plausible(parts[1], integers):
        yield _grouped(groups, parts[0] // parts[1], parts[1] // groups)


def _grouped(groups: int, queries: int, size: int) -> RowOrder:
    def transform(axes: int) -> Transform:
        rest = _other_axes(axes)
        one = Axes(f"1 g d{rest} -> (g d){rest}", g=groups, d=size)
        many = Axes(f"m g d{rest} -> (g m d){rest}", m=queries, g=groups, d=size)
        return Chain(
            Axes(f"(g s d){rest} -> s g d{rest}", g=groups, s=queries + 2, d=size),
            Split(0, (queries, 1, 1)),
            Beside(many, one, one),
            Concat(0, (groups * queries * size, groups * size, groups * size)),
        )

    return RowOrder(f"{groups} groups of {queries} queries, a key and a value of {size}", transform)


def _rotated(size: int, turned: int, *, pairs: bool) -> RowOrder:
    """Return the permutation of query or key rows that converts between the two forms of the rotary embedding.

    Args:
        size: The number of values of a head.
        turned: The number of values of a head that are rotated; the others keep their places.
        pairs: Whether torch rotates neighbouring values and Keras the two halves of a head; else the reverse.
    """

    def transform(axes: int) -> Transform:
        rest = _other_axes(axes)
        halves = Axes(f"(h p r){rest} -> (h r p){rest}", p=2, r=turned // 2)
        if turned == size:
            return halves.inverse if pairs else halves
        inside = Axes(f"h (p r){rest} -> h (r p){rest}", p=2, r=turned // 2)
        heads = Axes(f"(h d){rest} -> h d{rest}", d=size)
        return Chain(
            heads,
            Split(1, (turned, size - turned)),
            Beside(inside.inverse if pairs else inside, Same()),
            Concat(1, (turned, size - turned)),
            heads.inverse,
        )

    return RowOrder(f"{turned} values of each head rotated in {'pairs' if pairs else 'halves'}", transform)


def _rotated_parts(parts: tuple[int, ...], size: int, *, pairs: bool) -> RowOrder:
    """Return the permutation of a fused query, key and value that converts between the forms of the rotary embedding.

    Args:
        parts: The numbers of rows of query, key and value; the value is not rotated, so its rows keep their order.
        size: The number of values of a head.
        pairs: Whether torch rotates neighbouring values and Keras the two halves of a head; else the reverse.
    """
    order = _rotated(size, size, pairs=pairs)

    def transform(axes: int) -> Transform:
        one = order.transform(axes)
        return Chain(Split(0, parts), Beside(one, one, Same()), Concat(0, parts))

    return RowOrder(order.name, transform)
