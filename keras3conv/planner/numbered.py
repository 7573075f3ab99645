"""Rank the numbers in names: 0, 1, 2 on one side correspond to 1, 2, 3 on the other.

The call order of layers with the same input means nothing, and Keras runs the branches of a functional model from their
ends. So the rank of a number counts, among the paths that differ in that number alone. Where the two sides have
different numbers of such paths, ranks tell nothing.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Ranks:
    """The rank of every path among the paths that differ from it by numbers only.

    Attributes:
        ranks: For each path, the rank of each of its numbers.
        sizes: For each path, how many different numbers occur in the position of each.
    """

    ranks: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    sizes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, paths: Iterable[str]) -> "Ranks":
        """Return the ranks of paths: "heads.0", "heads.1" and "heads.3" have the ranks 0, 1 and 2."""
        families: dict[str, dict[str, tuple[int, ...]]] = {}
        for path in paths:
            family = families.setdefault(_NUMBER.sub("#", path), {})
            family[path] = tuple(map(int, _NUMBER.findall(path)))
        ranks, sizes = {}, {}
        for family in families.values():
            columns = [sorted(set(column)) for column in zip(*family.values(), strict=True)]
            for path, numbers in family.items():
                ranks[path] = tuple(map(list.index, columns, numbers))
                sizes[path] = tuple(map(len, columns))
        return cls(ranks, sizes)

    def differ(self, path: str, others: "Ranks", other: str) -> bool:
        """Return whether two paths have different ranks in families of the same size."""
        sizes = self.sizes.get(path)
        return bool(sizes) and sizes == others.sizes.get(other) and self.ranks[path] != others.ranks[other]


__all__ = ["Ranks"]
