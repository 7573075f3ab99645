"""Parse messages of protocol buffers: only the wire format, without the library and without generated code."""

from collections.abc import Iterator

from keras3conv.errors import MalformedCheckpoint

Field = tuple[int, int | bytes]
"""The number of a field and its value: a whole number, or the bytes of a text or an inner message."""

_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5


def fields(message: bytes, where: str) -> Iterator[Field]:
    """Yield the fields of a protobuf message in order: the number of each field, and its value as a number or bytes.

    Raise `MalformedCheckpoint` if the message is not well-formed.

    Args:
        message: The bytes of the message.
        where: The name of the file and of the message, for the error.
    """
    place = 0
    while place < len(message):
        tag, place = varint(message, place, where)
        kind = tag & 7
        if kind == _VARINT:
            value, place = varint(message, place, where)
            yield tag >> 3, value
            continue
        if kind == _LENGTH:
            size, place = varint(message, place, where)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            size = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise MalformedCheckpoint(f"{where}: a field has the wire type {kind}, which TensorFlow does not write")
        if size > len(message) - place:
            raise MalformedCheckpoint(
                f"{where}: a field of {size:,} bytes starts only {len(message) - place:,} bytes before the end"
            )
        content = message[place : place + size]
        place += size
        yield tag >> 3, content if kind == _LENGTH else int.from_bytes(content, "little")


def varint(message: bytes, place: int, where: str) -> tuple[int, int]:
    """Decode the variable-length integer (varint) at a position; return its value, and the position after it.

    Args:
        message: The bytes.
        place: The position of the first byte of the integer.
        where: The name of the file and of the message, for the error.

    Raises:
        MalformedCheckpoint: The message ends before the number does, or the number has more than 64 bits.
    """
    value = shift = 0
    while place < len(message) and shift < 70:
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            if value >> 64:
                break
            return value, place
    raise MalformedCheckpoint(f"{where}: the number at byte {place:,} is cut off, or has more than 64 bits")


def number_of(value: int | bytes, where: str) -> int:
    """Return the value of a protobuf field as a signed integer; raise `MalformedCheckpoint` if the value is bytes.

    Args:
        value: The value as `fields` yields it: an unsigned number of 64 bits, the two's complement of a negative one.
        where: The name of the file and of the message, for the error.
    """
    if isinstance(value, bytes):
        raise MalformedCheckpoint(f"{where}: a field that must be a number has {len(value):,} bytes")
    return value - (1 << 64) if value >> 63 else value


def bytes_of(value: int | bytes, where: str) -> bytes:
    """Return the bytes of a protobuf field (a text or a message); raise `MalformedCheckpoint` if it is a number.

    Args:
        value: The value as `fields` yields it.
        where: The name of the file and of the message, for the error.
    """
    if isinstance(value, int):
        raise MalformedCheckpoint(
            f"{where}: a protobuf field that must be a string or a nested message is a number, so the file is damaged"
        )
    return value


def text_of(value: int | bytes, where: str) -> str:
    """Return the text in a protobuf field; raise `MalformedCheckpoint` if it is a number, or not UTF-8.

    Args:
        value: The value as `fields` yields it.
        where: The name of the file and of the message, for the error.
    """
    try:
        return bytes_of(value, where).decode()
    except UnicodeDecodeError:
        raise MalformedCheckpoint(f"{where}: a field with a text is not UTF-8") from None
