"""Read the headers of many HDF5 objects at once; a header is a list of messages, such as the shape and the dtype."""

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
    """Header messages of several HDF5 objects, in arrays with one element for each message.

    Attributes:
        owner: The index of the object that the message belongs to.
        kind: The kind of the message: `SPACE`, `TYPE`, `ATTRIBUTE`, ....
        start: The address of its content in the file.
        size: The size of its content in bytes.
    """

    owner: Array
    kind: Array
    start: Array
    size: Array

    def of(self, kind: int) -> "Messages":
        """Return the messages of one kind, such as `LAYOUT`, in the order of their objects."""
        places = np.flatnonzero(self.kind == kind)
        return self.where(places[np.argsort(self.owner[places], kind="stable")])

    def where(self, those: Array) -> "Messages":
        """Return the messages at the given indices, or those for which a boolean array is True."""
        return Messages(self.owner[those], self.kind[those], self.start[those], self.size[those])

    def counts(self, kind: int, objects: int) -> Array:
        """Return, for each HDF5 object, the number of header messages of one kind.

        Args:
            kind: The kind, such as `ATTRIBUTE`.
            objects: The number of objects.
        """
        return np.bincount(self.owner[self.kind == kind], minlength=objects)


def read(image: Image, addresses: Array) -> Messages:
    """Return the messages in the headers of several objects; their content is then read into the image.

    Args:
        image: The file.
        addresses: The addresses of the headers of the objects.

    Raises:
        UnusualError: A header has another version, is damaged, or has too many messages.
    """
    image.need(addresses, 16)
    head, size = image.words(addresses, 2).T
    require(head & 0xFFFF == 1)  # the version, and a reserved byte
    declared = head >> 16 & 0xFFFF
    require((declared >= 1) & (declared <= _MOST_MESSAGES))
    most = int(declared.sum())
    require(most <= _MESSAGES_EACH * len(addresses) + _MESSAGES_MORE)
    owner, start = np.arange(len(addresses)), addresses + 16
    end = start + (size & 0xFFFF_FFFF)
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
        begin, size = image.words(further.start, 2).T
        image.need(begin, size)
        owner = np.concatenate([owner, further.owner])
        start, end = np.concatenate([message.start + message.size, begin]), np.concatenate([end, begin + size])
    require(bool(parts))  # or no object has a message
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
