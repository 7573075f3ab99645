"""Check the directory of a zip archive before any member is used, and read members by their byte ranges.

Members are not extracted to paths, so a dangerous member name does no harm.
"""

import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from keras3conv.errors import BudgetExceeded, MalformedCheckpoint, UnsafeCheckpoint, quoted
from keras3conv.formats.safe.source import Source, check_count

_BLOCK = 1 << 20
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_END = struct.Struct("<4s4H2IH")
_LARGE_END = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
"""The struct formats of the records at the end of a zip archive; torch always writes the two zip64 records."""

_ELSEWHERE = 0xFFFFFFFF
"""The placeholder for a size in a local header, where zip64 stores the size in other fields."""

_FOLDER = 0x10
"""The attribute by which a zip archive marks a member that is a folder."""

_DEFERRED = 0x8
"""The flag of a member whose CRC and sizes are stored after its data."""

_ENCRYPTED = 0x1

MAX_INFLATED = 1 << 30
"""The maximum size of a compressed member that is read into memory, in bytes."""


@dataclass(frozen=True)
class Member:
    """One member (stored file) of a zip archive.

    Attributes:
        name: The name in the archive.
        start: The offset of the first byte in the file.
        stored: The size in the file, in bytes.
        size: The declared size after decompression, in bytes.
        crc: The declared CRC-32.
        compressed: Whether the member is compressed (by deflate).
    """

    name: str
    start: int
    stored: int
    size: int
    crc: int
    compressed: bool


def scan(source: Source) -> dict[str, Member]:
    """Return the members of a zip archive by name, in the order of the archive.

    Raises:
        MalformedCheckpoint: The file is not an archive, a name occurs twice, members overlap, or a size is wrong.
        UnsafeCheckpoint: A member is encrypted.
    """
    members: dict[str, Member] = {}
    with source.open() as file:
        for info in _central_directory(source, file):
            member = _member(source, file, info)
            if member.name in members:
                raise MalformedCheckpoint(
                    f"{source.path}: the zip archive has two members with the name {quoted(member.name)}"
                )
            members[member.name] = member
    _check_overlaps(source, members)
    return members


def verify(source: Source, member: Member) -> None:
    """Check the CRC of an uncompressed member, block by block; raise `MalformedCheckpoint` if it differs."""
    crc, offset, end = 0, member.start, member.start + member.stored
    with source.open() as file:
        while offset < end:
            block = source.read(file, offset, min(_BLOCK, end - offset))
            crc, offset = zlib.crc32(block, crc), offset + len(block)
    if crc != member.crc:
        raise MalformedCheckpoint(
            f"{source.path}: the CRC of {quoted(member.name)} does not match its bytes: the file is damaged; "
            "download or save it again"
        )


def read_member(source: Source, member: Member, limit: int) -> bytes:
    """Return the content of an archive member, after a check of its CRC.

    Args:
        source: The archive.
        member: The member; it may be compressed.
        limit: The largest number of bytes to accept.

    Raises:
        BudgetExceeded: The content has more than `limit` bytes, or more bytes than declared.
        MalformedCheckpoint: The size or the CRC differs from the declared one.
    """
    if member.size > limit:
        raise BudgetExceeded(
            f"{source.path}: {quoted(member.name)} declares {member.size:,} bytes; the limit is {limit:,}"
        )
    with source.open() as file:
        raw = bytes(source.read(file, member.start, member.stored))
    data = _inflated(source, member, raw, member.size + 1) if member.compressed else raw
    if len(data) > member.size:
        raise BudgetExceeded(
            f"{source.path}: {quoted(member.name)} contains more than the declared {member.size:,} bytes"
        )
    if len(data) != member.size or zlib.crc32(data) != member.crc:
        raise MalformedCheckpoint(
            f"{source.path}: {quoted(member.name)} has a different size or CRC than the archive declares: "
            "the file is damaged; download or save it again"
        )
    return data


def read_start(source: Source, file: BinaryIO, member: Member, size: int) -> bytes:
    """Return the first bytes of a member of an open file, at most `size`.

    Args:
        source: The archive.
        file: The open archive.
        member: The member; it may be compressed.
        size: The number of bytes.
    """
    raw = bytes(source.read(file, member.start, min(member.stored, size if not member.compressed else 2 * size + 512)))
    return _inflated(source, member, raw, size) if member.compressed else raw


def _central_directory(source: Source, file: BinaryIO) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(file) as archive:
            infos, comment = archive.infolist(), len(archive.comment)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error, UnicodeDecodeError, OSError) as error:
        raise MalformedCheckpoint(f"{source.path} is not a complete zip archive: {error}") from error
    check_count(len(infos), str(source.path))
    _check_end(source, file, len(infos), comment)
    return infos


