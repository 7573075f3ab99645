"""Write the pickles and archives of torch checkpoints byte by byte, without torch."""

import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras3conv.formats.torch.checkpoint import LEGACY_MAGIC


def text(value: str) -> bytes:
    raw = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw


def name(full: str) -> bytes:
    module, _, last = full.rpartition(".")
    return b"c" + module.encode() + b"\n" + last.encode() + b"\n"


def number(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def group(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def numbers(values: Sequence[int]) -> bytes:
    return group(*map(number, values))


def dictionary(items: Mapping[str, bytes]) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def call(function: str, *arguments: bytes) -> bytes:
    return name(function) + group(*arguments) + b"R"


def storage(key: str = "0", count: int = 2, kind: str = "torch.FloatStorage") -> bytes:
    return group(text("storage"), name(kind), text(key), text("cpu"), number(count)) + b"Q"


def tensor(
    key: str = "0",
    count: int = 2,
    shape: Sequence[int] = (2,),
    strides: Sequence[int] = (1,),
    offset: int = 0,
    more: Sequence[bytes] = (),
) -> bytes:
    arguments = storage(key, count), number(offset), numbers(shape), numbers(strides), b"\x89", b"}", *more
    return call("torch._utils._rebuild_tensor_v2", *arguments)


def pickled(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


def checkpoint(
    folder: Path, body: bytes, storages: Mapping[str, bytes] | None = None, *, file: str = "x.pt", **members: bytes
) -> Path:
    """Write an archive with a pickle, and the storages by key; `members` are others, by name."""
    path = folder / file
    with zipfile.ZipFile(path, "w") as target:
        target.writestr("archive/data.pkl", pickled(body))
        target.writestr("archive/byteorder", b"little")
        for key, raw in ({"0": bytes(8)} if storages is None else storages).items():
            target.writestr(f"archive/data/{key}", raw)
        for inner, raw in members.items():
            target.writestr(f"archive/{inner}", raw)
        target.writestr("archive/version", b"3\n")
    return path


def legacy(folder: Path, body: bytes, storages: Mapping[str, bytes] | None = None, **changes: Any) -> Path:
    """Write a file in the format before torch 1.6; `count` replaces the declared number of values of a storage."""
    held = {"0": bytes(8)} if storages is None else storages
    system = pickled(b"}(" + text("little_endian") + b"\x88u")
    keys = pickled(b"](" + b"".join(map(text, held)) + b"e")
    path = folder / "x.pt"
    parts = [LEGACY_MAGIC, pickled(b"M\xe9\x03"), system, pickled(body), keys]
    parts += [struct.pack("<q", changes.get("count", len(raw) // 4)) + raw for raw in held.values()]
    path.write_bytes(b"".join(parts) + changes.get("tail", b""))
    return path
