"""Parse the header of a safetensors file, stricter than the safetensors library.

Repeated keys, unknown fields, gaps and trailing bytes are refused. A header in the form that most libraries write is
parsed quickly, without a call of a Python function for each tensor. Any other header is parsed by a slower function,
which also raises the errors.
"""

import re
import struct
from collections.abc import Mapping
from functools import partial
from math import prod
from typing import Any, NamedTuple

from keras3conv.errors import BudgetExceeded, MalformedCheckpoint, quoted
from keras3conv.formats.safe.source import Source, check_count, check_names, is_shape, parse_json
from keras3conv.transforms import Shape

_MAX_HEADER = 100_000_000
_MAX_METADATA = 16 << 20
_MAX_ENTRY = 4096
"""A header has at most `_MAX_METADATA` bytes, and `_MAX_ENTRY` more for each tensor."""

_MOST_METADATA = 20_000
NAMES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
}
_WHOLE = r"(?:0|[1-9][0-9]{0,17})"
_TEXT = r'"[^"\\\x00-\x1f]*"'
_AXES = re.compile(rf"(?:{_WHOLE}(?:, ?{_WHOLE})*+)?")
_MOST_OF_AXES = 1000
_METADATA = re.compile(rf'\{{"__metadata__": ?(\{{(?:{_TEXT}: ?{_TEXT}(?:, ?|(?=\}})))*+\}}), ?')
_ENTRY = re.compile(
    r'("([^"\\\x00-\x1f]*)": ?\{"dtype": ?"([A-Z0-9_]*)", ?"shape": ?\[([0-9, ]*)\], '
    rf'?"data_offsets": ?\[({_WHOLE}), ?({_WHOLE})\]\}}(?:, ?|\}}\Z))'
)
"""The usual form of the metadata and of a tensor, as the safetensors library and Python's `json` write them."""

