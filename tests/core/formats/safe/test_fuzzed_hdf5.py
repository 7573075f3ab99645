"""A damaged HDF5 file of any kind is refused, or both of our readers and h5py find the same values in it."""

from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras3conv.errors import FileError
from keras3conv.formats.safe.hdf5_reader import Hdf5File
from keras3conv.formats.safe.hdf5_tree import Tree
from keras3conv.formats.safe.source import Source
from keras3conv.transforms import Array
from tests.support import hdf5_kinds

FILES = [(kind, version) for kind in hdf5_kinds.KINDS for version in hdf5_kinds.VERSIONS]


def by_library(file: Hdf5File) -> Tree | None:
    try:
        return file._inspected()
    except FileError:
        return None


def values(file: Hdf5File, tree: Tree) -> dict[str, Array] | None:
    try:
        return {path: file.read(dataset) for path, dataset in tree.datasets.items()}
    except FileError:
        return None


def agree(path: Path) -> bool:
    """Return whether a file is accepted; fail if our two readers or h5py read it differently."""
    file = Hdf5File(Source.pin(path))
    usual, tree = file._usual(), by_library(file)
    assert usual in (None, tree)
    found = values(file, tree) if tree else None
    if tree is None or found is None or tree.ignored:
        return False
    expected = hdf5_kinds.with_h5py(path)
    assert set(found) == set(expected)
    for name, array in found.items():
        assert array.shape == expected[name].shape, name
        assert array.tobytes() == expected[name].astype(array.dtype).tobytes(), name
    return True


@pytest.mark.parametrize(("kind", "version"), FILES)
def test_an_undamaged_file_is_accepted(tmp_path: Path, kind: str, version: str) -> None:
    hdf5_kinds.written(tmp_path / "x.weights.h5", kind, version)
    assert agree(tmp_path / "x.weights.h5")


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], deadline=None)
@given(file=st.sampled_from(FILES), number=st.integers(0, 2**32))
def test_a_damaged_file_is_refused_or_read_as_h5py_reads_it(tmp_path: Path, file: tuple[str, str], number: int) -> None:
    path = tmp_path / "x.weights.h5"
    content = hdf5_kinds.written(path, *file)
    path.write_bytes(hdf5_kinds.damaged(content, Random(number)))
    agree(path)


@pytest.mark.parametrize(
    ("kind", "mark", "place"), [("nested", b"TREE", 16), ("chunked", b"TREE", 16), ("nested", b"HEAP", 31)]
)
def test_a_damaged_address_that_no_name_leads_to_is_refused(tmp_path: Path, kind: str, mark: bytes, place: int) -> None:
    path = tmp_path / "x.weights.h5"
    content = hdf5_kinds.written(path, kind, "earliest")
    starts = [start for start in range(len(content)) if content.startswith(mark, start)]
    assert len(starts) > 5
    for start in starts:
        damaged = bytearray(content)
        damaged[start + place] ^= 0xFF  # of the next node of the tree, or of the names in the heap of a group
        path.write_bytes(damaged)
        file = Hdf5File(Source.pin(path))
        assert file._usual() is None
        assert by_library(file) is None, start
