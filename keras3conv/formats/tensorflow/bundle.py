"""Read the tensors of a TensorFlow checkpoint, which is an index and one or several files with the values.

The index has the dtype, the shape, the byte range and the checksum of every tensor, so the other files are read only
when the values of a tensor are needed.
"""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from keras3conv.errors import IncompleteCheckpoint, MalformedCheckpoint, quoted
from keras3conv.formats.safe.shards import shard_path
from keras3conv.formats.safe.source import Source, check_names, check_shape, dtype_named
from keras3conv.formats.tensorflow import table
from keras3conv.formats.tensorflow.crc32c import crc32c, masked
from keras3conv.formats.tensorflow.protobuf import bytes_of, fields, number_of, varint
from keras3conv.transforms import Array, Shape

INDEX = ".index"
TEXT = 7
"""The number by which TensorFlow names the dtype of texts (DT_STRING)."""

DTYPES = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    8: "complex64",
    9: "int64",
    10: "bool",
    14: "bfloat16",
    17: "uint16",
    18: "complex128",
    19: "float16",
    22: "uint32",
    23: "uint64",
    24: "float8_e5m2",
    25: "float8_e4m3fn",
}
"""The dtypes by their numbers in `tensorflow/core/framework/types.proto`, without those that are not plain numbers."""