def _check_end(source: Source, file: BinaryIO, members: int, comment: int) -> None:
    """Raise `MalformedCheckpoint` unless the file ends with an end record that agrees with the zip directory.

    Args:
        source: The file.
        file: The open file.
        members: The number of members in the directory.
        comment: The number of bytes of the comment at the end.
    """
    place = max(0, source.size - _END.size - comment)
    signature, *disks, here, total, size, first, _ = _END.unpack(source.read(file, place, _END.size))
    if signature != b"PK\5\6":
        raise MalformedCheckpoint(
            f"{source.path} has bytes after the end of the zip archive, so it is damaged; save it again"
        )
    found = [(disks, here, total)]
    start = place - _LOCATOR.size - _LARGE_END.size
    if start >= 0 and bytes(source.read(file, start + _LARGE_END.size, 4)) == b"PK\6\7":
        signature, length, *_, disk, other, large_here, large_total, size, first = _LARGE_END.unpack(
            source.read(file, start, _LARGE_END.size)
        )
        locator = _LOCATOR.unpack(source.read(file, start + _LARGE_END.size, _LOCATOR.size))
        if (signature, length, first + size) != (b"PK\6\6", 44, start) or locator[1:] != (0, start, 1):
            raise MalformedCheckpoint(f"{source.path}: the record at the end of the zip archive is damaged")
        found.append(([disk, other], large_here, large_total))
    _check_lengths(source, bytes(source.read(file, first, size)))
    for disks, here, total in found:
        if any(disk not in (0, 0xFFFF) for disk in disks) or here != total or total not in (members, 0xFFFF):
            raise MalformedCheckpoint(f"{source.path}: the zip archive declares {total:,} members, but has {members:,}")


def _check_lengths(source: Source, directory: bytes) -> None:
    """Raise `MalformedCheckpoint` unless the entries fill the zip directory exactly, which zipfile does not check.

    Args:
        source: The archive, for the message.
        directory: The bytes of the directory.
    """
    place = 0
    while place < len(directory):
        lengths = directory[place + 28 : place + 34]
        place += 46 + sum(int.from_bytes(lengths[start : start + 2], "little") for start in (0, 2, 4))
    if place != len(directory):
        raise MalformedCheckpoint(
            f"{source.path}: the list of members in the zip archive is damaged: it ends inside an entry"
        )


def _member(source: Source, file: BinaryIO, info: zipfile.ZipInfo) -> Member:
    where = f"{source.path}: {quoted(info.orig_filename)}"
    if "\0" in info.orig_filename:  # other readers stop at the NUL and read a shorter name
        raise MalformedCheckpoint(f"{where}: the name of a member of the zip archive contains a NUL character")
    if info.volume or (info.external_attr & _FOLDER and info.file_size):
        raise MalformedCheckpoint(
            f"{where} is stored in another part of a split zip archive, or is a folder with content; both are not read"
        )
    if info.flag_bits & _ENCRYPTED:
        raise UnsafeCheckpoint(
            f"{where} is encrypted, and encrypted members are not read; save the file without a password"
        )
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise MalformedCheckpoint(
            f"{where} is compressed by the zip method {info.compress_type}, but only stored and deflate are supported"
        )
    compressed = info.compress_type == zipfile.ZIP_DEFLATED
    if not compressed and info.compress_size != info.file_size:
        raise MalformedCheckpoint(
            f"{where} is not compressed, but declares different sizes before and after compression"
        )
    start = _data_start(source, file, info)
    return Member(info.filename, start, info.compress_size, info.file_size, info.CRC, compressed)


def _data_start(source: Source, file: BinaryIO, info: zipfile.ZipInfo) -> int:
    """Return the offset of the data of a member, which follows a local header of variable length.

    Args:
        source: The archive.
        file: The open archive.
        info: The entry of the member in the directory.
    """
    raw = source.read(file, info.header_offset, _LOCAL_HEADER.size)
    signature, _, flags, method, _, _, crc, stored, size, name_size, extra_size = _LOCAL_HEADER.unpack(raw)
    start = int(info.header_offset + _LOCAL_HEADER.size + name_size + extra_size)
    name = bytes(source.read(file, info.header_offset + _LOCAL_HEADER.size, name_size))
    declared = info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437", "replace")
    if signature != b"PK\3\4" or name != declared:
        raise MalformedCheckpoint(
            f"{source.path}: the member {quoted(info.filename)} is not at the place that the list of the zip archive "
            "declares"
        )
    is_same = crc == info.CRC and stored in (info.compress_size, _ELSEWHERE) and size in (info.file_size, _ELSEWHERE)
    if (flags, method) != (info.flag_bits, info.compress_type) or not (is_same or flags & _DEFERRED):
        raise MalformedCheckpoint(
            f"{source.path}: the zip archive describes {quoted(info.filename)} twice, in its directory and before the "
            "member, with other sizes or another compression: the file is damaged; download or save it again"
        )
    if start + info.compress_size > source.size:
        raise MalformedCheckpoint(
            f"{source.path} ends inside the member {quoted(info.filename)}: the file is incomplete; download or "
            "save it again"
        )
    return start


def _check_overlaps(source: Source, members: Mapping[str, Member]) -> None:
    end, before = 0, ""
    for member in sorted(members.values(), key=lambda member: member.start):
        if member.start < end:
            raise MalformedCheckpoint(
                f"{source.path}: the members {quoted(before)} and {quoted(member.name)} of the zip archive share "
                "bytes, so it is damaged; download or save it again"
            )
        end, before = member.start + member.stored, member.name


def _inflated(source: Source, member: Member, raw: bytes, size: int) -> bytes:
    """Return the first bytes of a compressed member, at most `size`, from its bytes in the file."""
    try:
        return zlib.decompressobj(-15).decompress(raw, size)
    except zlib.error as error:
        raise MalformedCheckpoint(f"{source.path}: {quoted(member.name)} cannot be decompressed: {error}") from error
