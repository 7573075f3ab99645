"""Read many HDF5 attributes at once, if their values are texts or lists of texts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from keras3conv.formats.safe.hdf5_dataset import Attribute
from keras3conv.formats.safe.hdf5_image import Image, UnusualError, decoded, require
from keras3conv.formats.safe.hdf5_levels import Column, check_distinct
from keras3conv.formats.safe.hdf5_messages import Messages
from keras3conv.formats.safe.hdf5_types import NUMBERS, sizes_of
from keras3conv.formats.safe.source import MAX_TENSORS
from keras3conv.transforms import Array

_VARIABLE = tuple(
    bytes([0x19, 1, characters, 0, 16, 0, 0, 0, 16, 0, 0, 0, 1, 0, 0, 0, 0, 0, 8, 0]).ljust(24, b"\0")
    for characters in (0, 1)
)
"""The type of a text of any length, as ASCII and as UTF-8: the text itself is in a global heap."""

_FIXED = (b"\x13\x01\0\0", b"\x13\x11\0\0")
"""The start of the type of a text of fixed length, as ASCII and as UTF-8, that ends with zeros."""

_REFERENCE = 16
_COLLECTION = int.from_bytes(b"GCOL\x01\0\0\0", "little")
"""The first bytes of a global heap, with the version and reserved bytes."""

_MOST_TEXTS = 1024
"""The largest number of texts in a global heap; HDF5 begins a new heap after 4096 bytes."""

_MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class _Kind:
    """The name and the type of an attribute, which its header message has before the value.

    Attributes:
        name: The name of the attribute.
        count: The number of texts in a list; None for a single text.
        length: The bytes of each text; 0 if the texts have different lengths, so that a global heap stores them.
    """

    name: str
    count: int | None
    length: int


class _AttributeCollector:
    """Collects HDF5 attributes; those whose texts are in a global heap are read together at the end."""

    def __init__(self) -> None:
        self._values: dict[str, list[Column]] = {}
        self._waiting: list[tuple[Array, _Kind]] = []
        self._references: list[Array] = []

    def add(self, image: Image, kind: _Kind, owners: Array, starts: Array) -> None:
        """Add attributes that have the same name and type; texts in global heaps are read later.

        Args:
            image: The file.
            kind: The name and the type.
            owners: The index of the object of each attribute.
            starts: The address of the value of each attribute.
        """
        number = 1 if kind.count is None else kind.count
        if not kind.length:
            self._waiting.append((owners, kind))
            self._references.append((starts[:, None] + np.arange(number) * _REFERENCE).reshape(-1))
            return
        places = (starts[:, None] + np.arange(number) * kind.length).reshape(-1)
        self._put_all(owners, kind, [row.rstrip(b"\0") for row in image.rows(places, kind.length)])

    def all(self, image: Image) -> dict[str, Column]:
        """Return all attributes by their name: the indices of the objects that have one, and the values."""
        references = np.concatenate(self._references) if self._references else np.zeros(0, np.int64)
        texts, place = _collected(image, references), 0
        for owners, kind in self._waiting:
            number = 1 if kind.count is None else kind.count
            stop = place + number * len(owners)
            self._put_all(owners, kind, texts[place:stop])
            place = stop
        return {name: _joined(columns) for name, columns in self._values.items()}

    def _put_all(self, owners: Array, kind: _Kind, texts: list[bytes]) -> None:
        """Add attributes of the same name and type.

        Args:
            owners: The index of the object of each attribute.
            kind: The name and the type.
            texts: The texts of all attributes, one after the other.
        """
        values: Sequence[Attribute] = (found := decoded(texts))
        if (number := kind.count) is not None:
            values = [tuple(found[place * number : (place + 1) * number]) for place in range(len(owners))]
        self._values.setdefault(kind.name, []).append(Column(owners, values))


def _joined(columns: Sequence[Column]) -> Column:
    """Return the attributes of all objects with one name, such as "name"; each object may have one of them.

    Args:
        columns: The attributes with this name, one entry for each HDF5 type that they have.

    Raises:
        UnusualError: An object has two attributes with this name.
    """
    owner = np.concatenate([column.owner for column in columns])
    check_distinct(owner)
    return columns[0] if len(columns) == 1 else Column(owner, [value for column in columns for value in column.values])


def read(image: Image, messages: Messages, is_used: Callable[[str], object]) -> dict[str, Column]:
    """Return the attributes of objects by their name: "name" with the objects 0 and 1, and the values "a" and "b".

    Args:
        image: The file.
        messages: The header messages that contain the attributes.
        is_used: Returns a true value for the name of an attribute to read; other attributes are skipped.

    Raises:
        UnusualError: An attribute is neither a text nor a list of texts, or is damaged.
    """
    found = _AttributeCollector()
    require(len(messages.owner) <= 2 * MAX_TENSORS)
    require(messages.size >= 8)
    sizes, starts = messages.size, image.numbers(messages.start)
    for size, start in {*zip(sizes.tolist(), starts.tolist(), strict=True)}:
        places = np.flatnonzero((sizes == size) & (starts == start))
        length = _description_length(start, size)
        described, which = image.contents(messages.start[places], length)
        for number, description in enumerate(described):
            kind = _kind(description, size - length)
            if is_used(kind.name):
                same = places[which == number]
                found.add(image, kind, messages.owner[same], messages.start[same] + length)
    return found.all(image)


def _description_length(start: int, size: int) -> int:
    """Return the number of bytes before the value in an attribute message: a prefix, the name, type and shape.

    Args:
        start: The prefix (eight bytes) as a number: the version, and the lengths of name, type and shape.
        size: The size of the whole message.
    """
    version, *lengths = (start >> shift & 0xFFFF for shift in (0, 16, 32, 48))
    length = 8 + sum(map(_padded, lengths))
    require(start >= 0 and version == 1 and length <= size)
    return length


def _padded(length: int) -> int:
    return -(-length // 8) * 8


@lru_cache(4096)
def _kind(description: bytes, size: int) -> _Kind:
    """Return the name and the type of an HDF5 attribute, from the start of its header message.

    Args:
        description: The bytes of the message before the value.
        size: The number of bytes of the value.
    """
    name_length, type_length, space_length = (int.from_bytes(description[at : at + 2], "little") for at in (2, 4, 6))
    place = 8 + _padded(name_length)
    kind = description[place : place + _padded(type_length)]
    name, end, rest = description[8 : 8 + name_length].partition(b"\0")
    require(bool(name) and bool(end) and not rest)
    shape = sizes_of(description[place + _padded(type_length) :][:space_length])
    require(len(shape) < 2)
    count = shape[0] if shape else None
    require((count or 0) <= MAX_TENSORS)
    number = 1 if count is None else count
    if kind in _VARIABLE:
        length, each = 0, _REFERENCE
    elif kind[:4] in _FIXED and len(kind) == 8:
        length = each = int.from_bytes(kind[4:8], "little")
        require(length >= 1)
    else:  # a list without texts has any type
        require(count == 0 and kind in NUMBERS)
        length = each = 1
    require(_padded(number * each) == size)
    try:
        return _Kind(name.decode(), count, length)
    except UnicodeDecodeError:
        raise UnusualError from None


def _collected(image: Image, references: Array) -> list[bytes]:
    """Return the texts that references into global heaps point to.

    A reference has the length of a text, the address of a heap, and the index of the text in this heap.
    """
    if not references.size:
        return []
    length = image.numbers(references, "<u4")
    require((length >= 1) & (length.sum() <= _MOST_BYTES))
    collections, which = np.unique(image.numbers(references + 4), return_inverse=True)
    keys, starts, sizes = _texts_in(image, collections)
    number = image.numbers(references + 12, "<u4")
    require((number >= 1) & (number < 1 << 16))
    wanted = (which.reshape(-1) << 16) + number
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    require((keys[places] == wanted) & (sizes[places] == length))
    texts = np.empty(len(references), object)
    for one in set(length.tolist()):
        same = np.flatnonzero(length == one)
        texts[same] = image.rows(starts[places[same]], one)
    found: list[bytes] = texts.tolist()
    require(b"\0" not in b"".join(found))
    return found


def _texts_in(image: Image, collections: Array) -> tuple[Array, Array, Array]:
    """Return the key, the address and the length of every text in several global heaps, sorted by key.

    The key is the position of the heap in the list times 2**16, plus the index of the text in the heap.
    """
    image.need(collections, 16)
    require(image.numbers(collections) == _COLLECTION)
    size = image.numbers(collections + 8)
    require(size >= 16)
    image.need(collections, size)
    owner, start, end = np.arange(len(collections)), collections + 16, collections + size
    found: list[tuple[Array, Array, Array]] = []
    for _ in range(_MOST_TEXTS):
        more = start + 16 <= end
        owner, start, end = owner[more], start[more], end[more]
        if not owner.size:
            break
        number, length = image.numbers(start, "<u2"), image.numbers(start + 8)
        require((length >= 0) & (length <= end - start))
        is_text = number > 0
        require(is_text | (start + length == end))  # the unused rest of a collection
        found.append(((owner[is_text] << 16) + number[is_text], start[is_text] + 16, length[is_text]))
        start = start + np.where(is_text, 16 + -(-length // 8) * 8, length)
        require((start <= end) & (is_text | (length >= 16)))
    require(owner.size == 0)
    require(bool(found))
    keys, starts, lengths = (np.concatenate(part) for part in zip(*found, strict=True))
    order = np.argsort(keys)
    require(len(keys) > 0 and (np.diff(keys[order]) > 0).all())
    return keys[order], starts[order], lengths[order]
