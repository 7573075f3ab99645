"""Read the headers of many HDF5 objects at once: each is a list of messages, in one or several parts of the file."""

from dataclasses import dataclass

import numpy as np

from keras3conv.formats.safe.hdf5_image import Image, require
from keras3conv.transforms import Array

NOTHING, SPACE, TYPE, FILL, LAYOUT, ATTRIBUTE, CONTINUATION, MEMBERS, CHANGED = 0, 1, 3, 5, 8, 12, 16, 17, 18
"""The kinds of messages: unused bytes, shape, dtype, fill value, place of the values, attribute, address of a further
part of the header, addresses of the members of a group, time of the last change."""

_MOST_MESSAGES = 1000
_MESSAGES_EACH, _MESSAGES_MORE = 32, 10_000


@dataclass(frozen=True)
class Messages:
    """Messages of several objects.

    Attributes:
        owner: For each message, the number of its object.
        kind: The kind.
        start: The address of the content.
        size: The size of the content in bytes.
    """

    owner: Array
    kind: Array
    start: Array
    size: Array

    def of(self, kind: int) -> "Messages":
        """Return the messages of one kind, in the order of their objects."""
        places = np.flatnonzero(self.kind == kind)
        return self.where(places[np.argsort(self.owner[places], kind="stable")])

    def where(self, those: Array) -> "Messages":
        """Return some of the messages: those at some positions, or for which an array has True."""
        return Messages(self.owner[those], self.kind[those], self.start[those], self.size[those])

    def counts(self, kind: int, objects: int) -> Array:
        """Return the number of messages of a kind that each object has.

        Args:
            kind: The kind.
            objects: The number of objects.
        """
        return np.bincount(self.owner[self.kind == kind], minlength=objects)


def read(image: Image, addresses: Array) -> Messages:
    """Return the messages of all objects, whose content is in the image then.

    Args:
        image: The file.
        addresses: The addresses of the headers of the objects.

    Raises:
        UnusualError: A header has another version, is damaged, or is very long.
    """
    image.need(addresses, 16)
    require(image.numbers(addresses, "<u2") == 1)  # the version, and a reserved byte
    declared = image.numbers(addresses + 2, "<u2")
    require((declared >= 1) & (declared <= _MOST_MESSAGES))
    most = int(declared.sum())
    require(most <= _MESSAGES_EACH * len(addresses) + _MESSAGES_MORE)
    owner, start = np.arange(len(addresses)), addresses + 16
    end = start + image.numbers(addresses + 8, "<u4")
    image.need(start, end - start)
    parts: list[Messages] = []
    found = 0
    while True:
        inside = start < end
        owner, start, end = owner[inside], start[inside], end[inside]
        if not owner.size:
            break
        found += len(owner)
        require(found <= most)
        message = _next(image, owner, start, end)
        parts.append(message)
        further = message.of(CONTINUATION)
        require(further.size == 16)
        begin = image.numbers(further.start)
        size = image.numbers(further.start + 8)
        image.need(begin, size)
        owner = np.concatenate([owner, further.owner])
        start, end = np.concatenate([message.start + message.size, begin]), np.concatenate([end, begin + size])
    joined = Messages(*(np.concatenate([getattr(part, name) for part in parts]) for name in Messages.__annotations__))
    require(np.bincount(joined.owner, minlength=len(addresses)) == declared)
    return joined


def _next(image: Image, owner: Array, start: Array, end: Array) -> Messages:
    """Read the next header message of each HDF5 object.

    Args:
        image: The bytes of the HDF5 file.
        owner: For each message, the index of the object whose header has it.
        start: The address at which each message starts.
        end: For each message, the address at which the block of the header ends that contains it.
    """
    head = image.numbers(start)  # the last four bytes are a mark of contents that never change, and zeros
    size = head >> 16 & 0xFFFF
    require((head >= 0) & (head >> 32 <= 1) & (size % 8 == 0) & (start + 8 + size <= end))
    return Messages(owner, head & 0xFFFF, start + 8, size)


__all__ = [
    "ATTRIBUTE",
    "CHANGED",
    "CONTINUATION",
    "FILL",
    "LAYOUT",
    "MEMBERS",
    "NOTHING",
    "SPACE",
    "TYPE",
    "Messages",
    "read",
]
