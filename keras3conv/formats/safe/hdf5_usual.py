"""Inspect an HDF5 file of the usual form without the HDF5 library, for many objects at once.

The usual form is the one that h5py writes by default for plain numbers: no chunks, no compression, no links. Every
other file, and every damaged file, is left to the HDF5 library (`hdf5_survey`), whose messages are more exact. That
module accepts every file that is accepted here, with the same result; the tests compare the two.
"""

import re
import sys
from functools import lru_cache, partial
from math import prod
from typing import BinaryIO, NamedTuple

import numpy as np

from keras3conv.formats.safe import hdf5_members, hdf5_messages, hdf5_texts
from keras3conv.formats.safe.hdf5_image import Image, UnusualError, require
from keras3conv.formats.safe.hdf5_messages import Messages
from keras3conv.formats.safe.hdf5_tree import (
    ATTRIBUTES,
    MAX_DEPTH,
    MAX_NAME,
    MAX_NAMES,
    MAX_TEXT,
    Attribute,
    Dataset,
    Tree,
    check_total,
    ignored_group,
)
from keras3conv.formats.safe.hdf5_types import BFLOAT16, NUMBERS, check_fill, sizes_of
from keras3conv.formats.safe.source import MAX_TENSORS, Source, dtype_named, is_shape
from keras3conv.garbage import collection_paused
from keras3conv.transforms import Array, Shape

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
_CONTIGUOUS = 0x0103
"""The version and the class of the layout of a dataset whose values are in one piece."""


