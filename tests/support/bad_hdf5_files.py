"""Builders of HDF5 files that are damaged or hostile."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.support.hdf5_files import KERNEL, archive, dense, legacy, weights

LOCKS: list["subprocess.Popen[bytes]"] = []
"""The processes that hold a lock on a file, until the tests end."""

Plant = Callable[[h5py.File], None]


def planted(plant: Plant) -> Callable[[Path], Path]:
    """Return a builder of a Dense weight file in which `plant` writes the kernel."""

    return lambda folder: with_secret(weights, folder, plant)


def in_archive(plant: Plant) -> Callable[[Path], Path]:
    def both(file: h5py.File) -> None:
        dense(file, without=KERNEL)
        plant(file)

    return lambda folder: with_secret(archive, folder, both)


def with_secret(build: Callable[[Path, Plant], Path], folder: Path, plant: Plant) -> Path:
    """Build a file in a folder beside a folder with a secret file that must not be read."""
    (folder.parent / "secret.bin").write_bytes(bytes(48))
    if not (folder.parent / "other.h5").exists():
        with h5py.File(folder.parent / "other.h5", "w") as file:
            file["x"] = np.zeros((4, 3), np.float32)
    return build(folder, plant)


def dataset(*shape: int, dtype: str = "f4", **options: object) -> Plant:
    """Return a function that plants a dataset of which nothing, or only the first row, is written."""
    first = options.pop("first", None)

    def plant(file: h5py.File) -> None:
        made = file.create_dataset(KERNEL, shape, dtype, **options)
        if first:
            made[:first] = 0

    return plant


def many_bombs(file: h5py.File) -> None:
    for place in range(50):
        made = file.create_dataset(
            f"layers/dense_{place}/vars/0", (2**29 - 1,), "f8", chunks=(2**16,), compression="gzip"
        )
        made[: 2**16] = 0


def link(target: object, place: str = KERNEL) -> Plant:
    def plant(file: h5py.File) -> None:
        file[place] = target

    return plant


def chained(file: h5py.File) -> None:
    file["layers/a"] = h5py.ExternalLink("../other.h5", "/x")
    file[KERNEL] = h5py.SoftLink("/layers/a")


def loop_of_links(file: h5py.File) -> None:
    file[KERNEL] = h5py.SoftLink("/layers/b")
    file["layers/b"] = h5py.SoftLink(f"/{KERNEL}")


def virtual(source: str) -> Plant:
    def plant(file: h5py.File) -> None:
        layout = h5py.VirtualLayout((4, 3), "f4")
        layout[...] = h5py.VirtualSource(source, "x", (4, 3))
        file.create_virtual_dataset(KERNEL, layout)

    return plant


def group_cycle(file: h5py.File) -> None:
    file["layers/loop"] = file["/"]


def alias(file: h5py.File) -> None:
    file[KERNEL] = np.ones((4, 3), np.float32)
    file["layers/dense_1/vars/0"] = file[KERNEL]


def many_aliases(file: h5py.File) -> None:
    file[KERNEL] = np.ones((256, 1024), np.float32)
    for place in range(1, 20_000):
        file[f"layers/dense_{place}/vars/0"] = file[KERNEL]


def link_of_another_kind(file: h5py.File) -> None:
    group = file["layers/dense/vars"]
    group.id.links.create_external(b"0", b"../other.h5", b"/x")


def filtered(file: h5py.File, number: int = 32015) -> None:
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_chunk((4, 3))
    creation.set_filter(number, h5py.h5z.FLAG_OPTIONAL, (3,))
    h5py.h5d.create(
        file["layers/dense/vars"].id, b"0", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((4, 3)), dcpl=creation
    )


def of(dtype: Any, mark: str = "") -> Plant:
    def plant(file: h5py.File) -> None:
        made = file.create_dataset(KERNEL, data=np.zeros((4, 3), dtype))
        if mark:
            made.attrs["dtype"] = mark

    return plant


def variable_text(file: h5py.File) -> None:
    file.create_dataset(KERNEL, (2,), h5py.string_dtype())[...] = ["a", "b"]


def long_mark(file: h5py.File) -> None:
    of("f4")(file)
    file[KERNEL].attrs.create("dtype", "x" * (50 << 20), dtype=h5py.string_dtype())


def long_name(size: int) -> Plant:
    def plant(file: h5py.File) -> None:
        file[KERNEL] = np.zeros((4, 3), np.float32)
        del file["layers/dense/vars"].attrs["name"]
        file["layers/dense/vars"].attrs.create("name", "x" * size, dtype=h5py.string_dtype())

    return plant


def named(name: bytes) -> Plant:
    def plant(file: h5py.File) -> None:
        file[KERNEL] = np.zeros((4, 3), np.float32)
        file["layers/dense/vars"].attrs["name"] = np.bytes_(name)

    return plant


def name_of_numbers(file: h5py.File) -> None:
    file[KERNEL] = np.zeros((4, 3), np.float32)
    file["layers/dense/vars"].attrs["name"] = np.zeros(10)


def other_attributes(file: h5py.File) -> None:
    """Add many attributes that Keras does not use, so that HDF5 stores them densely."""
    file[KERNEL] = np.zeros((4, 3), np.float32)
    for place in range(2000):
        file["layers"].attrs[str(place)] = np.zeros(100)


def groups(count: int, path: str = "layers/{}") -> Plant:
    def plant(file: h5py.File) -> None:
        file[KERNEL] = np.zeros((4, 3), np.float32)
        for place in range(count):
            file.create_group(path.format(place))

    return plant


def deep(file: h5py.File) -> None:
    file[KERNEL] = np.zeros((4, 3), np.float32)
    file.create_group("/".join("a" * 2000))


def long_group(file: h5py.File) -> None:
    file[KERNEL] = np.zeros((4, 3), np.float32)
    file.create_group("x" * 5000)


def shape_of_kernel(*shape: int) -> Plant:
    return lambda file: file.__setitem__(KERNEL, np.zeros(shape, np.float32))


def numbered_from_one(file: h5py.File) -> None:
    file["layers/dense/vars/2"] = np.zeros(3)


def no_variables(folder: Path) -> Path:
    path = folder / "x.weights.h5"
    with h5py.File(path, "w") as file:
        file["a"] = np.zeros(3)
    return path


def edited(build: Callable[[Path], Path], change: Callable[[bytearray], bytes | bytearray]) -> Callable[[Path], Path]:
    def made(folder: Path) -> Path:
        path = build(folder)
        path.write_bytes(change(bytearray(path.read_bytes())))
        return path

    return made


def flipped(place: int) -> Callable[[bytearray], bytearray]:
    def change(content: bytearray) -> bytearray:
        content[place] ^= 0xFF
        return content

    return change


def prefixed(content: bytearray) -> bytes:
    return b"#!/bin/sh".ljust(512, b"\0") + content


def listed(*names: object) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        path = folder / "x.h5"
        with h5py.File(path, "w") as file:
            file.attrs["layer_names"] = names[0] if len(names) == 1 else list(names)
        return path

    return build


def config(text: str) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        path = legacy(folder, dense=["dense/kernel:0"])
        with h5py.File(path, "r+") as file:
            file.attrs["model_config"] = text
        return path

    return build


def locked(folder: Path) -> Path:
    """Return a file that another process has open for writing, until this process ends."""
    path = weights(folder)
    program = f"import h5py, sys; f = h5py.File({os.fspath(path)!r}, 'r+'); print(flush=True); sys.stdin.read()"
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    LOCKS.append(process)
    return path
