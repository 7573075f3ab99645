"""Reversible tensor transforms.

A transform maps a tuple of arrays to a tuple of arrays, so one to one, one to three (a packed query, key, value) and
two to one (two biases of an LSTM) are the same type. Inverses are derived, never written by hand. The laws, which the
tests check for every transform of every rule:

- `f(f.inverse(y)) == y`, bit for bit, for every `y` that `f` can make;
- `f.inverse(f(x)) == x` if `f.lossless`;
- `f.inverse.inverse == f`;
- `from_json(f.to_json()) == f`;
- `f.shapes(shapes)` is what `f` does to arrays of these shapes.

Results are views where numpy can give one: nothing is copied before it is written.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from keras3conv.errors import TransformError

Array = NDArray[Any]
Arrays = tuple[Array, ...]
Shape = tuple[int, ...]
Shapes = tuple[Shape, ...]

T = TypeVar("T")


class Transform(Protocol):
    """A reversible map from a tuple of arrays to a tuple of arrays."""

    @property
    def lossless(self) -> bool:
        """Whether `f.inverse(f(x)) == x`, bit for bit."""

    @property
    def inverse(self) -> "Transform":
        """The transform of the other direction."""

    def shapes(self, shapes: Shapes) -> Shapes:
        """The shapes of the results, from the shapes of the arguments, without data."""

    def __call__(self, arrays: Arrays) -> Arrays:
        """Transforms the arrays."""

    def to_json(self) -> dict[str, Any]:
        """A JSON object from which `from_json` makes an equal transform."""


_TOKEN = re.compile(r"\(|\)|[a-z][a-z0-9_]*|1|\S")

Group = tuple[str, ...]
"""One axis of an array: the names that are merged in it; no name for an axis of size one."""


def _parse_side(pattern: str, side: str) -> tuple[Group, ...]:
    groups: list[Group] = []
    open_group: list[str] | None = None
    for token in _TOKEN.findall(side):
        if token == "(" and open_group is None:
            open_group = []
        elif token == ")" and open_group is not None:
            groups.append(tuple(open_group))
            open_group = None
        elif token[0].isalpha() and open_group is not None:
            open_group.append(token)
        elif token[0].isalpha():
            groups.append((token,))
        elif token == "1" and open_group is None:
            groups.append(())
        else:
            raise TransformError(f"{pattern!r}: unexpected {token!r}")
    if open_group is not None:
        raise TransformError(f"{pattern!r}: a bracket is not closed")
    return tuple(groups)


@dataclass(frozen=True, init=False, repr=False)
class Axes:
    """Renames, merges and splits the axes of one array, written as a pattern: `Axes("o i h w -> h w i o")`.

    A name is an axis, a bracket merges axes (row-major), `1` is an axis of size one. The inverse is the same pattern
    with its sides swapped; a pattern for which that does not work is a `TransformError` when it is made.

    Args:
        pattern: The two sides; both have the same names, each once.
        sizes: Sizes of names, needed for all but one name of every bracket.
    """

    pattern: str
    sizes: tuple[tuple[str, int], ...]

    def __init__(self, pattern: str, /, **sizes: int) -> None:
        object.__setattr__(self, "pattern", " ".join(pattern.split()))
        object.__setattr__(self, "sizes", tuple(sorted(sizes.items())))
        left, right = self._sides
        names = [[name for group in side for name in group] for side in (left, right)]
        for side in names:
            if len(side) != len(set(side)):
                raise TransformError(f"{self!r}: a name appears twice on one side")
        if set(names[0]) != set(names[1]):
            missing = ", ".join(sorted(set(names[0]) ^ set(names[1])))
            raise TransformError(f"{self!r} cannot be reversed: {missing} is on one side only")
        if unknown := sizes.keys() - set(names[0]):
            raise TransformError(f"{self!r}: a size is given for {', '.join(sorted(unknown))}, which is not in it")
        for group in left + right:
            if len(unsized := [name for name in group if name not in sizes]) > 1:
                raise TransformError(f"{self!r} cannot be reversed: give the size of {' or '.join(unsized)}")

    def __repr__(self) -> str:
        sizes = "".join(f", {name}={size}" for name, size in self.sizes)
        return f'Axes("{self.pattern}"{sizes})'

    @cached_property
    def _sides(self) -> tuple[tuple[Group, ...], tuple[Group, ...]]:
        left, arrow, right = self.pattern.partition("->")
        if not arrow:
            raise TransformError(f"{self.pattern!r}: there is no '->'")
        return _parse_side(self.pattern, left), _parse_side(self.pattern, right)

    @property
    def lossless(self) -> bool:
        """Always: axes are moved, values are not touched."""
        return True

    @cached_property
    def inverse(self) -> "Axes":
        """The same pattern, its sides swapped."""
        left, _, right = self.pattern.partition("->")
        return Axes(f"{right.strip()} -> {left.strip()}", **dict(self.sizes))

    def _solve(self, shape: Shape) -> dict[str, int]:
        """The size of every name, for an array of this shape."""
        left, _ = self._sides
        if len(shape) != len(left):
            raise TransformError(f"{self!r} takes {len(left)} axes, the array has {len(shape)}: {shape}")
        sizes = dict(self.sizes)
        for group, size in zip(left, shape, strict=True):
            known = prod(sizes[name] for name in group if name in sizes)
            unsized = [name for name in group if name not in sizes]
            if unsized:
                sizes[unsized[0]], rest = divmod(size, known) if known else (0, size)
            else:
                rest = size - known
            if rest:
                raise TransformError(f"{self!r} does not fit shape {shape}: '{' '.join(group) or '1'}' is {size}")
        return sizes

    def shapes(self, shapes: Shapes) -> Shapes:
        """The shape of the result; raises `TransformError` where the shape does not fit the pattern."""
        (shape,) = _exactly(1, shapes, self)
        sizes = self._solve(shape)
        return (tuple(prod(sizes[name] for name in group) for group in self._sides[1]),)

    def __call__(self, arrays: Arrays) -> Arrays:
        """Moves the axes: a view, except where axes that are not neighbours are merged."""
        (array,) = _exactly(1, arrays, self)
        sizes = self._solve(array.shape)
        left, right = self._sides
        names = [name for group in left for name in group]
        order = [names.index(name) for group in right for name in group]
        split = array.reshape([sizes[name] for name in names])
        moved = split.transpose(order)
        return (moved.reshape([prod(sizes[name] for name in group) for group in right]),)

    def to_json(self) -> dict[str, Any]:
        """`{"axes": pattern}`, and the sizes if there are any."""
        return {"axes": self.pattern, **({"sizes": dict(self.sizes)} if self.sizes else {})}


@dataclass(frozen=True)
class Same:
    """Leaves every array as it is."""

    @property
    def lossless(self) -> bool:
        """Always."""
        return True

    @property
    def inverse(self) -> "Same":
        """Itself."""
        return self

    def shapes(self, shapes: Shapes) -> Shapes:
        """The shapes that were given."""
        return shapes

    def __call__(self, arrays: Arrays) -> Arrays:
        """The arrays that were given."""
        return arrays

    def to_json(self) -> dict[str, Any]:
        """`{"same": true}`."""
        return {"same": True}


@dataclass(frozen=True)
class Take:
    """Reorders equal blocks along an axis: `Take(0, (1, 0, 2))` swaps the first two of three gates.

    Args:
        axis: The axis that holds the blocks.
        order: Which block of the argument stands at each place of the result; a permutation.
    """

    axis: int
    order: tuple[int, ...]

    def __post_init__(self) -> None:
        if sorted(self.order) != list(range(len(self.order))):
            raise TransformError(f"{self!r} cannot be reversed: the order is not a permutation")

    @property
    def lossless(self) -> bool:
        """Always: blocks are moved, values are not touched."""
        return True

    @property
    def inverse(self) -> "Take":
        """The permutation that puts the blocks back."""
        return Take(self.axis, tuple(self.order.index(place) for place in range(len(self.order))))

    def shapes(self, shapes: Shapes) -> Shapes:
        """The shape that was given, if the axis divides into the blocks."""
        (shape,) = _exactly(1, shapes, self)
        _block(shape, self.axis, len(self.order), self)
        return (shape,)

    def __call__(self, arrays: Arrays) -> Arrays:
        """Reorders the blocks (a copy: the new order is no view)."""
        (array,) = _exactly(1, arrays, self)
        _block(array.shape, self.axis, len(self.order), self)
        blocks = np.split(array, len(self.order), self.axis)
        return (np.concatenate([blocks[place] for place in self.order], self.axis),)

    def to_json(self) -> dict[str, Any]:
        """`{"take": order, "axis": axis}`."""
        return {"take": list(self.order), "axis": self.axis}


@dataclass(frozen=True)
class Split:
    """Cuts one array into several along an axis: a packed query, key and value.

    Args:
        axis: The axis that is cut.
        sizes: The size of every part along the axis.
    """

    axis: int
    sizes: tuple[int, ...]

    @property
    def lossless(self) -> bool:
        """Always."""
        return True

    @property
    def inverse(self) -> "Concat":
        """Joins the parts again."""
        return Concat(self.axis, self.sizes)

    def shapes(self, shapes: Shapes) -> Shapes:
        """A shape for every part."""
        (shape,) = _exactly(1, shapes, self)
        axis = _axis(shape, self.axis, self)
        if shape[axis] != sum(self.sizes):
            raise TransformError(f"{self!r} does not fit shape {shape}: axis {self.axis} is not {sum(self.sizes)}")
        return tuple((*shape[:axis], size, *shape[axis + 1 :]) for size in self.sizes)

    def __call__(self, arrays: Arrays) -> Arrays:
        """Cuts the array; the parts are views."""
        self.shapes(tuple(array.shape for array in arrays))
        return tuple(np.split(arrays[0], np.cumsum(self.sizes)[:-1], self.axis))

    def to_json(self) -> dict[str, Any]:
        """`{"split": sizes, "axis": axis}`."""
        return {"split": list(self.sizes), "axis": self.axis}


@dataclass(frozen=True)
class Concat:
    """Joins several arrays along an axis; the inverse of `Split`."""

    axis: int
    sizes: tuple[int, ...]

    @property
    def lossless(self) -> bool:
        """Always."""
        return True

    @property
    def inverse(self) -> Split:
        """Cuts the array again."""
        return Split(self.axis, self.sizes)

    def shapes(self, shapes: Shapes) -> Shapes:
        """The one shape of the joined array."""
        _exactly(len(self.sizes), shapes, self)
        axis = _axis(shapes[0], self.axis, self)
        joined = (*shapes[0][:axis], sum(self.sizes), *shapes[0][axis + 1 :])
        if self.inverse.shapes((joined,)) != shapes:
            raise TransformError(f"{self!r} does not fit shapes {', '.join(map(str, shapes))}")
        return (joined,)

    def __call__(self, arrays: Arrays) -> Arrays:
        """Joins the arrays."""
        self.shapes(tuple(array.shape for array in arrays))
        return (np.concatenate(arrays, self.axis),)

    def to_json(self) -> dict[str, Any]:
        """`{"concat": sizes, "axis": axis}`."""
        return {"concat": list(self.sizes), "axis": self.axis}


@dataclass(frozen=True)
class Stack:
    """Stacks several arrays of one shape along a new axis: the two biases of a GRU.

    Args:
        axis: The place of the new axis.
        count: How many arrays there are.
    """

    axis: int
    count: int

    @property
    def lossless(self) -> bool:
        """Always."""
        return True

    @property
    def inverse(self) -> "Unstack":
        """Takes the arrays apart again."""
        return Unstack(self.axis, self.count)

    def shapes(self, shapes: Shapes) -> Shapes:
        """The one shape of the stack."""
        _exactly(self.count, shapes, self)
        if len(set(shapes)) != 1:
            raise TransformError(f"{self!r} does not fit shapes {', '.join(map(str, shapes))}: they differ")
        axis = self.axis % (len(shapes[0]) + 1)
        return ((*shapes[0][:axis], self.count, *shapes[0][axis:]),)

    def __call__(self, arrays: Arrays) -> Arrays:
        """Stacks the arrays."""
        self.shapes(tuple(array.shape for array in arrays))
        return (np.stack(arrays, self.axis),)

    def to_json(self) -> dict[str, Any]:
        """`{"stack": count, "axis": axis}`."""
        return {"stack": self.count, "axis": self.axis}


@dataclass(frozen=True)
class Unstack:
    """Takes one array apart along an axis; the inverse of `Stack`."""

    axis: int
    count: int

    @property
    def lossless(self) -> bool:
        """Always."""
        return True

    @property
    def inverse(self) -> Stack:
        """Stacks the arrays again."""
        return Stack(self.axis, self.count)

    def shapes(self, shapes: Shapes) -> Shapes:
        """A shape for every array."""
        (shape,) = _exactly(1, shapes, self)
        axis = _axis(shape, self.axis, self)
        if shape[axis] != self.count:
            raise TransformError(f"{self!r} does not fit shape {shape}: axis {self.axis} is not {self.count}")
        return ((*shape[:axis], *shape[axis + 1 :]),) * self.count

    def __call__(self, arrays: Arrays) -> Arrays:
        """Takes the array apart; the parts are views."""
        self.shapes(tuple(array.shape for array in arrays))
        return tuple(np.moveaxis(arrays[0], self.axis, 0))

    def to_json(self) -> dict[str, Any]:
        """`{"unstack": count, "axis": axis}`."""
        return {"unstack": self.count, "axis": self.axis}


@dataclass(frozen=True)
class Sum:
    """Adds several arrays of one shape: the two biases of an LSTM. Lossy, and says so.

    Going back puts the whole sum into the first array and zeros into the others, so that
    `f(f.inverse(y)) == y` still holds bit for bit.
    """

    count: int

    @property
    def lossless(self) -> bool:
        """Never: the summands are gone."""
        return False

    @property
    def inverse(self) -> "Spread":
        """Puts the sum into the first array."""
        return Spread(self.count)

    def shapes(self, shapes: Shapes) -> Shapes:
        """The one shape that all arrays have."""
        _exactly(self.count, shapes, self)
        if len(set(shapes)) != 1:
            raise TransformError(f"{self!r} does not fit shapes {', '.join(map(str, shapes))}: they differ")
        return shapes[:1]

    def __call__(self, arrays: Arrays) -> Arrays:
        """Adds the arrays, in their own dtype."""
        self.shapes(tuple(array.shape for array in arrays))
        total = arrays[0]
        for array in arrays[1:]:
            total = total + array
        return (total,)

    def to_json(self) -> dict[str, Any]:
        """`{"sum": count}`."""
        return {"sum": self.count}


@dataclass(frozen=True)
class Spread:
    """Makes `(y, 0, ...)` of `y`; the inverse of `Sum`."""

    count: int

    @property
    def lossless(self) -> bool:
        """Always: the sum is `y` again."""
        return True

    @property
    def inverse(self) -> Sum:
        """Adds the arrays."""
        return Sum(self.count)

    def shapes(self, shapes: Shapes) -> Shapes:
        """The shape, once for every array."""
        return _exactly(1, shapes, self) * self.count

    def __call__(self, arrays: Arrays) -> Arrays:
        """The array and zeros. The zeros are negative ones: `-0.0 + 0.0` would lose the sign of a zero."""
        (array,) = _exactly(1, arrays, self)
        return (array, *(np.negative(np.zeros_like(array)) for _ in range(self.count - 1)))

    def to_json(self) -> dict[str, Any]:
        """`{"spread": count}`."""
        return {"spread": self.count}


@dataclass(frozen=True, init=False)
class Chain:
    """Applies transforms one after the other; its inverse is the chain of the inverses, reversed."""

    links: tuple[Transform, ...] = field(default=())

    def __init__(self, *links: Transform) -> None:
        object.__setattr__(self, "links", links)

    def __repr__(self) -> str:
        return f"Chain({', '.join(map(repr, self.links))})"

    @property
    def lossless(self) -> bool:
        """If every link is."""
        return all(link.lossless for link in self.links)

    @property
    def inverse(self) -> "Chain":
        """The inverses, last one first."""
        return Chain(*(link.inverse for link in reversed(self.links)))

    def shapes(self, shapes: Shapes) -> Shapes:
        """The shapes after the last link."""
        for link in self.links:
            shapes = link.shapes(shapes)
        return shapes

    def __call__(self, arrays: Arrays) -> Arrays:
        """Applies every link."""
        for link in self.links:
            arrays = link(arrays)
        return arrays

    def to_json(self) -> dict[str, Any]:
        """`{"chain": [...]}`."""
        return {"chain": [link.to_json() for link in self.links]}


@dataclass(frozen=True, init=False)
class Each:
    """Applies one transform of a single array to every array: three projections that are all transposed."""

    transform: Transform

    def __init__(self, transform: Transform) -> None:
        object.__setattr__(self, "transform", transform)

    @property
    def lossless(self) -> bool:
        """If the transform is."""
        return self.transform.lossless

    @property
    def inverse(self) -> "Each":
        """The inverse, for every array."""
        return Each(self.transform.inverse)

    def shapes(self, shapes: Shapes) -> Shapes:
        """The transformed shapes, in the same order."""
        return tuple(result for shape in shapes for result in self.transform.shapes((shape,)))

    def __call__(self, arrays: Arrays) -> Arrays:
        """Transforms every array."""
        return tuple(result for array in arrays for result in self.transform((array,)))

    def to_json(self) -> dict[str, Any]:
        """`{"each": transform}`."""
        return {"each": self.transform.to_json()}


_READERS: dict[str, Callable[[Mapping[str, Any]], Transform]] = {
    "axes": lambda data: Axes(data["axes"], **data.get("sizes", {})),
    "same": lambda data: Same(),
    "take": lambda data: Take(data["axis"], tuple(data["take"])),
    "split": lambda data: Split(data["axis"], tuple(data["split"])),
    "concat": lambda data: Concat(data["axis"], tuple(data["concat"])),
    "stack": lambda data: Stack(data["axis"], data["stack"]),
    "unstack": lambda data: Unstack(data["axis"], data["unstack"]),
    "sum": lambda data: Sum(data["sum"]),
    "spread": lambda data: Spread(data["spread"]),
    "chain": lambda data: Chain(*map(from_json, data["chain"])),
    "each": lambda data: Each(from_json(data["each"])),
}


def from_json(data: Mapping[str, Any]) -> Transform:
    """The transform that `to_json` wrote; raises `TransformError` for anything else."""
    kinds = [kind for kind in _READERS if isinstance(data, Mapping) and kind in data]
    if len(kinds) != 1:
        raise TransformError(f"not a transform: {data!r}; known: {', '.join(_READERS)}")
    try:
        return _READERS[kinds[0]](data)
    except (KeyError, TypeError, AttributeError) as error:
        raise TransformError(f"not a transform: {data!r} ({error})") from None


def _exactly(count: int, values: tuple[T, ...], transform: object) -> tuple[T, ...]:
    if len(values) != count:
        raise TransformError(f"{transform!r} takes {count} arrays, not {len(values)}")
    return values


def _axis(shape: Shape, axis: int, transform: object) -> int:
    if not -len(shape) <= axis < len(shape):
        raise TransformError(f"{transform!r} does not fit shape {shape}: there is no axis {axis}")
    return axis % len(shape)


def _block(shape: Shape, axis: int, blocks: int, transform: object) -> int:
    size = shape[_axis(shape, axis, transform)]
    if size % blocks:
        raise TransformError(f"{transform!r} does not fit shape {shape}: axis {axis} is not a multiple of {blocks}")
    return size // blocks
