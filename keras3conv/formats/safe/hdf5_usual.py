"""Inspect an HDF5 file of the usual form without the HDF5 library, for many objects at once.

The usual form is the one that h5py writes by default for plain numbers: no chunks, no compression, no links. Every
other file, and every damaged file, is left to the HDF5 library (`hdf5_survey`), whose messages are more exact. That
module accepts every file that is accepted here, with the same result; the tests compare the two.
"""

import re
import sys
from functools import lru_cache
from math import prod
from typing import BinaryIO

import numpy as np

from keras3conv.formats.safe import hdf5_members, hdf5_messages, hdf5_texts
from keras3conv.formats.safe.hdf5_dataset import Attribute
from keras3conv.formats.safe.hdf5_image import Image, UnusualError, decoded, distinct, first_and_group, require
from keras3conv.formats.safe.hdf5_levels import Column, Datasets, Form, Level, Levels, Members
from keras3conv.formats.safe.hdf5_messages import Messages
from keras3conv.formats.safe.hdf5_tree import (
    ATTRIBUTES,
    MAX_DEPTH,
    MAX_NAME,
    MAX_NAMES,
    MAX_TEXT,
    Tree,
    check_total,
    ignored_group,
)
from keras3conv.formats.safe.hdf5_types import BFLOAT16, NUMBERS, check_fill, sizes_of
from keras3conv.formats.safe.source import MAX_TENSORS, Source, dtype_named, is_shape
from keras3conv.garbage import collection_paused
from keras3conv.transforms import Array

_SUPERBLOCK = (
    rb"\x89HDF\r\n\x1a\n\0\0\0\0\0\x08\x08\0\x04\0\x10\0\0\0\0\0\0{8}\xff{8}(.{8})\xff{8}"  # the size of the file
    rb"\0{8}(.{8})\x01\0{7}(.{16})"  # the entry of the root group
)
"""The start of a file of version 0 with the default settings."""

_OF_GROUPS = frozenset(
    {hdf5_messages.NOTHING, hdf5_messages.ATTRIBUTE, hdf5_messages.CONTINUATION, hdf5_messages.MEMBERS}
)
_OF_DATASETS = frozenset(
    {
        hdf5_messages.NOTHING,
        hdf5_messages.SPACE,
        hdf5_messages.TYPE,
        hdf5_messages.FILL,
        hdf5_messages.LAYOUT,
        hdf5_messages.ATTRIBUTE,
        hdf5_messages.CONTINUATION,
        hdf5_messages.CHANGED,
    }
)
_ONCE = (hdf5_messages.SPACE, hdf5_messages.TYPE, hdf5_messages.FILL, hdf5_messages.LAYOUT)
_MARK = "dtype"
_MOST_FORMS = 1 << 62
_CONTIGUOUS = 0x0103
"""The version and the class of the layout of a dataset whose values are in one piece."""


def survey(source: Source, start: int, size: int, where: str) -> Tree | None:
    """Return the groups and datasets of a file of the usual form, without reading values; None for other files.

    Args:
        source: The file, or the archive that contains it.
        start: The position at which the HDF5 file starts in it.
        size: The size of the HDF5 file in bytes.
        where: The name of the file for messages.

    Raises:
        BudgetExceeded: The datasets declare more data than the file has.
    """
    with source.open() as file, collection_paused():
        try:
            _check_lock(file)
            image = Image(lambda place, buffer: source.read_into(file, start + place, buffer), size)
            return _Survey(image, where).run()
        except UnusualError:
            return None


def _check_lock(file: BinaryIO) -> None:
    """Raise `UnusualError` if another program has locked the file, as HDF5 does while it writes a file."""
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(file, fcntl.LOCK_UN)
    except OSError as error:
        raise UnusualError from error


