"""A truncated file is refused; a file with a changed byte is refused, or read as by the library of its format."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from keras3conv import formats
from keras3conv.errors import FileError
from keras3conv.formats.safe import npy
from tests.support import good_files

Values = Mapping[str, np.ndarray[Any, Any]]
SAMPLES = 40

SWEEPS = [pytest.param(SAMPLES, id="sampled"), pytest.param(0, id="every byte", marks=pytest.mark.full)]


def with_safetensors(path: Path) -> Values:
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        return {name: file.get_tensor(name) for name in file.keys() if name != "a.bias"}  # noqa: SIM118


def with_h5py(path: Path) -> Values:
    found: dict[str, np.ndarray[Any, Any]] = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, node: found.update({name: node[()]}) if isinstance(node, h5py.Dataset) else None)
    return found


def with_numpy(path: Path) -> Values:
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def arrays(folder: Path) -> Path:
    np.savez(folder / "x.npz", a=np.arange(3.0), b=np.arange(4))
    return folder / "x.npz"


LIBRARIES: dict[str, Callable[[Path], Values]] = {
    "safetensors": with_safetensors,
    "weights.h5": with_h5py,
    "legacy h5": with_h5py,
    "npz": with_numpy,
}
"""The libraries that need no framework. torch reads the same files in tests/torch_backend/formats."""

BUILDERS = {name: build for name, build in good_files.BUILDERS.items() if name != "index"} | {"npz": arrays}


def ours(path: Path) -> Values:
    """Return the values by their names in the file."""
    if path.suffix == ".npz":
        found = npy.read(path)
        assert isinstance(found, dict)
        return found
    view = formats.read(path)
    return {tensor.location: view.read(tensor.path) for tensor in view.tensors()}


def places(size: int, samples: int) -> Iterator[int]:
    """Yield positions in a file: all of them, or a sample at distances that are not powers of two."""
    return iter(range(0, size, size // samples | 1 if samples else 1))


def same(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    return one.shape == other.shape and one.astype(one.dtype.newbyteorder("=")).tobytes() == (
        other.astype(one.dtype.newbyteorder("="), copy=False).tobytes()
    )


@pytest.mark.parametrize("samples", SWEEPS)
@pytest.mark.parametrize("name", BUILDERS)
def test_a_truncated_file_of_any_format_is_refused(tmp_path: Path, name: str, samples: int) -> None:
    path = BUILDERS[name](tmp_path)
    whole = path.read_bytes()
    assert ours(path)
    for length in places(len(whole), samples):
        path.write_bytes(whole[:length])
        with pytest.raises(FileError):
            ours(path)


@pytest.mark.parametrize("samples", SWEEPS)
@pytest.mark.parametrize("name", BUILDERS)
def test_a_changed_byte_is_refused_or_read_as_the_library_reads_it(tmp_path: Path, name: str, samples: int) -> None:
    path = BUILDERS[name](tmp_path)
    whole = path.read_bytes()
    original = ours(path)
    accepted = 0
    for place in places(len(whole), samples):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            found = ours(path)
        except FileError:
            continue
        accepted += 1
        expected = LIBRARIES[name](path) if name in LIBRARIES else original
        for tensor, values in found.items():
            if tensor in expected and name != "torch before 1.6":  # which has no checksum
                assert same(values, expected[tensor]), (place, tensor)
    if name in ("weights.h5", "legacy h5"):
        assert accepted, "most bytes of these files are unused"