_BIG_ENDIAN = 1
_CHECKSUM = 4
_MOST_SHARDS = 10_000


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor in the index of a TensorFlow checkpoint.

    Attributes:
        code: The number of the dtype.
        shape: The shape.
        shard: The number of the file that has the values.
        start: The position of the first byte in that file.
        size: The size in bytes.
        checksum: The CRC-32C of the values, masked as TensorFlow stores it (`crc32c.masked`).
        is_whole: Whether the values are in one piece; those of a partitioned variable are not.
    """

    code: int
    shape: Shape
    shard: int
    start: int
    size: int
    checksum: int
    is_whole: bool


@dataclass(frozen=True)
class Bundle:
    """A TensorFlow checkpoint: its index, and the files with the values.

    Attributes:
        source: The index.
        shards: The files with values, by number; only those that have any.
        entries: The tensors by name.
        is_big_endian: Whether a big-endian machine wrote the values.
    """

    source: Source
    shards: Mapping[int, Source]
    entries: Mapping[str, Entry]
    is_big_endian: bool

    def read(self, name: str) -> Array:
        """Return the values of a tensor of the checkpoint, which must have a dtype of numbers.

        Raises:
            MalformedCheckpoint: The values are damaged, or the file has changed.
        """
        entry = self.entries[name]
        dtype = dtype_named(DTYPES[entry.code])
        content = self._stored(name)
        self._compare(name, content)
        stored = np.frombuffer(content, dtype.newbyteorder(">") if self.is_big_endian else dtype)
        return stored.astype(dtype, copy=False).reshape(entry.shape)

    def text(self, name: str) -> bytes:
        """Return the value of a tensor that is one text; it is stored after its length and a checksum of the length.

        Raises:
            MalformedCheckpoint: The value is damaged, or the file has changed.
        """
        where = f"{self.source.path}: {name}"
        content = bytes(self._stored(name))
        length, place = varint(content, 0, where)
        # The checksum is that of the length as a number of four or eight bytes, and of what follows it.
        self._compare(name, struct.pack("<Q" if length >> 32 else "<I", length) + content[place:])
        message = content[place + _CHECKSUM :]
        if len(message) != length:
            raise MalformedCheckpoint(f"{where} declares {length:,} bytes, but has {len(message):,}")
        return message

    def _stored(self, name: str) -> memoryview:
        """Return the bytes that the checkpoint stores for a tensor."""
        entry = self.entries[name]
        if not entry.size:
            return memoryview(b"")
        shard = self.shards[entry.shard]
        with shard.open() as file:
            return shard.read(file, entry.start, entry.size)

    def _compare(self, name: str, content: memoryview | bytes) -> None:
        """Raise `MalformedCheckpoint` if the values of a tensor do not have the checksum that the index stores.

        Args:
            name: The name of the tensor.
            content: The bytes over which the checksum is computed.
        """
        entry = self.entries[name]
        if entry.size and masked(crc32c(content)) != entry.checksum:
            raise MalformedCheckpoint(
                f"{self.shards[entry.shard].path}: the values of {quoted(name)} are damaged: they have another "
                "checksum than in the index"
            )


def opened(source: Source) -> Bundle:
    """Return the TensorFlow checkpoint with the given index; its values are not read.

    Raises:
        MalformedCheckpoint: The index is damaged, or contradicts the files with the values.
        IncompleteCheckpoint: A file with values is missing, or too short.
        BudgetExceeded: The index is larger than that of any model.
    """
    where = str(source.path)
    stored = table.entries(source)
    count, is_big_endian = _header(stored.pop(b"", b""), where)
    found: dict[str, Entry] = {}
    for key, message in stored.items():
        if key[:1] == b"\0":
            continue  # a part of a partitioned variable; its whole has an entry that says so
        try:
            name = key.decode()
        except UnicodeDecodeError:
            raise MalformedCheckpoint(f"{where}: the name {quoted(key)} is not UTF-8") from None
        found[name] = _entry(message, f"{where}: {quoted(name)}")
    check_names(found, where)
    shards = _shards(source, count, found)
    return Bundle(source, shards, found, is_big_endian)


def _header(message: bytes, where: str) -> tuple[int, bool]:
    """Return the number of files with values in a checkpoint, and True if the values are big-endian.

    Args:
        message: The protobuf message `BundleHeaderProto`, which the index stores under an empty name.
        where: The name of the index, for messages.
    """
    count, order = 0, 0
    for number, value in fields(message, where):
        if number == 1:
            count = number_of(value, where)
        elif number == 2:
            order = number_of(value, where)
    if not 1 <= count <= _MOST_SHARDS or order not in (0, _BIG_ENDIAN):
        raise MalformedCheckpoint(
            f"{where} declares {count:,} files of values in the byte order {order}, which no TensorFlow checkpoint has"
        )
    return count, order == _BIG_ENDIAN


def _entry(message: bytes, where: str) -> Entry:
    """Return the description of a tensor in a protobuf message `BundleEntryProto` of the index."""
    numbers = {1: 0, 3: 0, 4: 0, 5: 0, 6: 0}
    shape: Shape = ()
    is_whole = True
    for number, value in fields(message, where):
        if number in numbers:
            numbers[number] = number_of(value, where)
        elif number == 2:
            shape = _shape(bytes_of(value, where), where)
        elif number == 7:
            is_whole = False
    code, shard, start, size, checksum = numbers.values()
    elements = check_shape(shape, where)
    if min(shard, start, size) < 0:
        raise MalformedCheckpoint(
            f"{where} has a negative size, offset or file number: {size:,} bytes from byte {start:,} of file {shard:,}"
        )
    if is_whole and code in DTYPES:
        itemsize = dtype_named(DTYPES[code]).itemsize
        if size != elements * itemsize:
            raise MalformedCheckpoint(
                f"{where} of {DTYPES[code]} {quoted(shape)} has {elements * itemsize:,} bytes, but the index declares "
                f"{size:,}"
            )
    return Entry(code, shape, shard, start, size, checksum, is_whole)


def _shape(message: bytes, where: str) -> Shape:
    """Return the shape that a protobuf message `TensorShapeProto` describes."""
    sizes = []
    for number, value in fields(message, where):
        if number == 2:
            held = [number_of(size, where) for field, size in fields(bytes_of(value, where), where) if field == 1]
            sizes.append(held[-1] if held else 0)
    return tuple(sizes)


def _shards(source: Source, count: int, entries: Mapping[str, Entry]) -> dict[int, Source]:
    """Return the files with values by number; each must have exactly the bytes that the index describes."""
    where, prefix = source.path, source.path.name[: -len(INDEX)]
    places: dict[int, list[tuple[int, int, str]]] = {}
    for name, entry in entries.items():
        if entry.shard >= count:
            raise MalformedCheckpoint(
                f"{where}: the values of {quoted(name)} are in file {entry.shard:,}, but there are only {count:,} files"
            )
        if entry.size:
            places.setdefault(entry.shard, []).append((entry.start, entry.size, name))
    shards = {}
    for number, held in sorted(places.items()):
        shard = Source.pin(shard_path(source, f"{prefix}.data-{number:05}-of-{count:05}"))
        _check_places(sorted(held), shard)
        shards[number] = shard
    return shards


def _check_places(places: Iterable[tuple[int, int, str]], shard: Source) -> None:
    """Raise an error if the byte ranges of tensors in a file overlap, or exceed the file.

    Args:
        places: The start, the size and the name of each tensor, in order.
        shard: The file.
    """
    end = 0
    for start, size, name in places:
        if start < end:
            raise MalformedCheckpoint(f"{shard.path}: {quoted(name)} overlaps the tensor before it (byte {start:,})")
        end = start + size
        if end > shard.size:
            raise IncompleteCheckpoint(
                f"{shard.path} has {shard.size:,} bytes, but {quoted(name)} ends at byte {end:,}: it was not "
                "downloaded or written completely"
            )
