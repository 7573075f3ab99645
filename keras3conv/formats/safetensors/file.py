"""Read and write safetensors files, one tensor at a time, with a strict parser.

The parser is stricter than the safetensors library: it refuses repeated keys, unknown fields, gaps and trailing bytes.
Files are not memory-mapped, so a file that is truncated while it is open causes an exception, not a bus error.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras3conv.errors import BudgetExceeded, FileError, MalformedCheckpoint, printable, quoted
from keras3conv.formats.safe.source import (
    Source,
    check_count,
    check_names,
    check_shape,
    dtype_named,
    is_shape,
    parse_json,
    zero_tail,
)
from keras3conv.formats.safe.streaming import Extent, Layout
from keras3conv.formats.torch.names import is_trainable, layers_of
from keras3conv.model.views import ModelView, TensorRef
from keras3conv.transforms import Array, Shape

_MAX_HEADER = 100_000_000
_MAX_METADATA = 16 << 20
_MAX_ENTRY = 4096
"""The header bytes that are allowed for each tensor, in addition to `_MAX_METADATA` bytes for the whole header."""

_MOST_METADATA = 20_000
_SHOWN_METADATA = 50
_NAMES = {
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
_FIELDS = {"dtype", "shape", "data_offsets"}
_ONE_BYTE = {"BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0"}
_SIZES = {code: 1 if code in _ONE_BYTE else int(code.lstrip("BCFIU")) // 8 for code in _NAMES}
"""The bytes of an element by dtype; not taken from numpy, in which bfloat16 and float8 would need ml_dtypes."""

_CODES = {name: code for code, name in _NAMES.items()}


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


def read(source: Source) -> ModelView:
    """Return a view of the model in a file; `ModelView.read` loads one tensor at a time."""
    entries, metadata = parse(source)
    tensors = [ref(name, entry) for name, entry in entries.items()]
    shown = islice(metadata.items(), _SHOWN_METADATA)
    facts = {"format": "safetensors"} | {
        f"metadata: {printable(key, 60)}": printable(value, 200) for key, value in shown
    }
    if warning := zero_tail(source):
        facts["warning"] = warning
    return ModelView(
        side="torch",
        name=source.path.name,
        layers=layers_of(tensors),
        reader=lambda path: read_entry(source, path, entries),
        origin=str(source.path),
        facts=facts,
    )


def parse(source: Source) -> tuple[dict[str, Entry], dict[str, str]]:
    """Return the tensors by name, in the order of the header, and the metadata.

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
    check_names(entries, str(source.path))
    return entries, metadata


def ref(name: str, entry: Entry) -> TensorRef:
    """Return a tensor of a safetensors header as a `TensorRef`."""
    role = name.rpartition(".")[2]
    return TensorRef(
        path=name,
        role=role,
        shape=entry.shape,
        dtype=entry.dtype,
        trainable=is_trainable(role),
        location=name,
    )


def read_entry(source: Source, name: str, entries: Mapping[str, Entry]) -> Array:
    """Return the values of one tensor; raise `MalformedCheckpoint` if the file has changed.

    Args:
        source: The file, as it was when its header was read.
        name: The name of the tensor.
        entries: The entries of the header.
    """
    if name not in entries:
        raise FileError(f"{source.path} has no tensor {quoted(name)}")
    entry = entries[name]
    with source.open() as file:
        buffer = source.read(file, entry.start, entry.size)
    return np.frombuffer(buffer, dtype=dtype_named(entry.dtype)).reshape(entry.shape)


def extents(source: Source) -> dict[str, Extent]:
    """Return the byte range of each tensor's values in a file."""
    return {name: Extent(entry.start, entry.size) for name, entry in parse(source)[0].items()}


def lay_out(path: Path, tensors: Sequence[TensorRef]) -> Layout:
    """Write the header of a file, and return the byte ranges for the values. Every tied weight gets a byte range.

    Args:
        path: The file to write.
        tensors: All tensors, of which only shapes and dtypes are written.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in tensors:
        if tensor.dtype not in _CODES:
            raise FileError(f"{tensor.path}: safetensors has no dtype {tensor.dtype}")
        start, end = end, end + check_shape(tensor.shape, tensor.path) * dtype_named(tensor.dtype).itemsize
        header[tensor.path] = {
            "dtype": _CODES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    raw = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    raw += b" " * (-len(raw) % 8)
    first = 8 + len(raw)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        file.truncate(first + end)
    offsets = ((name, entry["data_offsets"]) for name, entry in header.items() if name != "__metadata__")
    return Layout({name: Extent(first + start, stop - start) for name, (start, stop) in offsets})


def _declared(base: int, value: dict[str, Any]) -> Any:
    """Return an `Entry` for a JSON object of the header that declares a tensor; any other object unchanged.

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
    return Entry(_NAMES[code], axes, base + start, end - start)


def _entry(name: str, value: Any, base: int, source: Source) -> Entry:
    """Return the `Entry` for a tensor's declaration; raise `MalformedCheckpoint`, which names the fault, if invalid.

    Args:
        name: The name of the tensor.
        value: The declaration in the JSON of the header.
        base: The position in the file at which the values start.
        source: The file.
    """
    if not isinstance(value, dict) or value.keys() != _FIELDS:
        raise _malformed(source, name, "must have exactly the keys dtype, shape and data_offsets")
    code, *lists = value["dtype"], value["shape"], value["data_offsets"]
    shape, offsets = (tuple(entry) if isinstance(entry, list) else entry for entry in lists)
    if not isinstance(code, str) or code not in _NAMES:
        raise _malformed(source, name, f"has the unknown dtype {quoted(code)}; known are {', '.join(_NAMES)}")
    if not _whole(lists[0]) or not _whole(lists[1]) or len(offsets) != 2:
        facts = f"shape {quoted(shape)} or data_offsets {quoted(offsets)}"
        raise _malformed(source, name, f"has the {facts}, which are not whole numbers")
    start, end = offsets
    if not is_shape(shape):
        raise _malformed(source, name, f"has {quoted(shape)}, which is not a valid shape")
    size = prod(shape) * _SIZES[code]
    if end - start != size:
        facts = f"{code} {quoted(shape)} has {size:,} bytes"
        raise _malformed(source, name, f"of {facts}, but its data_offsets are {quoted(offsets)}")
    return Entry(_NAMES[code], shape, base + start, size)


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
            raise MalformedCheckpoint(f"{source.path}: {quoted(name)} {word} (byte {entry.start:,}, expected {end:,})")
        end += entry.size
    if end != source.size:
        raise MalformedCheckpoint(f"{source.path} has {source.size:,} bytes, but its header describes {end:,}")
