"""Evidence of the numbers in names: which of several alike a layer is, whatever either side begins to count with.

Layers that are given the same run in no order that means anything, and Keras runs the branches of a functional model
from their ends. What counts is the rank of a number among those in its place: 0, 1, 2 on one side are 1, 2, 3 on the
other. Where the two sides have other numbers of layers in a place, their ranks tell nothing.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Ranks:
    """The place of every path among those that differ from it by numbers only.

    Attributes:
        ranks: By path, the rank of each of its numbers.
        sizes: By path, how many numbers there are in each of these places.
    """

    ranks: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    sizes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, paths: Iterable[str]) -> "Ranks":
        """The ranks of paths: "heads.0", "heads.1" and "heads.3" have the ranks 0, 1 and 2."""
        families: dict[str, dict[str, tuple[int, ...]]] = {}
        for path in paths:
            family = families.setdefault(_NUMBER.sub("#", path), {})
            family[path] = tuple(map(int, _NUMBER.findall(path)))
        ranks, sizes = {}, {}
        for family in families.values():
            places = [sorted(set(column)) for column in zip(*family.values(), strict=True)]
            for path, numbers in family.items():
                ranks[path] = tuple(map(list.index, places, numbers))
                sizes[path] = tuple(map(len, places))
        return cls(ranks, sizes)

    def apart(self, path: str, others: "Ranks", other: str) -> bool:
        """Whether two paths are of the same number of alike, and not the same one of them."""
        sizes = self.sizes.get(path)
        return bool(sizes) and sizes == others.sizes.get(other) and self.ranks[path] != others.ranks[other]


__all__ = ["Ranks"]
