"""Write TensorFlow checkpoints byte by byte, without TensorFlow, also such as TensorFlow never writes."""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras3conv.formats.tensorflow.graph import GRAPH, VALUE

MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
DTYPES = {"float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int64": 9, "bool": 10, "bfloat16": 14, "float16": 19}
TEXT = 7


def _after_byte(state: int) -> int:
    for _ in range(8):
        state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    return state


_AFTER_BYTE = [_after_byte(byte) for byte in range(256)]


def checksum(data: bytes) -> int:
    """Return the CRC-32C byte by byte, in TensorFlow's form."""
    state = 0xFFFFFFFF
    for byte in data:
        state = state >> 8 ^ _AFTER_BYTE[(state ^ byte) & 0xFF]
    state ^= 0xFFFFFFFF
    return ((state >> 15 | state << 17) + 0xA282EAD8) & 0xFFFFFFFF


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*made, number])


def field(number: int, value: int | bytes) -> bytes:
    """Return a field of a message: a number, or a text or message of any length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def entry(**changes: Any) -> bytes:
    """Return the message of a tensor; its values are the float32 numbers 1 and 2 at the start of the first file."""
    values = np.array([1, 2], "<f4").tobytes()
    held = {"code": 1, "shape": (2,), "shard": 0, "start": 0, "size": 8, "checksum": checksum(values), **changes}
    shape = b"".join(field(2, field(1, size)) for size in held["shape"])
    numbers = ((1, held["code"]), (3, held["shard"]), (4, held["start"]), (5, held["size"]))
    made = field(2, shape) + b"".join(field(number, value) for number, value in numbers if value)
    return made + varint(6 << 3 | 5) + struct.pack("<I", held["checksum"]) + held.get("more", b"")


def block_of(entries: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return the entries of a block, each with its whole key, and the list of one place."""
    made = b"".join(varint(0) + varint(len(key)) + varint(len(value)) + key + value for key, value in entries)
    return made + struct.pack("<II", 0, 1)


def stored_block(block: bytes, compression: int = 0) -> bytes:
    kind = bytes([compression])
    return block + kind + struct.pack("<I", checksum(block + kind))


def table(block: bytes, compression: int = 0) -> bytes:
    """Return an index with one block of entries."""
    first = stored_block(block, compression)
    empty = stored_block(block_of([]))
    listing = block_of([(b"\xff", varint(0) + varint(len(block)))])
    handles = varint(len(first)) + varint(len(empty) - 5) + varint(len(first) + len(empty)) + varint(len(listing))
    return first + empty + stored_block(listing) + handles.ljust(40, b"\0") + MAGIC


def header(shards: int = 1, order: int = 0) -> bytes:
    return field(1, shards) + (field(2, order) if order else b"") + field(3, field(1, 1))


def index(entries: Mapping[str, bytes], start: bytes | None = None) -> bytes:
    """Return an index: the header, and the entries in order."""
    named = [(name.encode("utf-8", "surrogateescape"), value) for name, value in entries.items()]
    return table(block_of(sorted([(b"", header() if start is None else start), *named])))


def write(folder: Path, content: bytes, values: bytes = np.array([1, 2], "<f4").tobytes(), name: str = "x") -> Path:
    """Write an index and one file with values; return the index."""
    (folder / f"{name}.data-00000-of-00001").write_bytes(values)
    path = folder / f"{name}.index"
    path.write_bytes(content)
    return path


def graph_of(paths: Mapping[str, str]) -> bytes:
    """Return the graph of objects for variables by their path of attributes ("layer-0/kernel"), with names.

    A path below an attribute "optimizer" belongs to an optimizer.
    """
    nodes: list[tuple[list[bytes], bytes]] = [([], b"")]
    numbers = {"": 0}
    for path, name in paths.items():
        parts = path.split("/")
        for length in range(1, len(parts) + 1):
            inner = "/".join(parts[:length])
            if inner not in numbers:
                numbers[inner] = len(nodes)
                nodes.append(([], b""))
                child = field(1, numbers[inner]) + field(2, parts[length - 1].encode())
                nodes[numbers["/".join(parts[: length - 1])]][0].append(field(1, child))
        texts = ((1, "VARIABLE_VALUE"), (2, name), (3, path + VALUE))
        attribute = field(2, b"".join(field(number, text.encode()) for number, text in texts))
        nodes[numbers[path]] = (nodes[numbers[path]][0], attribute)
    return b"".join(field(1, b"".join(children) + attribute) for children, attribute in nodes)


def text_of(message: bytes) -> tuple[bytes, int]:
    """Return the stored value of a tensor of one text, and its checksum."""
    length = struct.pack("<I", len(message))
    rest = struct.pack("<I", checksum(length)) + message
    return varint(len(message)) + rest, checksum(length + rest)


def checkpoint(
    folder: Path, variables: Mapping[str, np.ndarray[Any, Any]], names: Mapping[str, str] | None = None, name: str = "x"
) -> Path:
    """Write a checkpoint, and return its index.

    Args:
        folder: The folder.
        variables: The values, by the path of attributes if `names` is given, else by name.
        names: The names of the variables in their program; None for a checkpoint without a graph of objects.
        name: The prefix of the files.
    """
    entries: dict[str, bytes] = {}
    content = b""
    for path, values in variables.items():
        data = values.tobytes()
        key = path if names is None else path + VALUE
        code = DTYPES[values.dtype.name]
        entries[key] = entry(code=code, shape=values.shape, start=len(content), size=len(data), checksum=checksum(data))
        content += data
    if names is not None:
        graph, crc = text_of(graph_of({path: names.get(path, path) for path in variables}))
        entries[GRAPH] = entry(code=TEXT, shape=(), start=len(content), size=len(graph), checksum=crc)
        content += graph
    return write(folder, index(entries), content, name)


def good(folder: Path) -> Path:
    """Write a checkpoint of one layer, as Keras 2 writes it."""
    variables = {
        "layer_with_weights-0/kernel": np.arange(6, dtype="<f4").reshape(2, 3),
        "layer_with_weights-0/bias": np.ones(3, "<f4"),
        "save_counter": np.array(1, "<i8"),
    }
    names = {
        "layer_with_weights-0/kernel": "dense/kernel",
        "layer_with_weights-0/bias": "dense/bias",
        "save_counter": "save_counter",
    }
    return checkpoint(folder, variables, names)


__all__ = ["checkpoint", "entry", "field", "good", "graph_of", "header", "index", "table", "write"]
