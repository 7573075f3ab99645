"""Check the tensors of an untrusted ONNX file before anything reads or runs them.

onnx's checker and onnxruntime hardly check external data. This module checks from which file external data is read, and
that the declared offsets are inside this file.
"""

import stat
from collections.abc import Iterator
from itertools import pairwise
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

from keras3conv.errors import BudgetExceeded, FileError, MalformedCheckpoint, UnsafeCheckpoint, printable, quoted
from keras3conv.formats.safe.source import check_count, check_shape

_KEYS = frozenset({"location", "offset", "length", "checksum"})

MAX_BYTES = 1 << 36
"""The largest number of bytes that the tensors of a model may declare (64 GiB), as one machine can hold no more."""

_BITS = {
    **dict.fromkeys(("FLOAT", "INT32", "UINT32"), 32),
    **dict.fromkeys(("DOUBLE", "INT64", "UINT64", "COMPLEX64"), 64),
    **dict.fromkeys(("FLOAT16", "BFLOAT16", "INT16", "UINT16"), 16),
    **dict.fromkeys(("INT8", "UINT8", "BOOL"), 8),
    **dict.fromkeys(("FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ", "FLOAT8E8M0"), 8),
    **dict.fromkeys(("INT4", "UINT4", "FLOAT4E2M1"), 4),
    **dict.fromkeys(("INT2", "UINT2"), 2),
    "COMPLEX128": 128,
}

_FIELDS = {
    "FLOAT": ("float_data", 1),
    "COMPLEX64": ("float_data", 2),
    "DOUBLE": ("double_data", 1),
    "COMPLEX128": ("double_data", 2),
    "INT64": ("int64_data", 1),
    "UINT32": ("uint64_data", 1),
    "UINT64": ("uint64_data", 1),
    "STRING": ("string_data", 1),
}
"""The field with the values of a tensor that is not stored as raw bytes, and the entries per value, by dtype."""


def check_tensors(path: Path, model: Any) -> None:
    """Check shape, size and external data of every tensor of a model.

    Args:
        path: The file that the model was read from.
        model: The parsed file (an `onnx.ModelProto`), without its external data.

    Raises:
        MalformedCheckpoint: A shape or a number of bytes is impossible.
        UnsafeCheckpoint: External data is outside of the folder, behind a link, or not in a regular file.
        BudgetExceeded: The tensors declare more bytes than `MAX_BYTES`.
    """
    total, ranges = 0, []
    for number, (where, tensor, external_allowed) in enumerate(_tensors(model), 1):
        check_count(number, str(path))
        label = f"{path}: {where} {printable(tensor.name, 200) or '(without a name)'}"
        size = _size(label, tensor)
        total += size
        if total > MAX_BYTES:
            raise BudgetExceeded(
                f"{label} and the tensors before it declare more than {MAX_BYTES >> 30} GiB, which is the limit"
            )
        if tensor.data_location == tensor.EXTERNAL:
            if not external_allowed:
                raise UnsafeCheckpoint(
                    f"{label} has its values in an external file, which is allowed only for initializers"
                )
            ranges.append((*_external(path, label, tensor, size), label))
        else:
            _check_stored(label, tensor, size)
    _refuse_overlaps(ranges)


def _tensors(model: Any) -> Iterator[tuple[str, Any, bool]]:
    """Yield every tensor of a model with its location in words, and whether it may have external data."""
    yield from _graph_tensors(model.graph, "initializer")
    for function in model.functions:
        for node in function.node:
            yield from _node_tensors(node, f"in function {printable(function.name, 200)}, node")


def _graph_tensors(graph: Any, word: str) -> Iterator[tuple[str, Any, bool]]:
    for tensor in graph.initializer:
        yield word, tensor, True
    for sparse in graph.sparse_initializer:
        yield "sparse initializer", sparse.values, False
        yield "sparse initializer", sparse.indices, False
    for node in graph.node:
        yield from _node_tensors(node, "node")


def _node_tensors(node: Any, word: str) -> Iterator[tuple[str, Any, bool]]:
    where = f"{word} {node.name or node.op_type}, tensor"
    for attribute in node.attribute:
        for tensor in (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors):
            yield where, tensor, False
        sparses = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
        for sparse in (*sparses, *attribute.sparse_tensors):
            yield where, sparse.values, False
            yield where, sparse.indices, False
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            yield from _graph_tensors(graph, f"initializer of a graph in {node.name or node.op_type},")


