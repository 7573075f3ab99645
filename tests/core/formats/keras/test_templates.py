"""A copy of an HDF5 file with other weights has all its other bytes, and its weights are checked."""

import os
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from keras3conv import formats
from keras3conv.errors import FileError
from keras3conv.formats.safe.hdf5_reader import Hdf5File
from keras3conv.formats.safe.source import Source
from tests.support.hdf5_files import dense, weights


def with_state(file: h5py.File) -> None:
    """Write the weights of a layer, the state of an optimizer that is larger than a block, and texts."""
    dense(file)
    file["optimizer/vars/0"] = np.arange(400_000, dtype=np.float32)
    file.attrs["note"] = "kept"
    file["layers/dense/vars/2"] = np.zeros((0, 3), np.float32)


def template(folder: Path) -> Path:
    path = folder / "x.weights.h5"
    with h5py.File(path, "w") as file:
        with_state(file)
    return path


def test_only_the_values_of_the_weights_differ(tmp_path: Path) -> None:
    path, new = template(tmp_path), tmp_path / "new.weights.h5"
    view = formats.read(path)
    formats.write(new, list(view.tensors()), lambda name: view.read(name) + 1, template=path)
    before, after = bytearray(path.read_bytes()), bytearray(new.read_bytes())
    assert len(before) == len(after) > 1_600_000
    changed = 0
    for dataset in Hdf5File(Source.pin(path)).survey().datasets.values():
        values = slice(dataset.offset, dataset.offset + dataset.stored)
        changed += before[values] != after[values]
        before[values] = after[values]
    assert before == after
    assert changed == 2, "both weights that are not empty"


def test_values_in_another_byte_order_are_replaced(tmp_path: Path) -> None:
    path, new = weights(tmp_path), tmp_path / "new.weights.h5"
    with h5py.File(path, "r+") as file:
        del file["layers/dense/vars/1"]
        file["layers/dense/vars/1"] = np.arange(3).astype(">f4")
    view = formats.read(path)
    formats.write(new, list(view.tensors()), lambda name: view.read(name) * 2, template=path)
    with h5py.File(new) as file:
        assert file["layers/dense/vars/1"].dtype == ">f4"
        np.testing.assert_array_equal(file["layers/dense/vars/1"], np.arange(3) * 2)
        np.testing.assert_array_equal(file["layers/dense/vars/0"], 2 * np.arange(12).reshape(4, 3))


def test_values_that_change_on_the_disk_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = template(tmp_path)
    view = formats.read(path)
    original = os.pwrite

    def faulty(descriptor: int, data: memoryview, place: int) -> int:
        return original(descriptor, bytes(len(data)), place)

    monkeypatch.setattr(os, "pwrite", faulty)
    with pytest.raises(FileError, match=r"was damaged while it was written: .* different values"):
        formats.write(tmp_path / "new.weights.h5", list(view.tensors()), view.read, template=path)
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_another_dtype_is_refused(tmp_path: Path) -> None:
    path = template(tmp_path)
    view = formats.read(path)
    tensors = [replace(tensor, dtype="float64") for tensor in view.tensors()]
    with pytest.raises(FileError, match=r"is float32 of shape \(4, 3\), but the new values of .* are float64"):
        formats.write(
            tmp_path / "new.weights.h5", tensors, lambda name: view.read(name).astype("float64"), template=path
        )