class _Survey:
    """Inspects the groups and datasets of a file; all objects at one depth of the file are inspected together."""

    def __init__(self, image: Image, where: str) -> None:
        self.image, self.where = image, where
        self.levels: list[Level] = []
        self.ignored = ""
        self.seen = hdf5_members.Seen()
        self.objects = self.bytes_of_names = 0
        self.lengths = np.zeros(1, np.int64)  # of the paths of the objects at one depth

    def run(self) -> Tree:
        members, (addresses, table) = Members(np.zeros(1, np.int64), [""]), self._root()
        while members.names:
            require(len(self.levels) <= MAX_DEPTH)
            members, addresses, table = self._level(members, addresses, table)
        self.seen.check()
        address = np.concatenate([level.datasets.address for level in self.levels])
        sizes = np.concatenate([level.datasets.sizes for level in self.levels])
        _, first = np.unique(address, return_index=True)
        check_total(int(sizes[first].sum()), int(sizes.sum()), len(sizes), self.where, self.image.size)
        return Tree.of(Levels(self.levels), self.where, self.ignored)

    def _root(self) -> tuple[Array, Array]:
        """Return the addresses of the root group's header and, as a table entry, of its B-tree and heap."""
        self.image.need(np.array([0]), 96)
        (block,) = self.image.rows(np.array([0]), 96)
        found = re.fullmatch(_SUPERBLOCK, block, re.DOTALL)
        if found is None or int.from_bytes(found[1], "little") != self.image.size:
            raise UnusualError
        return np.frombuffer(found[2], "<i8").astype(np.int64), np.frombuffer(found[3], "<i8").reshape(1, 2)

    def _level(self, members: Members, addresses: Array, table: Array) -> tuple[Members, Array, Array]:
        """Inspect the objects at one depth; return the members of the groups, with their addresses and table entries.

        Args:
            members: The objects.
            addresses: The addresses of their headers.
            table: For each object, its symbol table entry: the addresses of B-tree and heap that are cached there.
        """
        messages = hdf5_messages.read(self.image, addresses)
        is_group = messages.counts(hdf5_messages.MEMBERS, len(addresses)) == 1
        require(bool(is_group[0]) or bool(self.levels))
        for allowed, objects in ((_OF_GROUPS, is_group), (_OF_DATASETS, ~is_group)):
            require(np.isin(messages.kind[objects[messages.owner]], list(allowed)))
        of_groups, marks = self._attributes(messages, is_group)
        datasets = self._datasets(addresses, messages, np.flatnonzero(~is_group), marks)
        self.levels.append(Level(members, is_group, of_groups, datasets))
        return self._members(addresses, messages, np.flatnonzero(is_group), table)

    def _attributes(self, messages: Messages, is_group: Array) -> tuple[dict[str, Column], Column]:
        """Return the attributes of the groups that Keras uses, and the marks of the dtypes of the datasets.

        Args:
            messages: The messages in the headers of all objects at one depth.
            is_group: Whether each object is a group.
        """
        held = messages.of(hdf5_messages.ATTRIBUTE)
        ours = is_group[held.owner]
        found = hdf5_texts.read(self.image, held.where(ours), ATTRIBUTES.fullmatch)
        for name, column in found.items():
            lengths = [len(value) if isinstance(value, str) else sum(map(len, value)) for value in column.values]
            require(max(lengths) <= (MAX_NAME if name == "name" else MAX_TEXT))
        marks = hdf5_texts.read(self.image, held.where(~ours), _MARK.__eq__)
        return found, marks.get(_MARK, Column(np.zeros(0, np.int64), ()))

    def _datasets(self, addresses: Array, messages: Messages, places: Array, marks: Column) -> Datasets:
        """Check the datasets at one depth, and return them.

        Args:
            addresses: The addresses of the headers of all objects at this depth.
            messages: The messages in their headers.
            places: The indices of the datasets among these objects.
            marks: The texts with which Keras marks a dtype that HDF5 lacks.
        """
        for kind in _ONCE:
            require(messages.counts(kind, len(addresses))[places] == 1)
        layouts = messages.of(hdf5_messages.LAYOUT)
        require((layouts.size == 24) & (self.image.numbers(layouts.start, "<u2") == _CONTIGUOUS))
        offset, stored = self.image.numbers(layouts.start + 2), self.image.numbers(layouts.start + 10)
        is_inside = (offset >= 0) & (offset <= self.image.size) & (stored <= self.image.size - offset)
        require((stored >= 0) & (is_inside | ((stored == 0) & (offset == -1))))
        parts = [self._contents(messages.of(kind)) for kind in _ONCE[:3]]
        names: list[Attribute | None] = [None, *dict.fromkeys(marks.values)]
        mark = np.zeros(len(addresses), np.int64)
        mark[marks.owner] = [names.index(name) for name in marks.values]
        # The number of a dataset's form counts all combinations of a shape, a dtype, a fill value and a mark.
        require(prod([len(different) for different, _ in parts]) * len(names) < _MOST_FORMS)
        number = mark[places]
        for different, which in parts:
            number = number * max(len(different), 1) + which
        first, form = first_and_group(number)
        chosen = [[different[which[place]] for different, which in parts] for place in first.tolist()]
        forms = [_form(*one, names[mark[places[place]]]) for one, place in zip(chosen, first.tolist(), strict=True)]
        datasets = Datasets(places, addresses[places], form.reshape(-1), forms, offset)
        require(datasets.sizes == stored)
        return datasets

    def _contents(self, messages: Messages) -> tuple[list[bytes], Array]:
        """Return the different contents of the messages, and for each message the index of its content."""
        require(messages.size >= 8)
        known: dict[bytes, int] = {}
        found = np.zeros(len(messages.owner), np.int64)
        for size in distinct(messages.size).tolist():
            same = np.flatnonzero(messages.size == size)
            different, which = self.image.contents(messages.start[same], size)
            found[same] = np.array([known.setdefault(one, len(known)) for one in different])[which]
        return list(known), found

    def _members(
        self, addresses: Array, messages: Messages, groups: Array, table: Array
    ) -> tuple[Members, Array, Array]:
        """Return the members of groups, with their addresses and table entries.

        Args:
            addresses: The addresses of the headers of all objects at this depth.
            messages: The messages in their headers.
            groups: The indices of the groups among these objects.
            table: For each object, its symbol table entry: the addresses of B-tree and heap that are cached there.
        """
        held = messages.of(hdf5_messages.MEMBERS)
        require(held.size == 16)
        places = self.image.words(held.start, 2)
        cached, is_dataset = table[groups], np.ones(len(addresses), np.bool_)
        is_dataset[groups] = False
        require(table[is_dataset] == -1)
        require((cached == places) | (cached == -1))
        self.seen.add(addresses[groups])
        found = hdf5_members.read(self.image, places[:, 0], places[:, 1], self.seen)
        self.objects += len(addresses)
        require(len(found.names) + self.objects <= 2 * MAX_TENSORS)
        return self._named(groups, found)

    def _named(self, groups: Array, members: hdf5_members.Members) -> tuple[Members, Array, Array]:
        """Return the members of groups by their names, with their addresses and table entries.

        A member of the root group without weights, such as the state of an optimizer, is left out.
        """
        names = decoded(members.names)
        length = np.fromiter(map(len, members.names), np.int64, len(names))
        require(length <= MAX_NAME)
        parent, address, table = groups[members.owner], members.address, members.table
        if len(self.levels) == 1:
            self.ignored = ignored_group(names, self.levels[0].attributes)
            if self.ignored:
                kept = np.array([name != self.ignored for name in names])
                parent, address, table = parent[kept], address[kept], table[kept]
                length, names = length[kept], [name for name in names if name != self.ignored]
        above = self.lengths[parent]
        self.bytes_of_names += int(length.sum() + above.sum())
        require(self.bytes_of_names <= MAX_NAMES)
        self.lengths = above + (above > 0) + length
        return Members(parent, names), address, table


@lru_cache(4096)
def _form(space: bytes, kind: bytes, fill: bytes, mark: Attribute | None) -> Form:
    """Return the shape and the dtype of a dataset; raise `UnusualError` if it does not contain plain numbers.

    Args:
        space: The header message with the shape.
        kind: The header message with the dtype.
        fill: The header message with the fill value.
        mark: The text with which Keras marks a dtype that HDF5 lacks; None without one.
    """
    check_fill(fill)
    shape, stored = sizes_of(space), NUMBERS.get(kind)
    require(stored is not None and is_shape(shape))
    dtype = np.dtype(stored)
    if stored == BFLOAT16:
        require(mark == "bfloat16")
        return Form(shape, "bfloat16", "<V2", prod(shape) * dtype.itemsize)
    require(mark is None or mark == dtype.name)
    return Form(shape, str(dtype_named(dtype.name).name), dtype.str, prod(shape) * dtype.itemsize)