def _size(label: str, tensor: Any) -> int:
    """Return the number of bytes that a tensor's shape and type require; 0 for strings, whose length is not fixed."""
    names = {number: name for name, number in tensor.DataType.items()}
    kind = names.get(tensor.data_type, "")
    elements = check_shape(tuple(tensor.dims), label)
    if kind == "STRING":
        return 0
    if kind not in _BITS:
        raise MalformedCheckpoint(f"{label} has the ONNX data type {kind or tensor.data_type}, which is not supported")
    return -(-elements * _BITS[kind] // 8)


def _check_stored(label: str, tensor: Any, size: int) -> None:
    """Check the values that an ONNX tensor stores in the file itself, not in an external file.

    Raise `MalformedCheckpoint` if the values are in several fields (`raw_data`, `float_data`), or if their number is
    not that of the shape.

    Args:
        label: The file and the tensor, for messages.
        tensor: The tensor, an `onnx.TensorProto`.
        size: The number of bytes that its shape and dtype need.
    """
    kind = next(name for name, number in tensor.DataType.items() if number == tensor.data_type)
    fields = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")
    filled = [name for name in fields if len(getattr(tensor, name))]
    field, width = _FIELDS.get(kind, ("int32_data", 1))
    if tensor.HasField("raw_data"):
        if kind == "STRING":
            raise MalformedCheckpoint(f"{label} contains strings in the ONNX field raw_data, which is for numbers only")
        if filled:
            raise MalformedCheckpoint(f"{label} has its values twice: in the ONNX fields raw_data and {filled[0]}")
        if len(tensor.raw_data) != size:
            raise MalformedCheckpoint(
                f"{label} has {len(tensor.raw_data):,} bytes of values, but its shape needs {size:,}"
            )
        return
    if [name for name in filled if name != field]:
        raise MalformedCheckpoint(
            f"{label} has the data type {kind}, but its values are in the ONNX field {filled[0]}, which is for other "
            "types"
        )
    elements = prod(tensor.dims)
    needed = -(-elements * _BITS[kind] // 8) if kind != "STRING" and _BITS[kind] < 8 else elements * width
    if len(getattr(tensor, field)) != needed:
        raise MalformedCheckpoint(f"{label} has {len(getattr(tensor, field)):,} values, but its shape needs {needed:,}")


def _external(path: Path, label: str, tensor: Any, size: int) -> tuple[str, int, int]:
    """Return the external file of a tensor's values, and the first byte and the end of the values in it.

    Raise `UnsafeCheckpoint` if the file is not in the model's folder, `MalformedCheckpoint` for a wrong byte range.

    Args:
        path: The ONNX file.
        label: The file and the tensor, for messages.
        tensor: The tensor, an `onnx.TensorProto`.
        size: The number of bytes that its shape and dtype need.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if len(entries) != len(tensor.external_data) or not entries.keys() <= _KEYS:
        raise MalformedCheckpoint(
            f"{label} describes its external file with the keys {quoted(sorted(entries))}; the allowed keys are "
            f"{sorted(_KEYS)}"
        )
    if tensor.HasField("raw_data") and tensor.raw_data:
        raise MalformedCheckpoint(f"{label} has its values twice: in the ONNX file and in an external file")
    file = _external_file(path, label, entries.get("location", ""))
    offset = _number(label, "offset", entries.get("offset"), 0)
    length = _number(label, "length", entries.get("length"), size)
    if length != size:
        raise MalformedCheckpoint(
            f"{label} has {length:,} bytes of values in {file.name}, but its shape needs {size:,}"
        )
    if offset + length > file.stat().st_size:
        raise MalformedCheckpoint(
            f"{label} has its values up to byte {offset + length:,} of {file.name}, but that file is shorter"
        )
    return str(file), offset, offset + length


def _number(label: str, key: str, text: str | None, default: int) -> int:
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise MalformedCheckpoint(f"{label} has the {key} {quoted(text[:40])}, which is not a number of bytes")
    return int(text)


def _external_file(path: Path, label: str, location: str) -> Path:
    """Return the path of an external file; raise `UnsafeCheckpoint` unless it is a regular file in the model's folder.

    Args:
        path: The ONNX file.
        label: The ONNX file and the tensor, for messages.
        location: The name of the external file, relative to the folder of the ONNX file.
    """
    parts = PurePosixPath(location).parts
    is_unusual = not parts or location.startswith("/") or any(letter in location for letter in "\\:\0")
    if is_unusual or ".." in parts:
        raise UnsafeCheckpoint(
            f"{label} has its bytes in {quoted(location)}, which is not a file in the model's folder"
        )
    file = path.parent.joinpath(*parts)
    for step in (*[parent for parent in file.parents if path.parent in parent.parents], file):
        if step.is_symlink():
            raise UnsafeCheckpoint(
                f"{label} has its bytes in {printable(location, 200)}, which is a link, or in a linked folder: "
                "copy the file"
            )
    try:
        status = file.lstat()
    except OSError as error:
        raise FileError(
            f"{label} has its bytes in {printable(location, 200)}, which cannot be read: {error.strerror}"
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise UnsafeCheckpoint(f"{label} has its bytes in {printable(location, 200)}, which is not a regular file")
    if status.st_nlink > 1:
        raise UnsafeCheckpoint(
            f"{label} has its bytes in {printable(location, 200)}, which is also stored under another name (a hard "
            "link); copy the file"
        )
    return file


def _refuse_overlaps(ranges: list[tuple[str, int, int, str]]) -> None:
    ordered = sorted(entry for entry in ranges if entry[1] < entry[2])
    for (file, _, end, one), (other_file, start, _, other) in pairwise(ordered):
        if file == other_file and start < end:
            raise MalformedCheckpoint(
                f"{other} has its values in the same bytes of {Path(file).name} as {one.rpartition(' ')[2]}"
            )
