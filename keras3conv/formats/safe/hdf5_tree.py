"""Describe the groups and the datasets of an HDF5 file, and limit them."""

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from itertools import count, takewhile

from keras3conv.errors import BudgetExceeded, MalformedCheckpoint, quoted
from keras3conv.formats.safe.hdf5_dataset import Attribute, Dataset, Deferred
from keras3conv.formats.safe.hdf5_levels import Levels

LEGACY_WEIGHTS = "model_weights"
"""The name of the HDF5 group that holds the weights, in a whole model saved by Keras 2."""

MAX_DEPTH = 64
MAX_NAME = 2000
MAX_NAMES = 32 << 20
MAX_TEXT = 64 << 20
"""The largest depth of a group, length of a name, length of all names with their paths, and length of an attribute."""

ATTRIBUTES = re.compile("name|keras_version|backend|model_config|(?:layer_names|weight_names)[0-9]{0,5}")
"""The names of the HDF5 attributes of groups that are read; all others are ignored."""

_IGNORED = {True: "optimizer_weights", False: "optimizer"}
"""The name of the root group that holds no weights of the model, in a legacy file and in a file of Keras 3."""

_MAX_COPIES = 8
_COPIES_FLOOR = 1 << 30
"""The bytes that all names of tied datasets may always declare together, even above `_MAX_COPIES` times the stored."""


@dataclass(frozen=True, kw_only=True)
class Tree:
    """The groups and the datasets of a file.

    Attributes:
        where: The name of the file for messages.
        groups: For each path of a group, the names of its members; the path of the root group is empty.
        datasets: The datasets by path.
        attributes: The attributes that Keras uses, texts and lists of texts, by the path of a group that has some.
        ignored: The names of groups at the root that contain no weights, such as the state of an optimizer.
        columns: The same groups, datasets and attributes in columns, if the file has the form that h5py writes.
    """

    where: str
    groups: Mapping[str, tuple[str, ...]]
    datasets: Mapping[str, Dataset]
    attributes: Mapping[str, Mapping[str, Attribute]]
    ignored: tuple[str, ...] = ()
    columns: Levels | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, levels: Levels, where: str, ignored: str) -> "Tree":
        """Return the objects of a file that are given in columns; most are made only when they are used.

        Args:
            levels: All objects of the file.
            where: The name of the file for messages.
            ignored: The name of the root group that contains no weights; empty if there is none.
        """
        inside = levels.levels[1].members.names if len(levels.levels) > 1 else ()
        held = {name: column.values[0] for name, column in levels.levels[0].attributes.items()}
        return cls(
            where=where,
            groups=Deferred({"": tuple(inside)}, lambda: levels.groups),
            datasets=Deferred({}, lambda: levels.datasets),
            attributes=Deferred({"": held}, lambda: levels.attributes),
            ignored=(ignored,) if ignored else (),
            columns=levels,
        )

    @property
    def is_legacy(self) -> bool:
        """True if the file has the format of Keras 2, with lists of layers and of weights."""
        has_weights = LEGACY_WEIGHTS in self.groups[""] and LEGACY_WEIGHTS in self.groups
        return has_weights or self.texts("", "layer_names") is not None

    def shared(self) -> dict[str, str]:
        """Return, for each path of a dataset with several paths (tied weights), the first of these paths."""
        if len({dataset.address for dataset in self.datasets.values()}) == len(self.datasets):
            return {}
        first: dict[int, str] = {}
        names = {path: first.setdefault(dataset.address, path) for path, dataset in sorted(self.datasets.items())}
        several = {name for path, name in names.items() if path != name}
        return {path: name for path, name in names.items() if name in several}

    def text(self, group: str, name: str) -> str | None:
        """Return a text attribute of a group; None if the group lacks it."""
        value = self.attributes.get(group, {}).get(name)
        if isinstance(value, tuple):
            raise MalformedCheckpoint(f"{self.where}: the attribute {quoted(name)} of {quoted(group)} is not text")
        return value

    def texts(self, group: str, name: str) -> list[str] | None:
        """Return the list of names in an HDF5 attribute of a group; None if the group has no such attribute.

        Keras splits a long list among several attributes, "weight_names0" and "weight_names1"; they are joined.
        """
        held = self.attributes.get(group, {})
        numbered = (f"{name}{number}" for number in count())
        parts = [name] if name in held else list(takewhile(held.__contains__, numbered))
        names: list[str] = []
        for part in parts:
            value = held[part]
            if isinstance(value, str):
                raise MalformedCheckpoint(
                    f"{self.where}: the attribute {quoted(part)} of {quoted(group)} is not a list"
                )
            names += value
        return names if parts else None


def ignored_group(members: Container[str], attributes: Container[str]) -> str:
    """Return the name of the group at the root that holds no weights, such as the state of an optimizer; "" if none.

    Args:
        members: The names of the members of the root group.
        attributes: The names of its attributes.
    """
    is_legacy = LEGACY_WEIGHTS in members or "layer_names" in attributes or "layer_names0" in attributes
    name = _IGNORED[is_legacy]
    return name if name in members else ""


def check_total(stored: int, copied: int, count: int, where: str, size: int) -> None:
    """Raise `BudgetExceeded` if datasets declare more bytes than the file has, or have too many paths.

    Args:
        stored: The stored bytes of all datasets.
        copied: The stored bytes of the datasets at all paths; one dataset may have several paths.
        count: The number of these paths.
        where: The name of the file for messages.
        size: The size of the file in bytes.
    """
    if stored > size:
        raise BudgetExceeded(f"{where} has {size:,} bytes, but its datasets declare {stored:,} stored bytes")
    if copied > max(_MAX_COPIES * stored, _COPIES_FLOOR):
        raise BudgetExceeded(
            f"{where}: its {count:,} datasets share the same few stored values, which would take {copied:,} bytes of "
            "memory"
        )
