"""`.npz` and `.npy` files that are damaged or hostile are refused before their arrays are allocated."""

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from keras3conv.errors import BudgetExceeded, FileError, InputError, MalformedCheckpoint
from keras3conv.formats.safe import npy
from keras3conv.workflows.files import read_inputs
from tests.support import guarded
from tests.support.guarded import Case, Outcome


def header(shape: str = "(2,)", descr: str = "<f4", order: str = "False", more: str = "") -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, {more}}}".encode()
    return b"\x93NUMPY\1\0" + (len(text) + 1).to_bytes(2, "little") + text + b"\n"


def single(content: bytes) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        (folder / "x.npy").write_bytes(content)
        return folder / "x.npy"

    return build


def several(compression: int = zipfile.ZIP_STORED, **members: bytes) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        with zipfile.ZipFile(folder / "x.npz", "w", compression) as target:
            for name, content in members.items():
                target.writestr(f"{name}.npy", content)
        return folder / "x.npz"

    return build


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "x.npz")
    return folder / "x.npz"


def objects() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([print], object), allow_pickle=True)
    return buffer.getvalue()


def flipped(folder: Path) -> Path:
    path = several(x=header() + b"abcdefgh")(folder)
    content = bytearray(path.read_bytes())
    content[content.index(b"abcdefgh")] ^= 1
    path.write_bytes(content)
    return path


CASES = {
    "a named pipe": Case(build=pipe, error=FileError, says="not a regular file"),
    "a pickle": Case(build=single(pickle.dumps(print)), error=MalformedCheckpoint, says="contains no arrays"),
    "an array of objects": Case(
        build=several(x=objects()), error=MalformedCheckpoint, says=r"'x\.npy' contains no arrays"
    ),
    "an array of objects alone": Case(build=single(objects()), error=MalformedCheckpoint, says="no arrays of numbers"),
    "an array larger than memory": Case(
        build=single(header(f"({2**50},)") + bytes(8)), error=MalformedCheckpoint, says="cannot have the shape"
    ),
    "an array larger than memory in an archive": Case(
        build=several(x=header(f"({2**39}, {2**39})") + bytes(8)), error=MalformedCheckpoint, says=r"'x\.npy' declares"
    ),
    "a compressed array of 2 GB": Case(
        build=several(zipfile.ZIP_DEFLATED, x=header(f"({1 << 27},)") + bytes(64 << 20)), error=MalformedCheckpoint
    ),
    "a header of a thousand brackets": Case(build=single(header("(" * 1000)), error=MalformedCheckpoint),
    "a header of 60,000 brackets": Case(build=single(header("(" * 60_000)), error=MalformedCheckpoint),
    "a negative size": Case(build=single(header("(-2,)") + bytes(8)), error=MalformedCheckpoint),
    "a size with a point": Case(build=single(header("(2.0,)") + bytes(8)), error=MalformedCheckpoint),
    "too few bytes": Case(
        build=single(header() + bytes(7)),
        error=MalformedCheckpoint,
        says=("declares an array of 8 bytes, but contains 7"),
    ),
    "too many bytes": Case(
        build=single(header() + bytes(9)), error=MalformedCheckpoint, says="declares an array of 8 bytes"
    ),
    "40 axes": Case(
        build=single(header("(" + "1, " * 40 + ")")), error=MalformedCheckpoint, says="cannot have the shape"
    ),
    "a dtype of fields": Case(build=single(header(descr="a', 'b")), error=MalformedCheckpoint),
    "a long double": Case(build=single(header(descr="<f16") + bytes(32)), error=MalformedCheckpoint, says="f16"),
    "an unknown version": Case(build=single(b"\x93NUMPY\x09\0" + bytes(20)), error=MalformedCheckpoint),
    "only the first bytes": Case(build=single(b"\x93NUMPY"), error=MalformedCheckpoint),
    "an archive of something else": Case(
        build=lambda folder: zipped(folder, "evil.txt"), error=MalformedCheckpoint, says=r"it has 'evil\.txt'"
    ),
    "an archive of nothing": Case(build=several(), error=MalformedCheckpoint, says="nothing"),
    "a flipped bit": Case(build=flipped, error=MalformedCheckpoint, says="CRC"),
    "an empty file": Case(build=single(b""), error=MalformedCheckpoint, says="is empty"),
}
CASES = {name: Case(build=case.build, error=case.error, says=case.says, use=npy.read) for name, case in CASES.items()}


def zipped(folder: Path, name: str) -> Path:
    with zipfile.ZipFile(folder / "x.npz", "w") as target:
        target.writestr(name, b"x")
    return folder / "x.npz"


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    return guarded.outcomes(__name__)


@pytest.mark.parametrize("case", CASES)
def test_a_bad_file_is_refused_without_side_effects(case: str, outcomes: dict[str, Outcome]) -> None:
    guarded.check(CASES[case], outcomes[case])


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["?", "i1", "u2", ">i4", "f2", "<f4", ">f8", "c8"])
def test_arrays_are_read_as_numpy_reads_them(tmp_path: Path, dtype: str, compressed: bool) -> None:
    array = np.arange(6).reshape(2, 3).astype(dtype)
    arrays = {"a": array, "b": np.asfortranarray(array), "c": array[0, 0], "d": array[:0]}
    (np.savez_compressed if compressed else np.savez)(tmp_path / "x.npz", **arrays)
    found = npy.read(tmp_path / "x.npz")
    assert isinstance(found, dict)
    for name, value in arrays.items():
        assert found[name].dtype == np.dtype(dtype).newbyteorder("=")
        assert found[name].shape == np.shape(value)
        np.testing.assert_array_equal(found[name], value)


def test_a_single_array_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(3))
    assert read_inputs(tmp_path / "x.npy").tolist() == [0, 1, 2]


def test_inputs_that_are_not_arrays_are_an_error_with_the_fix(tmp_path: Path) -> None:
    path = several(x=objects())(tmp_path)
    with pytest.raises(InputError, match=r"no arrays of numbers(.|\n)*Fix:  numpy\.savez"):
        read_inputs(path)


def test_a_compressed_array_beyond_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npy, "MAX_INFLATED", 100)
    np.savez_compressed(tmp_path / "x.npz", np.zeros(1000))
    with pytest.raises(BudgetExceeded, match=r"Save it without compression, with numpy\.savez"):
        npy.read(tmp_path / "x.npz")
