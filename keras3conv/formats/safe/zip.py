"""What a zip archive says about itself, checked before anything in it is used.

Members are found by their exact names and read through their byte ranges; nothing is ever extracted to a path.
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO

from keras3conv.errors import BudgetExceeded, MalformedCheckpoint, UnsafeCheckpoint
from keras3conv.formats.safe.source import Source, check_count

_BLOCK = 1 << 20
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_ENCRYPTED = 0x1
_LINK = 0o120000

MAX_INFLATED = 1 << 30
"""How many bytes of a compressed member are taken into memory at most."""


@dataclass(frozen=True)
class Member:
    """One member of an archive.

    Attributes:
        name: Its name in the archive.
        start: Its first byte, counted from the beginning of the file.
        stored: How many bytes it takes in the file.
        size: How many bytes it declares to hold.
        crc: The CRC-32 that the archive declares for it.
        compressed: Whether it is deflated.
    """

    name: str
    start: int
    stored: int
    size: int
    crc: int
    compressed: bool


def scan(source: Source) -> dict[str, Member]:
    """Every member by name, in the order of the archive.

    Raises:
        MalformedCheckpoint: It is no archive; a name is there twice; members overlap; a size is not true.
        UnsafeCheckpoint: A name leaves the folder that it would be extracted to, or a member is a link or encrypted.
    """
    members: dict[str, Member] = {}
    with source.open() as file:
        for info in _central_directory(source, file):
            member = _member(source, file, info)
            if member.name in members:
                raise MalformedCheckpoint(f"{source.path} has two members {member.name!r}")
            members[member.name] = member
    _check_overlaps(source, members)
    return members


def verify(source: Source, member: Member) -> None:
    """Checks the CRC of a stored member, block by block."""
    crc, offset, end = 0, member.start, member.start + member.stored
    with source.open() as file:
        while offset < end:
            block = source.read(file, offset, min(_BLOCK, end - offset))
            crc, offset = zlib.crc32(block, crc), offset + len(block)
    if crc != member.crc:
        raise MalformedCheckpoint(f"{source.path}: the bytes of {member.name!r} do not have their CRC: it is damaged")


def read_member(source: Source, member: Member, limit: int) -> bytes:
    """The content of a member in memory, its CRC checked.

    Raises:
        BudgetExceeded: It holds more than `limit` bytes, whatever it declares.
        MalformedCheckpoint: It does not hold what it declares.
    """
    if member.size > limit:
        raise BudgetExceeded(f"{source.path}: {member.name!r} declares {member.size:,} bytes; {limit:,} are the limit")
    with source.open() as file:
        raw = bytes(source.read(file, member.start, member.stored))
    data = _inflate(source, member, raw) if member.compressed else raw
    if len(data) != member.size or zlib.crc32(data) != member.crc:
        raise MalformedCheckpoint(f"{source.path}: {member.name!r} does not hold what the archive declares")
    return data


class Window(io.RawIOBase):
    """A part of a file, as a file of its own: what h5py reads a stored member through."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        """Shows `size` bytes of `file` from `start`."""
        super().__init__()
        self._file, self._start, self._size, self._position = file, start, size, 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves to a position that is counted within the window."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = origin + offset
        return self._position

    def tell(self) -> int:
        """The position within the window."""
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # the stub says Buffer
        """Fills a buffer, as far as the window goes."""
        count = max(0, min(len(buffer), self._size - self._position))
        self._file.seek(self._start + self._position)
        data = self._file.read(count)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def _central_directory(source: Source, file: BinaryIO) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error, UnicodeDecodeError, OSError) as error:
        raise MalformedCheckpoint(f"{source.path} is no whole zip archive: {error}") from error
    check_count(len(infos), str(source.path))
    return infos


def _member(source: Source, file: BinaryIO, info: zipfile.ZipInfo) -> Member:
    where = f"{source.path}: {info.orig_filename!r}"
    parts = PurePosixPath(info.orig_filename.replace("\\", "/")).parts
    if not parts or ".." in parts or parts[0].endswith((":", "/")) or "\0" in info.orig_filename:
        raise UnsafeCheckpoint(f"{where} is a name that leaves the archive")
    if info.flag_bits & _ENCRYPTED:
        raise UnsafeCheckpoint(f"{where} is encrypted")
    if (info.external_attr >> 16) & 0o170000 == _LINK:
        raise UnsafeCheckpoint(f"{where} is a link")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise MalformedCheckpoint(f"{where} is compressed by method {info.compress_type}: only deflate is read")
    compressed = info.compress_type == zipfile.ZIP_DEFLATED
    if not compressed and info.compress_size != info.file_size:
        raise MalformedCheckpoint(f"{where} is stored, and yet declares two sizes")
    start = _data_start(source, file, info)
    return Member(info.filename, start, info.compress_size, info.file_size, info.CRC, compressed)


def _data_start(source: Source, file: BinaryIO, info: zipfile.ZipInfo) -> int:
    """Where the bytes of a member begin; the local header has fields of its own length before them."""
    raw = source.read(file, info.header_offset, _LOCAL_HEADER.size)
    signature, *_, name_size, extra_size = _LOCAL_HEADER.unpack(raw)
    start = int(info.header_offset + _LOCAL_HEADER.size + name_size + extra_size)
    name = bytes(source.read(file, info.header_offset + _LOCAL_HEADER.size, name_size))
    declared = info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437", "replace")
    if signature != b"PK\3\4" or name != declared:
        raise MalformedCheckpoint(f"{source.path}: {info.filename!r} is not where the directory says")
    if start + info.compress_size > source.size:
        raise MalformedCheckpoint(f"{source.path} ends inside {info.filename!r}")
    return start


def _check_overlaps(source: Source, members: Mapping[str, Member]) -> None:
    end, before = 0, ""
    for member in sorted(members.values(), key=lambda member: member.start):
        if member.start < end:
            raise MalformedCheckpoint(f"{source.path}: {before!r} and {member.name!r} share bytes")
        end, before = member.start + member.stored, member.name


def _inflate(source: Source, member: Member, raw: bytes) -> bytes:
    inflater = zlib.decompressobj(-15)
    try:
        data = inflater.decompress(raw, member.size + 1)
    except zlib.error as error:
        raise MalformedCheckpoint(f"{source.path}: {member.name!r} cannot be decompressed: {error}") from error
    if len(data) > member.size:
        raise BudgetExceeded(f"{source.path}: {member.name!r} holds more than the {member.size:,} bytes it declares")
    return data
