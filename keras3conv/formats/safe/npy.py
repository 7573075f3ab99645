"""Read arrays of numbers from `.npy` and `.npz` files, with a strict parser.

`numpy.load` is not safe for untrusted files: it parses the header as a Python literal, allocates as much memory as the
header declares, and waits for ever at a named pipe.
"""

import re
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np

from keras3conv.errors import BudgetExceeded, MalformedCheckpoint, quoted
from keras3conv.formats.safe.source import Source, check_names, is_shape
from keras3conv.formats.safe.zip import MAX_INFLATED, Member, read_member, read_start, scan, verify
from keras3conv.transforms import Array, Shape

_MAGIC = b"\x93NUMPY"
_MAX_HEADER = 4096
_HEADER = re.compile(
    rb"\{'descr': '([<>|=]?)([biufc])(1|2|4|8|16)', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,20}, ?)*(?:\d{1,20})?)\), ?\} *\n"
)
_SIZES = {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8), "c": (8, 16)}


@dataclass(frozen=True)
class Declared:
    """The declarations in the header of an array: its dtype, shape and element order.

    Attributes:
        dtype: The dtype.
        shape: The shape.
        order: The order of the elements: "C" or "F".
        start: The number of bytes before the values.
    """

    dtype: np.dtype[np.generic]
    shape: Shape
    order: str
    start: int

    @property
    def size(self) -> int:
        """The number of bytes that the values of the declared array take."""
        return prod(self.shape) * self.dtype.itemsize


def read(path: Path) -> Array | dict[str, Array]:
    """Return the array in a `.npy` file, or the arrays in a `.npz` file by name.

    Raises:
        FileError: The file cannot be read.
        MalformedCheckpoint: The file has no arrays of numbers, or is damaged.
        BudgetExceeded: A compressed array is too large.
    """
    source = Source.pin(path)
    with source.open() as file:
        start = file.read(len(_MAGIC))
        if start == _MAGIC:
            member = Member("", 0, source.size, source.size, 0, compressed=False)
            declared = _declared(source, file, member)
            return _array(declared, source.read(file, declared.start, declared.size))
    if not start.startswith(b"PK"):
        raise MalformedCheckpoint(f"{path} contains no arrays: it is neither a .npy nor a .npz file")
    members = scan(source)
    check_names(members, str(path))
    if other := [name for name in members if not name.endswith(".npy")] or ([] if members else ["nothing"]):
        raise MalformedCheckpoint(
            f"{path} contains no arrays: it has {quoted(other[0])}, which is not an array of numpy"
        )
    with source.open() as file:
        declared_sizes = {name: _declared(source, file, member) for name, member in members.items()}
    return {name.removesuffix(".npy"): _read(source, members[name], found) for name, found in declared_sizes.items()}


def _read(source: Source, member: Member, declared: Declared) -> Array:
    if member.compressed:
        return _array(declared, bytearray(read_member(source, member, MAX_INFLATED))[declared.start :])
    verify(source, member)
    with source.open() as file:
        return _array(declared, source.read(file, member.start + declared.start, declared.size))


def _array(declared: Declared, content: bytearray | memoryview) -> Array:
    values = np.frombuffer(content, declared.dtype)
    native = values.astype(declared.dtype.newbyteorder("="), copy=False)
    return native.reshape(declared.shape, order="F" if declared.order == "F" else "C")


def _declared(source: Source, file: BinaryIO, member: Member) -> Declared:
    """Return the parsed header of an array; raise an error unless the values have the declared size in bytes."""
    where = f"{source.path}: {quoted(member.name)}" if member.name else str(source.path)
    raw = read_start(source, file, member, _MAX_HEADER)
    width = {b"\1\0": 2, b"\2\0": 4, b"\3\0": 4}.get(raw[6:8]) if raw.startswith(_MAGIC) else None
    if width is None:
        raise MalformedCheckpoint(f"{where} contains no arrays: it does not start with the header of the .npy format")
    start = 8 + width
    end = start + int.from_bytes(raw[8:start], "little")
    found = _HEADER.fullmatch(raw[start:end]) if end <= len(raw) else None
    if found is None:
        raise MalformedCheckpoint(
            f"{where} contains no arrays of numbers; its header is {quoted(raw[start : min(end, start + 100)])}"
        )
    order, kind, width_text = found[1].decode(), found[2].decode(), found[3].decode()
    if int(width_text) not in _SIZES[kind]:
        raise MalformedCheckpoint(f"{where} has the unsupported dtype {kind}{width_text}")
    shape = tuple(int(size) for size in found[5].replace(b",", b" ").split())
    if not is_shape(shape):
        raise MalformedCheckpoint(f"{where} declares an array that cannot have the shape {quoted(shape)}")
    dtype = np.dtype(f"{order.replace('|', '')}{kind}{width_text}")
    declared = Declared(dtype, shape, "F" if found[4] == b"True" else "C", end)
    if member.compressed and member.size > MAX_INFLATED:
        raise BudgetExceeded(
            f"{where} is compressed and has {member.size:,} bytes; the limit is {MAX_INFLATED:,}. Save it without "
            "compression, with numpy.savez"
        )
    if declared.start + declared.size != member.size:
        held = member.size - declared.start
        raise MalformedCheckpoint(f"{where} declares an array of {declared.size:,} bytes, but contains {held:,}")
    return declared
