"""Write the zip archive of a torch checkpoint, with byte ranges reserved for values that are written later.

The standard library can only write the members of an archive one after the other, with their values. The format is
that of APPNOTE 6.3.3 (PKWARE): a local header before each member, then the directory, whose entries have the CRC of
the members. Sizes and offsets that do not fit 32 bits are in an extra field of 64-bit numbers.
"""

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from keras3conv.formats.safe.streaming import Extent, Layout

_PREFIX = "archive"
_ALIGNMENT = 64
_LIMIT = 0xFFFFFFFF
_DATE = 0x21  # 1980-01-01, the earliest date: the same tensors give the same bytes
_LOCAL = struct.Struct("<4s5H3I2H")
_ENTRY = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_CRC_IN_LOCAL = 14


@dataclass(frozen=True)
class Member:
    """A member (stored file) of the zip archive to write.

    Attributes:
        name: The name.
        content: The bytes; or their number, if they are written later.
        tensor: The path of the tensor whose values are the content; empty for others.
    """

    name: str
    content: bytes | int
    tensor: str = ""


@dataclass(frozen=True)
class _Placed:
    member: Member
    header: int
    start: int
    size: int


def write_container(path: Path, members: Sequence[Member]) -> Layout:
    """Write an archive of uncompressed members, and return the byte ranges for the values of the tensors.

    The data of every member starts at a multiple of 64 bytes, so that readers can memory-map it. The directory is
    written when the checksums of all members are known.
    """
    placed: list[_Placed] = []
    end = 0
    with path.open("wb") as file:
        for member in members:
            size = len(member.content) if isinstance(member.content, bytes) else member.content
            checksum = zlib.crc32(member.content) if isinstance(member.content, bytes) else 0
            header = _local_header(member.name, size, checksum, end)
            file.seek(end)
            file.write(header)
            placed.append(_Placed(member, end, end + len(header), size))
            if isinstance(member.content, bytes):
                file.write(member.content)
            end += len(header) + size
        file.truncate(end)
    return Layout(
        extents={one.member.tensor: Extent(one.start, one.size) for one in placed if one.member.tensor},
        locations={one.member.tensor: f"{_PREFIX}/{one.member.name}" for one in placed if one.member.tensor},
        finish=lambda checksums: _finish(path, placed, end, checksums),
    )


def _local_header(name: str, size: int, checksum: int, offset: int) -> bytes:
    encoded = f"{_PREFIX}/{name}".encode()
    large = struct.pack("<2H2Q", 1, 16, size, size) if size >= _LIMIT else b""
    padding = -(offset + _LOCAL.size + len(encoded) + len(large) + 4) % _ALIGNMENT
    extra = large + b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
    short = _LIMIT if large else size
    version = 45 if large else 20
    fixed = _LOCAL.pack(b"PK\3\4", version, 0, 0, 0, _DATE, checksum, short, short, len(encoded), len(extra))
    return fixed + encoded + extra


def _finish(path: Path, placed: Sequence[_Placed], end: int, checksums: Mapping[str, int]) -> None:
    """Write the checksums of the tensors into their headers, and the directory at the end of the archive.

    Args:
        path: The archive.
        placed: The members, with their positions in the file.
        end: The position after the last member.
        checksums: The CRC-32 of each tensor's values, by path.
    """
    entries = []
    with path.open("r+b") as file:
        for one in placed:
            content = one.member.content
            checksum = zlib.crc32(content) if isinstance(content, bytes) else checksums[one.member.tensor]
            file.seek(one.header + _CRC_IN_LOCAL)
            file.write(struct.pack("<I", checksum))
            entries.append(_entry(one, checksum))
        directory = b"".join(entries)
        file.seek(end)
        file.write(directory + _end(len(placed), len(directory), end))


def _entry(one: _Placed, checksum: int) -> bytes:
    encoded = f"{_PREFIX}/{one.member.name}".encode()
    large = [value for value in (one.size, one.size) if one.size >= _LIMIT]
    large += [one.header] if one.header >= _LIMIT else []
    extra = struct.pack(f"<2H{len(large)}Q", 1, 8 * len(large), *large) if large else b""
    size, header = min(one.size, _LIMIT), min(one.header, _LIMIT)
    version = 45 if large else 20
    fixed = _ENTRY.pack(
        b"PK\1\2", version, version, 0, 0, 0, _DATE, checksum, size, size, len(encoded), len(extra), 0, 0, 0, 0, header
    )
    return fixed + encoded + extra


def _end(count: int, size: int, start: int) -> bytes:
    """Return the end records of a zip archive; with zip64 records if a number needs 64 bits."""
    large = b""
    if count >= 0xFFFF or start >= _LIMIT or size >= _LIMIT:
        large = _END_64.pack(b"PK\6\6", _END_64.size - 12, 45, 45, 0, 0, count, count, size, start)
        large += _LOCATOR.pack(b"PK\6\7", 0, start + size, 1)
    short = min(count, 0xFFFF)
    return large + _END.pack(b"PK\5\6", 0, 0, short, short, min(size, _LIMIT), min(start, _LIMIT), 0)
