"""Small HDF5 files of many kinds, to change their bytes."""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np

Build = Callable[[h5py.File], None]


def nested(file: h5py.File) -> None:
    """Write groups in groups, some of them empty, with datasets of several dtypes and shapes."""
    for path, dtype in (("a", "f4"), ("a/b", ">f8"), ("a/b/c/d", "i8"), ("e/f", "u1"), ("e/f/g", "f2")):
        file.require_group(f"{path}/vars")["0"] = np.arange(6).reshape(2, 3).astype(dtype)
    file.create_group("h/i/j")
    file["k"] = np.float32(7)
    file["l"] = np.zeros((0, 3), "f4")


def many_attributes(file: h5py.File) -> None:
    """Write groups with texts and lists of texts, of fixed and of any length, and other attributes."""
    for number in range(4):
        group = file.create_group(f"layers/dense_{number}/vars")
        group.attrs["name"] = f"layer {number} with a name" * (number + 1)
        group.attrs["backend"] = np.bytes_(b"torch")
        group["0"] = np.full(3, number, "f4")
        group["0"].attrs["dtype"] = "float32"
    file.attrs["layer_names"] = ["one", "two", "drei€"]
    file["layers"].attrs["weight_names"] = np.array([b"kernel:0", b"b"])
    file["layers"].attrs["version"] = "1.0" * 30


def many_members(file: h5py.File) -> None:
    """Write a group whose members take a tree of two levels."""
    for number in range(300):
        file[f"layers/{number * 7919 % 1000}"] = np.array([number], "i2")


def chunked(file: h5py.File) -> None:
    """Write datasets in chunks: plain, compressed, shuffled and with checksums."""
    values = np.arange(24, dtype="f4").reshape(4, 6)
    file.create_dataset("a/vars/0", data=values, chunks=(2, 3))
    file.create_dataset("a/vars/1", data=values, chunks=(3, 4), compression="gzip", shuffle=True)
    file.create_dataset("a/vars/2", data=values, chunks=(4, 6), fletcher32=True)


def compact(file: h5py.File) -> None:
    """Write a dataset whose values are in its header."""
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_layout(h5py.h5d.COMPACT)
    group, space = file.create_group("a/vars"), h5py.h5s.create_simple((2, 3))
    dataset = h5py.h5d.create(group.id, b"0", h5py.h5t.IEEE_F32LE, space, settings)
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.arange(6, dtype="f4").reshape(2, 3))


def tied(file: h5py.File) -> None:
    """Write datasets with several names."""
    nested(file)
    file["a/vars/1"] = file["a/b/vars/0"]
    file["tied"] = file["a/vars/0"]


KINDS: dict[str, Build] = {
    build.__name__: build for build in (nested, many_attributes, many_members, chunked, compact, tied)
}
VERSIONS = ("earliest", "v110", "latest")


def written(path: Path, kind: str, version: str) -> bytes:
    """Write a file, and return its content.

    Args:
        path: The file.
        kind: A key of `KINDS`.
        version: The oldest version of HDF5 whose structures the file uses.
    """
    with h5py.File(path, "w", libver=(version, "latest")) as file:
        KINDS[kind](file)
    return path.read_bytes()


def damaged(content: bytes, random: Random) -> bytes:
    """Return the content with one to three changed bytes, most of them among bytes that are not zero."""
    changed = bytearray(content)
    used = [place for place, byte in enumerate(content) if byte]
    for _ in range(random.choice((1, 1, 2, 3))):
        near = random.choice(used) + random.randrange(-8, 9)
        place = near % len(content) if random.random() < 0.9 else random.randrange(len(content))
        changed[place] = random.choice((changed[place] ^ 0xFF, changed[place] ^ 1, 0, 0xFF, random.randrange(256)))
    return bytes(changed)


def with_h5py(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Return the values of every dataset under every name that it has."""
    found: dict[str, np.ndarray[Any, Any]] = {}
    with h5py.File(path) as file:
        file.visititems(lambda _name, _node: None)  # it fails if a group is damaged in a place that no name leads to
        waiting: list[tuple[str, h5py.Group]] = [("", file)]
        while waiting:
            above, group = waiting.pop()
            for name, node in group.items():
                if isinstance(node, h5py.Group):
                    waiting.append((f"{above}{name}/", node))
                else:
                    found[f"{above}{name}"] = np.asarray(node[()])
    return found
