"""Read and write safetensors files, one tensor at a time, with a strict parser.

The parser is stricter than the safetensors library: it refuses repeated keys, unknown fields, gaps and trailing bytes.
Files are not memory-mapped, so a file that is truncated while it is open causes an exception, not a bus error.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from keras3conv.errors import BudgetExceeded, FileError, MalformedCheckpoint, printable, quoted
from keras3conv.formats.safe.source import Source, check_count, check_names, check_shape, dtype_named, parse_json
from keras3conv.formats.safe.streaming import Extent, Layout
from keras3conv.formats.torch.names import is_trainable, layers_of
from keras3conv.model.views import ModelView, TensorRef
from keras3conv.transforms import Array, Shape

_MAX_HEADER = 100_000_000
_MAX_METADATA = 16 << 20
_MAX_ENTRY = 4096
"""A header has at most `_MAX_METADATA` bytes, and `_MAX_ENTRY` more for each tensor."""

_MOST_METADATA = 100_000
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
_CODES = {name: code for code, name in _NAMES.items()}


@dataclass(frozen=True)
class Entry:
    """A tensor in the header.

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
            raise MalformedCheckpoint(f"{source.path} has {source.size} bytes, too few for a header")
        (length,) = struct.unpack("<Q", source.read(file, 0, 8))
        if not 2 <= length <= min(_MAX_HEADER, source.size - 8):
            raise MalformedCheckpoint(f"{source.path}: the declared header of {length:,} bytes does not fit")
        raw = bytes(source.read(file, 8, length))
    tensors = raw.count(b'"data_offsets"')
    check_count(tensors, str(source.path))
    if length > _MAX_METADATA + _MAX_ENTRY * tensors:
        raise BudgetExceeded(f"{source.path}: the header has {length:,} bytes for {tensors:,} tensors")
    if raw[:1] != b"{":
        raise MalformedCheckpoint(f"{source.path}: the header does not start with {{")
    header = parse_json(raw, f"{source.path}: the header")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise MalformedCheckpoint(f"{source.path}: __metadata__ is not a map of strings")
    if len(metadata) > _MOST_METADATA:
        raise BudgetExceeded(f"{source.path}: the metadata has {len(metadata):,} entries")
    check_count(len(header), str(source.path))
    entries = {name: _entry(name, value, 8 + length, source) for name, value in header.items()}
    _check_layout(entries, 8 + length, source)
    check_names(entries, str(source.path))
    return entries, metadata


def ref(name: str, entry: Entry) -> TensorRef:
    """Return the tensor of a header as a `TensorRef`."""
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
    """Return the values of one tensor; raise `MalformedCheckpoint` if the file has changed."""
    if name not in entries:
        raise FileError(f"{source.path} has no tensor {quoted(name)}")
    entry = entries[name]
    with source.open() as file:
        buffer = source.read(file, entry.start, entry.size)
    return np.frombuffer(buffer, dtype=dtype_named(entry.dtype)).reshape(entry.shape)


def extents(source: Source) -> dict[str, Extent]:
    """Return where the values of each tensor are in a file."""
    return {name: Extent(entry.start, entry.size) for name, entry in parse(source)[0].items()}


def lay_out(path: Path, tensors: Sequence[TensorRef]) -> Layout:
    """Write the header of a file, and return where the values belong. Each of several tied weights gets a copy."""
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


def _entry(name: str, value: Any, base: int, source: Source) -> Entry:
    where = f"{source.path}: {quoted(name)}"
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise MalformedCheckpoint(f"{where} does not have exactly a dtype, a shape and data_offsets")
    code, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(code, str) or code not in _NAMES:
        raise MalformedCheckpoint(f"{where} has the unknown dtype {quoted(code)}; known are {', '.join(_NAMES)}")
    if not _whole(shape) or not _whole(offsets) or len(offsets) != 2:
        raise MalformedCheckpoint(
            f"{where}: shape {quoted(shape)} or data_offsets {quoted(offsets)} are not whole numbers"
        )
    # Not from the numpy dtype: that needs ml_dtypes for bfloat16 and float8.
    itemsize = 1 if code in {"BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0"} else int(code.lstrip("BCFIU")) // 8
    size = check_shape(tuple(shape), where) * itemsize
    if offsets[1] - offsets[0] != size:
        raise MalformedCheckpoint(
            f"{where}: {code} {quoted(tuple(shape))} has {size:,} bytes, but data_offsets are {offsets}"
        )
    return Entry(_NAMES[code], tuple(shape), base + offsets[0], size)


def _whole(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _check_layout(entries: Mapping[str, Entry], base: int, source: Source) -> None:
    """Raise `MalformedCheckpoint` unless the tensors fill the file without overlaps, gaps or trailing bytes."""
    end = base
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].size)):
        if entry.start != end:
            word = "overlaps the tensor before it" if entry.start < end else "leaves a gap before it"
            raise MalformedCheckpoint(f"{source.path}: {quoted(name)} {word} (byte {entry.start:,}, expected {end:,})")
        end += entry.size
    if end != source.size:
        raise MalformedCheckpoint(f"{source.path} has {source.size:,} bytes, but its header describes {end:,}")