_FIELDS = {"dtype", "shape", "data_offsets"}
_ONE_BYTE = {"BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0"}
_SIZES = {code: 1 if code in _ONE_BYTE else int(code.lstrip("BCFIU")) // 8 for code in NAMES}
"""The bytes of an element. Not from numpy's dtypes: those of bfloat16 and float8 need ml_dtypes."""


class Entry(NamedTuple):
    """A tensor in the header; a tuple, because a file may have 100,000 of them.

    Attributes:
        dtype: The name of the dtype, as in numpy or ml_dtypes.
        shape: The shape.
        start: The offset of the first byte in the file.
        size: The size in bytes.
    """

    dtype: str
    shape: Shape
    start: int
    size: int


def parse(source: Source) -> tuple[dict[str, Entry], dict[str, str]]:
    """Return the tensors in the header by name, in its order, and the entry `__metadata__`: {"format": "pt"}.

    Raises:
        MalformedCheckpoint: The header is invalid, or does not describe the file exactly.
        BudgetExceeded: The header declares more than `MAX_TENSORS` tensors.
    """
    with source.open() as file:
        if source.size < 8:
            raise MalformedCheckpoint(
                f"{source.path} has {source.size} bytes, but the header of a safetensors file needs at least 8"
            )
        (length,) = struct.unpack("<Q", source.read(file, 0, 8))
        if not 2 <= length <= min(_MAX_HEADER, source.size - 8):
            raise MalformedCheckpoint(
                f"{source.path} declares a header of {length:,} bytes, which does not fit into a file of "
                f"{source.size:,} bytes"
            )
        raw = bytes(source.read(file, 8, length))
    tensors = raw.count(b'"data_offsets"')
    check_count(tensors, str(source.path))
    if raw.count(b'"') > 4 * _MOST_METADATA + 12 * tensors:  # an entry of the metadata has four quotation marks
        raise BudgetExceeded(f"{source.path}: the header has more than {_MOST_METADATA:,} entries that are not tensors")
    if length > _MAX_METADATA + _MAX_ENTRY * tensors:
        raise BudgetExceeded(f"{source.path}: the header has {length:,} bytes, too many for its {tensors:,} tensors")
    if raw[:1] != b"{":
        raise MalformedCheckpoint(f"{source.path}: the header does not start with {{")
    base = 8 + length
    entries, metadata = _usual(raw.rstrip(b" "), base, source) or _unusual(raw, base, source)
    check_names(entries, str(source.path))
    return entries, metadata


def _usual(raw: bytes, base: int, source: Source) -> tuple[dict[str, Entry], dict[str, str]] | None:
    """Return the tensors and the metadata of a valid header of the usual form; None for every other header.

    The usual form has the metadata first, and the tensors in the order of their values.

    Args:
        raw: The header, without spaces at its end.
        base: The position in the file at which the values start.
        source: The file.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return None
    metadata, place = _usual_metadata(text, source)
    known: dict[tuple[str, str], tuple[str, Shape, int]] = {}
    entries: dict[str, Entry] = {}
    last = 0
    found = _ENTRY.findall(text, place)
    for whole, name, code, axes, first, stop in found:
        kind = known.get((code, axes))
        if kind is None:
            if (kind := _kind(code, axes)) is None:
                return None
            known[code, axes] = kind
        if int(first) != last:
            return None
        dtype, shape, size = kind
        entries[name] = tuple.__new__(Entry, (dtype, shape, base + last, size))  # faster than `Entry(...)`
        place, last = place + len(whole), last + size
        if int(stop) != last:
            return None
    # If the lengths of all entries add up, there is nothing between them.
    is_whole = place == len(text) and text.endswith("}") and base + last == source.size
    is_distinct = len(found) == len(entries) and "__metadata__" not in entries
    return (entries, metadata) if is_whole and is_distinct else None


def _usual_metadata(text: str, source: Source) -> tuple[dict[str, str], int]:
    """Return the metadata at the start of a header, and the position after it; none if they are not at the start."""
    match = _METADATA.match(text)
    if match is None:
        return {}, 1
    return parse_json(match[1], f"{source.path}: the header"), match.end()


def _kind(code: str, axes: str) -> tuple[str, Shape, int] | None:
    """Return the dtype, the shape and the size in bytes of a tensor: "F32", "2,3" -> ("float32", (2, 3), 24).

    Return None if the dtype is unknown, or if no array has the shape.

    Args:
        code: The dtype in the header.
        axes: The shape in the header, without brackets.
    """
    if code not in NAMES or len(axes) > _MOST_OF_AXES or not _AXES.fullmatch(axes):
        return None
    shape = tuple(map(int, axes.split(","))) if axes else ()
    return (NAMES[code], shape, prod(shape) * _SIZES[code]) if is_shape(shape) else None


def _unusual(raw: bytes, base: int, source: Source) -> tuple[dict[str, Entry], dict[str, str]]:
    """Return the tensors and the metadata of any valid header.

    Args:
        raw: The header.
        base: The position in the file at which the values start.
        source: The file.

    Raises:
        MalformedCheckpoint: The header is invalid, or does not describe the file exactly.
    """
    header = parse_json(raw, f"{source.path}: the header", partial(_declared, base))
    if not isinstance(header, dict):
        raise MalformedCheckpoint(f"{source.path}: the header of the safetensors file must be a JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise MalformedCheckpoint(f"{source.path}: the entry __metadata__ of the header must map names to texts")
    entries = {
        name: value if type(value) is Entry else _entry(name, value, base, source) for name, value in header.items()
    }
    _check_layout(entries, base, source)
    return entries, metadata


def _declared(base: int, value: dict[str, Any]) -> Any:
    """Return the entry for an object of the header if it is a valid declaration of a tensor; else the object unchanged.

    Args:
        base: The position in the file at which the values start.
        value: An object in the JSON of the header.
    """
    if value.keys() != _FIELDS:
        return value
    code, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if type(code) is not str or code not in _SIZES or not _whole(shape) or not _whole(offsets) or len(offsets) != 2:
        return value
    start, end = offsets
    axes = tuple(shape)
    if not is_shape(axes) or end - start != prod(axes) * _SIZES[code]:
        return value
    return Entry(NAMES[code], axes, base + start, end - start)


def _entry(name: str, value: Any, base: int, source: Source) -> Entry:
    """Return the entry for the declaration of a tensor; raise `MalformedCheckpoint` with what is wrong with it.

    Args:
        name: The name of the tensor.
        value: The declaration in the JSON of the header.
        base: The position in the file at which the values start.
        source: The file.
    """
    if not isinstance(value, dict) or value.keys() != _FIELDS:
        raise _malformed(source, name, "must be declared with exactly the keys dtype, shape and data_offsets")
    code, *lists = value["dtype"], value["shape"], value["data_offsets"]
    shape, offsets = (tuple(entry) if isinstance(entry, list) else entry for entry in lists)
    if not isinstance(code, str) or code not in NAMES:
        raise _malformed(source, name, f"has the unknown dtype {quoted(code)}; known are {', '.join(NAMES)}")
    if not _whole(lists[0]) or not _whole(lists[1]) or len(offsets) != 2:
        raise _malformed(
            source,
            name,
            f"has the shape {quoted(shape)} and the data_offsets {quoted(offsets)}: both must be lists of integers",
        )
    start, end = offsets
    if not is_shape(shape):
        raise _malformed(source, name, f"has {quoted(shape)}, which is not a valid shape")
    size = prod(shape) * _SIZES[code]
    if end - start != size:
        facts = f"{code} {quoted(shape)} has {size:,} bytes"
        raise _malformed(source, name, f"of {facts}, but its data_offsets are {quoted(offsets)}")
    return Entry(NAMES[code], shape, base + start, size)


def _malformed(source: Source, name: str, fact: str) -> MalformedCheckpoint:
    return MalformedCheckpoint(f"{source.path}: {quoted(name)} {fact}")


def _whole(values: Any) -> bool:
    if type(values) is not list:
        return False
    for value in values:  # noqa: SIM110  # a generator takes three times as long, for every tensor of a file
        if type(value) is not int or value < 0:
            return False
    return True


def _check_layout(entries: Mapping[str, Entry], base: int, source: Source) -> None:
    """Raise `MalformedCheckpoint` unless the tensors fill the file without overlaps, gaps or trailing bytes.

    Args:
        entries: The tensors in the header.
        base: The position in the file at which the values start.
        source: The file.
    """
    end = base
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].size)):
        if entry.start != end:
            word = "overlaps the tensor before it" if entry.start < end else "leaves a gap before it"
            raise MalformedCheckpoint(
                f"{source.path}: {quoted(name)} {word}: it starts at byte {entry.start:,}, not at {end:,}"
            )
        end += entry.size
    if end != source.size:
        raise MalformedCheckpoint(f"{source.path} has {source.size:,} bytes, but its header describes {end:,}")
