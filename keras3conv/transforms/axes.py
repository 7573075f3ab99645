"""Transform that permutes, merges and splits the axes of an array by a pattern such as "o i h w -> h w i o"."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod
from operator import index
from typing import Any

from keras3conv.errors import TransformError
from keras3conv.transforms.base import Arrays, Shape, Shapes, Transform

_TOKEN = re.compile(r"\(|\)|[a-z][a-z0-9_]*|1|\S")

Group = tuple[str, ...]
"""The names of the pattern that are merged in one axis of an array; empty for an axis of size one."""


def _parse_side(pattern: str, side: str) -> tuple[Group, ...]:
    groups: list[Group] = []
    open_group: list[str] | None = None
    for token in _TOKEN.findall(side):
        if token == "(" and open_group is None:
            open_group = []
        elif token == ")" and open_group is not None:
            groups.append(tuple(open_group))
            open_group = None
        elif "a" <= token[0] <= "z" and open_group is not None:
            open_group.append(token)
        elif "a" <= token[0] <= "z":
            groups.append((token,))
        elif token == "1" and open_group is None:
            groups.append(())
        else:
            raise TransformError(
                f"the pattern {pattern!r} has an unexpected {token!r}; a pattern has names of axes, brackets and "
                "'->', as in 'o i -> i o'"
            )
    if open_group is not None:
        raise TransformError(f"a bracket in the pattern {pattern!r} is not closed: add a ')'")
    return tuple(groups)


@lru_cache(maxsize=1024)
def _parse(pattern: str) -> tuple[tuple[Group, ...], tuple[Group, ...]]:
    left, arrow, right = pattern.partition("->")
    if not arrow:
        raise TransformError(f"the pattern {pattern!r} has no '->' between its two sides: write it as in 'o i -> i o'")
    return _parse_side(pattern, left), _parse_side(pattern, right)


def side_of(shape: Shape, names: Iterable[str]) -> str:
    """Return one side of a pattern: the next name for each axis, "1" for an axis of size 1: (4, 1, 3) -> "a 1 b"."""
    left = iter(names)
    return " ".join("1" if size == 1 else next(left) for size in shape)


def write_side(groups: Sequence[Sequence[str]]) -> str:
    """Return one side of a pattern from the axes of each group: [["a"], ["b", "c"], []] -> "a (b c) 1"."""
    return " ".join("1" if not group else group[0] if len(group) == 1 else f"({' '.join(group)})" for group in groups)


@dataclass(frozen=True, init=False, repr=False)
class Axes(Transform):
    """Permute, merge and split the axes of one array by a pattern: `Axes("o i h w -> h w i o")`.

    A name is an axis, a bracket merges axes (row-major), `1` is an axis of size one. The inverse is the same pattern
    with its sides swapped. The constructor raises `TransformError` for a pattern that cannot be reversed.

    Args:
        pattern: The two sides. Each name appears exactly once on each side.
        sizes: The sizes of names; each bracket needs the sizes of all its names but one.
    """

    pattern: str
    sizes: tuple[tuple[str, int], ...]

    def __init__(self, pattern: str, /, **sizes: int) -> None:
        left, right = _parse(pattern)
        # Normalize the spelling, so that the inverse of the inverse is equal to the original.
        object.__setattr__(self, "pattern", f"{write_side(left)} -> {write_side(right)}")
        object.__setattr__(self, "sizes", tuple(sorted(sizes.items())))
        self._require_reversible(left, right)

    def _require_reversible(self, left: tuple[Group, ...], right: tuple[Group, ...]) -> None:
        sizes = dict(self.sizes)
        names = [[name for group in side for name in group] for side in (left, right)]
        for side in names:
            if len(side) != len(set(side)):
                raise TransformError(
                    f"{self!r} is not a valid pattern: the name of an axis occurs twice on one side"
                    "; name each axis once"
                )
        if set(names[0]) != set(names[1]):
            missing = ", ".join(sorted(set(names[0]) ^ set(names[1])))
            raise TransformError(
                f"{self!r} cannot be reversed: {missing} occurs on one side of the pattern only; write it on both sides"
            )
        if unknown := sizes.keys() - set(names[0]):
            named = ", ".join(sorted(unknown))
            raise TransformError(
                f"{self!r} gives a size for {named}, but its pattern has no such axis: leave the size out"
            )
        if empty := [name for name, size in sizes.items() if size < 1]:
            raise TransformError(
                f"{self!r} cannot be reversed: the size of {' and '.join(empty)} is 0; use positive sizes"
            )
        for group in left + right:
            if len(unsized := [name for name in group if name not in sizes]) > 1:
                raise TransformError(
                    f"{self!r} cannot be reversed: give the size of {' or '.join(unsized)} as a keyword argument"
                )

    def __repr__(self) -> str:
        sizes = "".join(f", {name}={size}" for name, size in self.sizes)
        return f'Axes("{self.pattern}"{sizes})'

    @cached_property
    def groups(self) -> tuple[tuple[Group, ...], tuple[Group, ...]]:
        """The names in each axis of the array and of the result: ((("h", "d"), ("i",)), (("i",), ("h",), ("d",)))."""
        return _parse(self.pattern)

    @cached_property
    def inverse(self) -> "Axes":
        """Return the transform with the pattern reversed: "h w i o -> o i h w" for "o i h w -> h w i o"."""
        left, right = self.groups
        return Axes(f"{write_side(right)} -> {write_side(left)}", **dict(self.sizes))

    def _solve(self, shape: Shape) -> dict[str, int]:
        """Return the size of each name of the pattern for an array of a given shape.

        Args:
            shape: The shape of the array.
        """
        left, _ = self.groups
        if len(shape) != len(left):
            raise TransformError(
                f"{self!r} takes an array with {len(left)} axes, but this one has {len(shape)}, with the shape {shape}"
            )
        sizes = dict(self.sizes)
        for group, size in zip(left, shape, strict=True):
            known = prod(sizes[name] for name in group if name in sizes)
            unsized = [name for name in group if name not in sizes]
            if unsized:
                sizes[unsized[0]], rest = divmod(size, known) if known else (0, size)
            else:
                rest = size - known
            if rest:
                wanted = f"a multiple of {known}" if unsized else str(known)
                raise self._misfit(f"the size of '{' '.join(group) or '1'}' is {size}, not {wanted}", shape)
        return sizes

    def shapes(self, shapes: Shapes) -> Shapes:
        """Return the shape of the rearranged array.

        Args:
            shapes: The shape of the array, in a tuple.
        """
        (shape,) = self._require_count(1, shapes)
        sizes = self._solve(shape)
        return (tuple(prod(sizes[name] for name in group) for group in self.groups[1]),)

    def __call__(self, arrays: Arrays) -> Arrays:
        """Return the rearranged array: a view, unless it merges axes that are not adjacent in memory."""
        (array,) = self._require_count(1, arrays)
        sizes = self._solve(array.shape)
        left, right = self.groups
        names = [name for group in left for name in group]
        order = [names.index(name) for group in right for name in group]
        split = array.reshape([sizes[name] for name in names])
        moved = split.transpose(order)
        return (moved.reshape([prod(sizes[name] for name in group) for group in right]),)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form of the transform: the pattern, and the sizes if there are any."""
        return {"axes": self.pattern, **({"sizes": dict(self.sizes)} if self.sizes else {})}

    @classmethod
    def _from_json(cls, data: Mapping[str, Any]) -> "Axes":
        return cls(data["axes"], **{name: index(size) for name, size in data.get("sizes", {}).items()})
