"""Parse the index of a TensorFlow checkpoint: a sorted table of keys and values, in the format of LevelDB.

The file has blocks. A block has entries, each of which repeats only the part of its key that differs from the key
before it. The last block but one lists the others; the last 48 bytes say where it is.
"""

import struct

from keras3conv.errors import BudgetExceeded, MalformedCheckpoint, quoted
from keras3conv.formats.safe.source import MAX_TENSORS, Source
from keras3conv.formats.tensorflow.crc32c import crc32c, masked
from keras3conv.formats.tensorflow.protobuf import varint

MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
"""The last eight bytes of every file in the LevelDB table format."""

_FOOTER = 48
_TRAILER = 5
"""The number of bytes after each block, which hold its compression and its checksum."""

_MOST_BYTES = 128 << 20
_MOST_ENTRIES = 3 * MAX_TENSORS
_LONGEST_KEY = 2000
_MOST_OF_KEYS = 32 << 20


def is_table(source: Source) -> bool:
    """Return True if the last bytes of a file are those of a table in the LevelDB format."""
    if source.size < _FOOTER:
        return False
    with source.open() as file:
        return bytes(source.read(file, source.size - 8, 8)) == MAGIC


def entries(source: Source) -> dict[bytes, bytes]:
    """Return the values of a LevelDB table by their keys, in order.

    Raises:
        MalformedCheckpoint: The file is damaged, or is not such a table.
        BudgetExceeded: The table is larger than that of any model.
    """
    where = str(source.path)
    if source.size > _MOST_BYTES:
        raise BudgetExceeded(f"{where} has {source.size:,} bytes; the limit for an index is {_MOST_BYTES:,}")
    if not is_table(source):
        raise MalformedCheckpoint(f"{where} is not the index of a TensorFlow checkpoint, or was cut off")
    with source.open() as file:
        content = bytes(source.read(file, 0, source.size))
    end = len(content) - _FOOTER
    footer = content[end:]
    place = 0
    for _ in range(2):  # where the block of metadata is, which is not used
        _, place = varint(footer, place, where)
    listing, _ = _handle(footer, place, where)
    found: dict[bytes, bytes] = {}
    last, size = b"", 0
    for _, handle in _block(content, listing, end, where):
        for key, value in _block(content, _handle(handle, 0, where)[0], end, where):
            if found and key <= last:
                raise MalformedCheckpoint(f"{where}: the keys of the index are not in order: {quoted(key)}")
            found[key] = value
            last, size = key, size + len(key)
            if len(found) > _MOST_ENTRIES or size > _MOST_OF_KEYS:
                raise BudgetExceeded(
                    f"{where} has more than {_MOST_ENTRIES:,} entries, or {_MOST_OF_KEYS:,} bytes of names, which is "
                    "the limit"
                )
    return found


def _handle(content: bytes, place: int, where: str) -> tuple[tuple[int, int], int]:
    """Decode the position and the size of a block of the table, two varints: return ((start, size), next position).

    Args:
        content: The bytes with the two varints.
        place: The position of the first varint; the returned position is that after the second one.
        where: The name of the file, for messages.
    """
    start, place = varint(content, place, where)
    size, place = varint(content, place, where)
    return (start, size), place


def _block(content: bytes, handle: tuple[int, int], end: int, where: str) -> list[tuple[bytes, bytes]]:
    """Return the keys and the values in a block of the table.

    Args:
        content: The bytes of the file.
        handle: The position of the block in the file, and its size in bytes.
        end: The position in the file after the last block.
        where: The name of the file, for messages.
    """
    start, size = handle
    stop = start + size
    if size < 4 or stop + _TRAILER > end:
        raise MalformedCheckpoint(f"{where} is too short for its block of data: {size:,} bytes from byte {start:,} on")
    compression, checksum = struct.unpack("<BI", content[stop : stop + _TRAILER])
    if masked(crc32c(content[start : stop + 1])) != checksum:
        raise MalformedCheckpoint(f"{where} is damaged: the data from byte {start:,} on have a wrong checksum")
    if compression:
        raise MalformedCheckpoint(
            f"{where} is compressed, which only TensorFlow before version 1.2 did: "
            "load the checkpoint in a newer TensorFlow, and save it again"
        )
    block = content[start:stop]
    count = int.from_bytes(block[-4:], "little")
    last = len(block) - 4 - 4 * count
    if last < 0 or not count:
        raise MalformedCheckpoint(f"{where}: the data from byte {start:,} on have no valid list of key positions")
    places = struct.unpack(f"<{count}I", block[last:-4])
    found, whole = _in_block(block[:last], where)
    if places[0] or not (set(places) <= whole or (not found and places == (0,))) or list(places) != sorted(set(places)):
        raise MalformedCheckpoint(
            f"{where}: the block of data from byte {start:,} on lists key positions at which no key starts"
        )
    return found


def _in_block(block: bytes, where: str) -> tuple[list[tuple[bytes, bytes]], set[int]]:
    """Return the (key, value) entries of a block, and the positions of entries that store their whole key.

    Other entries store only the end of the key, after the bytes that it shares with the key before it.

    Args:
        block: The bytes of the entries.
        where: The name of the file, for messages.
    """
    key, place = b"", 0
    found: list[tuple[bytes, bytes]] = []
    whole: set[int] = set()
    size_of_keys = 0
    while place < len(block):
        first = place
        shared, place = varint(block, place, where)
        added, place = varint(block, place, where)
        size, place = varint(block, place, where)
        stop = place + added + size
        if shared > len(key) or stop > len(block):
            raise MalformedCheckpoint(f"{where}: the tensor after {quoted(key)} does not fit into its block of data")
        if shared + added > _LONGEST_KEY:
            raise BudgetExceeded(f"{where}: a tensor name has {shared + added:,} bytes; the limit is {_LONGEST_KEY:,}")
        key = key[:shared] + block[place : place + added]
        size_of_keys += len(key)
        if size_of_keys > _MOST_OF_KEYS:
            raise BudgetExceeded(f"{where} has more than {_MOST_OF_KEYS:,} bytes of names, which is the limit")
        if not shared:
            whole.add(first)
        found.append((key, block[place + added : stop]))
        place = stop
    return found, whole