class _Form(NamedTuple):
    """The shape and the dtype of a dataset, the numpy dtype of its values in the file, and their size in bytes."""

    shape: Shape
    dtype: str
    layout: str
    size: int


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
        self.groups: dict[str, tuple[str, ...]] = {}
        self.datasets: dict[str, Dataset] = {}
        self.attributes: dict[str, dict[str, Attribute]] = {}
        self.ignored = ""
        self.seen = hdf5_members.Seen()
        self.bytes_of_names = 0

    def run(self) -> Tree:
        paths, (addresses, table) = [""], self._root()
        for _ in range(MAX_DEPTH + 1):
            paths, addresses, table = self._level(paths, addresses, table)
            if not paths:
                break
        require(not paths)
        self.seen.check()
        check_total(self.datasets, self.where, self.image.size)
        return Tree(
            where=self.where,
            groups=self.groups,
            datasets=self.datasets,
            attributes=self.attributes,
            ignored=(self.ignored,) if self.ignored else (),
        )

    def _root(self) -> tuple[Array, Array]:
        """Return the addresses of the root group's header and, as a table entry, of its B-tree and heap."""
        self.image.need(np.array([0]), 96)
        (block,) = self.image.rows(np.array([0]), 96)
        found = re.fullmatch(_SUPERBLOCK, block, re.DOTALL)
        if found is None or int.from_bytes(found[1], "little") != self.image.size:
            raise UnusualError
        return np.frombuffer(found[2], "<i8").astype(np.int64), np.frombuffer(found[3], "<i8").reshape(1, 2)

    def _level(self, paths: list[str], addresses: Array, table: Array) -> tuple[list[str], Array, Array]:
        """Inspect the objects at one depth; return the paths, addresses and table entries of the members of the groups.

        Args:
            paths: The paths of the objects.
            addresses: The addresses of their headers.
            table: For each object, its symbol table entry: the addresses of B-tree and heap that are cached there.
        """
        messages = hdf5_messages.read(self.image, addresses)
        is_group = messages.counts(hdf5_messages.MEMBERS, len(paths)) == 1
        require(bool(is_group[0]) or paths[0] != "")
        for allowed, objects in ((_OF_GROUPS, is_group), (_OF_DATASETS, ~is_group)):
            require(np.isin(messages.kind[objects[messages.owner]], list(allowed)))
        attributes = self._attributes(messages, is_group)
        self._datasets(paths, addresses, messages, np.flatnonzero(~is_group), attributes)
        groups = np.flatnonzero(is_group)
        has_members = is_group.tolist()
        self.attributes |= {paths[number]: held for number, held in attributes.items() if has_members[number]}
        return self._members(paths, addresses, messages, groups, table)

    def _attributes(self, messages: Messages, is_group: Array) -> dict[int, dict[str, Attribute]]:
        held = messages.of(hdf5_messages.ATTRIBUTE)
        ours = is_group[held.owner]
        of_groups, of_datasets = held.where(ours), held.where(~ours)
        found = hdf5_texts.read(self.image, of_groups, ATTRIBUTES.fullmatch)
        for attributes in found.values():
            for name, value in attributes.items():
                length = len(value) if isinstance(value, str) else sum(map(len, value))
                if length > (MAX_NAME if name == "name" else MAX_TEXT):
                    raise UnusualError
        return found | hdf5_texts.read(self.image, of_datasets, _MARK.__eq__)

    def _datasets(
        self,
        paths: list[str],
        addresses: Array,
        messages: Messages,
        numbers: Array,
        attributes: dict[int, dict[str, Attribute]],
    ) -> None:
        """Check the datasets at one depth, and add their descriptions to `self.datasets`.

        Args:
            paths: The paths of all objects at this depth.
            addresses: The addresses of their headers.
            messages: The messages in their headers.
            numbers: The indices of the datasets among these objects.
            attributes: The attributes that Keras uses, by the index of the object.
        """
        for kind in _ONCE:
            require(messages.counts(kind, len(paths))[numbers] == 1)
        layouts = messages.of(hdf5_messages.LAYOUT)
        require((layouts.size == 24) & (self.image.numbers(layouts.start, "<u2") == _CONTIGUOUS))
        offset, stored = self.image.numbers(layouts.start + 2), self.image.numbers(layouts.start + 10)
        is_inside = (offset >= 0) & (offset <= self.image.size) & (stored <= self.image.size - offset)
        require((stored >= 0) & (is_inside | ((stored == 0) & (offset == -1))))
        parts = [self._contents(messages.of(kind)) for kind in _ONCE[:3]]
        places = numbers.tolist()
        marks = [attributes[place].get(_MARK) if place in attributes else None for place in places]
        described = list(zip(*parts, marks, strict=True))
        forms = {one: _form(*one) for one in set(described)}
        if not forms:
            return
        shapes, names, layouts_, sizes = zip(*[forms[one] for one in described], strict=True)
        if list(sizes) != (lengths := stored.tolist()):
            raise UnusualError
        if (offset < 0).any():
            layouts_ = tuple(
                [layout if begin >= 0 else "" for layout, begin in zip(layouts_, offset.tolist(), strict=True)]
            )
        own = [paths[place] for place in places]
        columns = (own, shapes, names, addresses[numbers].tolist(), lengths, layouts_, np.maximum(offset, 0).tolist())
        self.datasets.update(zip(own, map(partial(tuple.__new__, Dataset), zip(*columns, strict=True)), strict=True))

    def _contents(self, messages: Messages) -> list[bytes]:
        """Return the content of each message as bytes; messages with equal content share one object."""
        require(messages.size >= 8)
        found: Array = np.empty(len(messages.owner), object)
        known: dict[bytes, bytes] = {}
        for size in np.unique(messages.size).tolist():
            same = np.flatnonzero(messages.size == size)
            starts = messages.start[same]
            words = self.image.words(starts, size // 8)
            if (words == words[0]).all():  # as in a list of 100,000 layers
                found[same] = self.image.rows(starts[:1], size)[0]
            else:
                found[same] = [known.setdefault(row, row) for row in self.image.rows(starts, size)]
        contents: list[bytes] = found.tolist()
        return contents

    def _members(
        self, paths: list[str], addresses: Array, messages: Messages, groups: Array, table: Array
    ) -> tuple[list[str], Array, Array]:
        """Return the paths, addresses and table entries of the members of groups.

        Args:
            paths: The paths of all objects at this depth.
            addresses: The addresses of their headers.
            messages: The messages in their headers.
            groups: The indices of the groups among these objects.
            table: For each object, its symbol table entry: the addresses of B-tree and heap that are cached there.
        """
        held = messages.of(hdf5_messages.MEMBERS)
        require(held.size == 16)
        places = np.stack([self.image.numbers(held.start), self.image.numbers(held.start + 8)], axis=1)
        require((table[~np.isin(np.arange(len(paths)), groups)] == -1).all())
        require((table[groups] == places) | (table[groups] == -1))
        self.seen.add(addresses[groups])
        found = hdf5_members.read(self.image, places[:, 0], places[:, 1], self.seen)
        require(len(found.names) + len(self.groups) + len(self.datasets) <= 2 * MAX_TENSORS)
        return self._named([paths[number] for number in groups.tolist()], found)

    def _named(self, paths: list[str], found: hdf5_members.Members) -> tuple[list[str], Array, Array]:
        """Add the member names to `self.groups`; return the paths, addresses and table entries of the members.

        A member of the root group without weights, such as the state of an optimizer, is left out.
        """
        try:
            names = [name.decode() for name in found.names]
        except UnicodeDecodeError:
            raise UnusualError from None
        require(max(map(len, found.names), default=0) <= MAX_NAME)
        kept = np.ones(len(names), np.bool_)
        if paths == [""]:
            self.ignored = ignored_group(names, self.attributes.get("", ()))
            kept = np.array([name != self.ignored for name in names], np.bool_)
            names = [name for name in names if name != self.ignored]
        counts = np.bincount(found.owner[kept], minlength=len(paths))
        lengths = np.fromiter(map(len, paths), np.int64, len(paths))
        self.bytes_of_names += sum(map(len, found.names)) + int((lengths * counts).sum())
        require(self.bytes_of_names <= MAX_NAMES)
        inside: list[str] = []
        if len(paths) > 1 and (counts == 1).all():  # as the groups of 100,000 layers with one variable each
            self.groups.update(zip(paths, zip(names, strict=True), strict=True))
            inside = [f"{path}/{name}" for path, name in zip(paths, names, strict=True)]
            return inside, found.address[kept], found.table[kept]
        stops = np.cumsum(counts).tolist()
        for path, start, stop in zip(paths, [0, *stops], stops, strict=False):
            own = names[start:stop]
            self.groups[path] = tuple(own)
            inside += [f"{path}/{name}" for name in own] if path else own
        return inside, found.address[kept], found.table[kept]


@lru_cache(4096)
def _form(space: bytes, kind: bytes, fill: bytes, mark: Attribute | None) -> _Form:
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
        return _Form(shape, "bfloat16", "<V2", prod(shape) * dtype.itemsize)
    require(mark is None or mark == dtype.name)
    return _Form(shape, str(dtype_named(dtype.name).name), dtype.str, prod(shape) * dtype.itemsize)
