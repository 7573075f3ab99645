"""Hold the groups and datasets of an HDF5 file in arrays, one set for each depth; create objects on demand.

A file may have 100,000 groups, and many questions need only the arrays (columns), not an object for each group.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np

from keras3conv.formats.safe.hdf5_dataset import Attribute, Dataset
from keras3conv.formats.safe.hdf5_image import require
from keras3conv.transforms import Array, Shape


class Form(NamedTuple):
    """The shape and the dtype of a dataset, the numpy dtype of its values in the file, and their size in bytes."""

    shape: Shape
    dtype: str
    layout: str
    size: int


@dataclass(frozen=True)
class Column:
    """The values that the attribute of one name has, and for each value the index of the object that has it."""

    owner: Array
    values: Sequence[Attribute]


@dataclass(frozen=True)
class Members:
    """Objects at one depth of a file, sorted by the group that contains them.

    Attributes:
        parent: For each object, the index of its group among the objects one depth above.
        names: The name of each object in its group; empty for the root group.
    """

    parent: Array
    names: list[str]

    def counts(self, above: int) -> Array:
        """Return the number of members of each of the `above` objects one depth above."""
        return np.bincount(self.parent, minlength=above)


@dataclass(frozen=True)
class Datasets:
    """The datasets among the objects at one depth.

    Attributes:
        place: The index of each dataset among these objects, ascending.
        address: The address of its object header.
        form: The index of its form in `forms`.
        forms: The different shapes and dtypes.
        offset: The offset of its values in the file; -1 if there are none.
    """

    place: Array
    address: Array
    form: Array
    forms: Sequence[Form]
    offset: Array

    @property
    def sizes(self) -> Array:
        """The size of the values of each dataset in bytes."""
        return np.array([form.size for form in self.forms], np.int64)[self.form]


@dataclass(frozen=True)
class Level:
    """The objects at one depth of a file: its members, which of them are groups, and what groups and datasets have.

    Attributes:
        members: The names of the objects, and the groups that contain them.
        is_group: Whether each object is a group.
        attributes: The attributes of the groups that Keras uses, by their names.
        datasets: The datasets.
    """

    members: Members
    is_group: Array
    attributes: Mapping[str, Column]
    datasets: Datasets


@dataclass(frozen=True)
class Levels:
    """All groups and datasets of a file, in arrays for each depth; the first level has only the root group."""

    levels: Sequence[Level] = field(default=())

    @cached_property
    def _paths(self) -> list[list[str]]:
        """The paths of the groups and datasets at each depth of the file."""
        found = [[""], *[level.members.names for level in self.levels[1:2]]]
        for level in self.levels[2:]:
            above, parents = found[-1], level.members.parent.tolist()
            found.append([f"{above[place]}/{name}" for place, name in zip(parents, level.members.names, strict=True)])
        return found

    @cached_property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """The names of the members of each group, by the path of the group."""
        found: dict[str, tuple[str, ...]] = {}
        for number, level in enumerate(self.levels):
            paths = self._paths[number]
            names, counts = [], np.zeros(len(paths), np.int64)
            if number + 1 < len(self.levels):
                below = self.levels[number + 1].members
                names, counts = below.names, below.counts(len(paths))
            own = [path for path, is_group in zip(paths, level.is_group.tolist(), strict=True) if is_group]
            found.update(zip(own, _cut(names, counts[level.is_group]), strict=True))
        return found

    @cached_property
    def datasets(self) -> dict[str, Dataset]:
        """The datasets of the file, by path."""
        found: dict[str, Dataset] = {}
        for paths, level in zip(self._paths, self.levels, strict=True):
            held = level.datasets
            if not held.place.size:
                continue
            own = [paths[place] for place in held.place.tolist()]
            shapes, dtypes, layouts, sizes = zip(*[held.forms[form] for form in held.form.tolist()], strict=True)
            if (held.offset < 0).any():
                known = zip(layouts, held.offset.tolist(), strict=True)
                layouts = tuple([layout if begin >= 0 else "" for layout, begin in known])
            begins = np.maximum(held.offset, 0).tolist()
            columns = (own, shapes, dtypes, held.address.tolist(), sizes, layouts, begins)
            made = map(partial(tuple.__new__, Dataset), zip(*columns, strict=True))
            found.update(zip(own, made, strict=True))
        return found

    @cached_property
    def attributes(self) -> dict[str, dict[str, Attribute]]:
        """The attributes that Keras uses, by the path of a group that has some."""
        found: dict[str, dict[str, Attribute]] = {}
        for paths, level in zip(self._paths, self.levels, strict=True):
            for name, column in level.attributes.items():
                for owner, value in zip(column.owner.tolist(), column.values, strict=True):
                    found.setdefault(paths[owner], {})[name] = value
        return found


def _cut(names: list[str], counts: Array) -> Iterator[tuple[str, ...]]:
    """Divide a list of names into tuples of the given lengths, and yield the tuples."""
    if (counts == 1).all():  # as the groups of 100,000 layers with one variable each
        yield from zip(names, strict=True)
        return
    start = 0
    for stop in np.cumsum(counts).tolist():
        yield tuple(names[start:stop])
        start = stop


def check_distinct(column: Array) -> None:
    """Raise `UnusualError` if a number occurs twice in `column`."""
    require(np.diff(np.sort(column)) > 0)
