"""Read and write safetensors files, one tensor at a time.

Files are not memory-mapped, so a file that is truncated while it is open causes an exception, not a bus error.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from keras3conv.errors import FileError, printable, quoted
from keras3conv.formats.safe.source import Source, check_shape, dtype_named, zero_tail
from keras3conv.formats.safe.streaming import Extent, Layout
from keras3conv.formats.safetensors.header import NAMES, Entry, parse
from keras3conv.formats.torch.names import is_trainable, layers_of
from keras3conv.model.views import ModelView, TensorRef, made
from keras3conv.transforms import Array

_SHOWN_METADATA = 50
_CODES = {name: code for code, name in NAMES.items()}


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


def ref(name: str, entry: Entry) -> TensorRef:
    """Return the `TensorRef` (path, shape and dtype) for a tensor in the header of a safetensors file."""
    role = name.rpartition(".")[2]
    values: dict[str, Any] = {"path": name, "role": role, "shape": entry.shape, "dtype": entry.dtype, "location": name}
    if not is_trainable(role, entry.dtype):
        values["trainable"] = False
    return made(TensorRef, values)


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
    """Return the byte range of each tensor's values in a file, by the name of the tensor."""
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
            raise FileError(f"{tensor.path} cannot be written to a safetensors file, which has no dtype {tensor.dtype}")
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
