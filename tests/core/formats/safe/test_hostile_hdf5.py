import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from keras3conv import formats
from keras3conv.errors import BudgetExceeded, FileError, MalformedCheckpoint, NoData, UnsafeCheckpoint
from tests.support.hdf5_files import KERNEL, archive, dense, paths, weights


def external(file: h5py.File) -> None:
    file.create_dataset(KERNEL, (4, 3), "f4", external=[("secret.bin", 0, 48)])


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4, 3), "f4")
    layout[...] = h5py.VirtualSource("other.h5", "x", (4, 3))
    file.create_virtual_dataset(KERNEL, layout)


def external_link(file: h5py.File) -> None:
    file[KERNEL] = h5py.ExternalLink("other.h5", "/x")


def external_group(file: h5py.File) -> None:
    file["other"] = h5py.ExternalLink("other.h5", "/")


def soft_link(file: h5py.File) -> None:
    file[KERNEL] = h5py.SoftLink("/layers/dense/vars/1")


def references(file: h5py.File) -> None:
    file.create_dataset(KERNEL, (1,), h5py.ref_dtype)[0] = file.ref


def plugin_filter(file: h5py.File) -> None:
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_chunk((4, 3))
    creation.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))
    space, parent = h5py.h5s.create_simple((4, 3)), file["layers/dense/vars"].id
    h5py.h5d.create(parent, b"0", h5py.h5t.IEEE_F32LE, space, dcpl=creation)


def never_written(file: h5py.File) -> None:
    file.create_dataset(KERNEL, (4, 3), "f4", fillvalue=7)


def partly_written(file: h5py.File) -> None:
    file.create_dataset(KERNEL, (400, 3), "f4", chunks=(100, 3))[:100] = 1


def shape_bomb(file: h5py.File) -> None:
    dataset = file.create_dataset(KERNEL, (2**40,), "f8", chunks=(1024,), compression="gzip")
    dataset[:1024] = 0


def many_chunks(file: h5py.File) -> None:
    dataset = file.create_dataset(KERNEL, (512, 512), "f4", chunks=(1, 1))
    dataset[0, 0] = 0
    file["filler"] = np.zeros(2**15)


def contiguous_bomb(file: h5py.File) -> None:
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    space, parent = h5py.h5s.create_simple((2**31,)), file["layers/dense/vars"].id
    h5py.h5d.create(parent, b"0", h5py.h5t.IEEE_F32LE, space, dcpl=creation)


def text(file: h5py.File) -> None:
    file[KERNEL] = "text"


def compound(file: h5py.File) -> None:
    file[KERNEL] = np.zeros(3, [("a", "f4"), ("b", "i4")])


def mismarked(file: h5py.File) -> None:
    file[KERNEL] = np.zeros(3, np.float32)
    file[KERNEL].attrs["dtype"] = "bfloat16"


def no_shape(file: h5py.File) -> None:
    file[KERNEL] = h5py.Empty("f4")


def cycle(file: h5py.File) -> None:
    file["layers/loop"] = file["/"]


def gap(file: h5py.File) -> None:
    file["layers/dense/vars/2"] = np.zeros(3)


def named_type(file: h5py.File) -> None:
    file[KERNEL] = np.dtype("f4")


@pytest.mark.parametrize("place", [weights, archive])
@pytest.mark.parametrize(
    ("plant", "error"),
    [
        (external, UnsafeCheckpoint),
        (virtual, UnsafeCheckpoint),
        (external_link, UnsafeCheckpoint),
        (external_group, UnsafeCheckpoint),
        (soft_link, UnsafeCheckpoint),
        (references, UnsafeCheckpoint),
        (plugin_filter, UnsafeCheckpoint),
        (never_written, NoData),
        (partly_written, NoData),
        (shape_bomb, BudgetExceeded),
        (many_chunks, BudgetExceeded),
        (text, MalformedCheckpoint),
        (compound, MalformedCheckpoint),
        (mismarked, MalformedCheckpoint),
        (no_shape, MalformedCheckpoint),
        (cycle, MalformedCheckpoint),
        (gap, MalformedCheckpoint),
        (named_type, MalformedCheckpoint),
    ],
)
def test_groups_and_datasets_that_are_not_plain_data_are_refused_before_they_are_read(
    tmp_path: Path,
    place: Callable[..., Path],
    plant: Callable[[h5py.File], None],
    error: type[FileError],
) -> None:
    def planted(file: h5py.File) -> None:
        if KERNEL.rpartition("/")[0] not in file:
            dense(file, without=KERNEL)
        plant(file)

    path = place(tmp_path, planted)
    with pytest.raises(error, match=r"x\.(weights\.h5|keras)"):
        formats.read(path)


def test_a_file_that_declares_more_than_it_has_is_refused(tmp_path: Path) -> None:
    path = weights(tmp_path, contiguous_bomb)
    os.truncate(path, 8192)
    with pytest.raises(MalformedCheckpoint):
        formats.read(path)


def test_two_names_of_one_dataset_are_tied(tmp_path: Path) -> None:
    def tied(file: h5py.File) -> None:
        file[KERNEL] = np.ones((4, 3), np.float32)
        file["layers/dense_1/vars/0"] = file[KERNEL]

    storages = [tensor.storage for tensor in formats.read(weights(tmp_path, tied)).tensors()]
    assert storages == [KERNEL, "", KERNEL]


@pytest.mark.parametrize("dtype", [">f4", ">i8", "f2", "f8", "u1", "?", "c8"])
def test_values_come_back_in_the_byte_order_of_the_machine(tmp_path: Path, dtype: str) -> None:
    array = np.array([0, 1, 1], dtype)
    view = formats.read(weights(tmp_path, lambda file: file.create_dataset(KERNEL, data=array)))
    result = view.read("head/kernel")
    assert result.dtype.isnative
    np.testing.assert_array_equal(result, array)


def test_a_file_truncated_anywhere_is_malformed(tmp_path: Path) -> None:
    for path in (weights(tmp_path), archive(tmp_path)):
        whole = path.read_bytes()
        for length in range(1, len(whole), 173):
            path.write_bytes(whole[:length])
            with pytest.raises(FileError):
                read_all(path)


def read_all(path: Path) -> None:
    view = formats.read(path)
    for name in paths(view):
        view.read(name)


def test_a_damaged_byte_is_an_error_or_leaves_the_values_readable(tmp_path: Path) -> None:
    path = weights(tmp_path)
    whole, random = path.read_bytes(), np.random.default_rng(3)
    for place in random.integers(0, len(whole), 150):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            read_all(path)
        except FileError:
            continue
