"""An HDF5 file of the usual form is inspected without the HDF5 library, with the result that the library gives."""

import mmap
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from keras3conv import formats
from keras3conv.errors import BudgetExceeded, FileError
from keras3conv.formats.safe.hdf5_image import Image, UnusualError, distinct, first_and_group
from keras3conv.formats.safe.hdf5_reader import Hdf5File
from keras3conv.formats.safe.hdf5_tree import Tree
from keras3conv.formats.safe.source import Source
from keras3conv.model.views import TensorRef
from tests.support import bad_hdf5_files as bad
from tests.support.hdf5_files import KERNEL, dense, legacy, weights

Build = Callable[[h5py.File], None]


def usual(path: Path) -> Tree | None:
    return Hdf5File(Source.pin(path))._usual()


def by_library(path: Path) -> Tree | None:
    try:
        return Hdf5File(Source.pin(path))._inspected()
    except FileError:
        return None


def built(folder: Path, build: Build) -> Path:
    path = folder / "x.weights.h5"
    with h5py.File(path, "w") as file:
        build(file)
    return path


def layers(count: int) -> Build:
    """Return a builder of a file with many layers, in an order that is not that of their names."""

    def build(file: h5py.File) -> None:
        for place in random.Random(0).sample(range(count), count):
            values = file.create_group(f"layers/dense_{place}/vars")
            values.attrs["name"] = f"layer of the model {'x' * (place % 70)} {place}"
            for number in range(place % 4):
                values.create_dataset(str(number), data=np.full((number, place % 7), place, "f4"))

    return build


def dtypes(file: h5py.File) -> None:
    group = file.create_group("layers/dense/vars")
    for place, dtype in enumerate(
        ["f2", "f4", "f8", ">f2", ">f4", ">f8", "i1", "u1", "i2", ">i2", "u2", "i4", "u4", ">u4", "i8", "u8", ">i8"]
    ):
        group[str(place)] = np.arange(6).reshape(2, 3).astype(dtype)
    group["17"] = np.float32(3)
    group["18"] = np.zeros((0, 4))
    group["19"] = np.zeros((2, 3), "V2")
    group["19"].attrs["dtype"] = "bfloat16"
    group["20"] = np.zeros(3, "f4")
    group["20"].attrs["dtype"] = "float32"


def texts(file: h5py.File) -> None:
    dense(file)
    file.attrs["backend"] = np.bytes_("tensorflow")
    file.attrs["keras_version"] = "3.11.3"
    file.attrs["model_config"] = '{"a": "ü"}' * 20
    file.attrs["training_config"] = "not read"
    file["layers"].attrs["weight_names"] = np.array([b"kernel:0", b"b"])
    file["layers/dense"].attrs["weight_names"] = np.array([])
    file["layers/dense"].attrs["layer_names"] = ["eins", "zwei", "dr€i"]


def long_text(file: h5py.File) -> None:
    dense(file)
    file.attrs["model_config"] = "ü" * 20_000


def several_names(file: h5py.File) -> None:
    dense(file)
    file["layers/dense_1/vars/0"] = file[KERNEL]
    file["a"] = file[KERNEL]


def states(file: h5py.File) -> None:
    dense(file)
    file["optimizer/vars/0"] = np.zeros(3, "i4")
    file["optimizer/vars/1"] = h5py.SoftLink("/nothing")


def removed(file: h5py.File) -> None:
    layers(300)(file)
    for place in range(0, 300, 7):
        del file[f"layers/dense_{place}"]
    layers(40)(file.create_group("more"))


def long_names(file: h5py.File) -> None:
    for length in (62, 63, 64, 65, 200, 2000):
        file[f"layers/{'e' * length}/vars/0"] = np.zeros(2)


def old_objects(file: h5py.File) -> None:
    file.create_dataset("layers/dense/vars/0", data=np.zeros(3), track_times=True)


def equal_layers(file: h5py.File) -> None:
    for place in range(300):
        values = file.create_group(f"layers/dense_{place}/vars")
        values.attrs["name"] = f"d{place}"
        values["0"] = np.full(3, place, "f4")


USUAL: dict[str, Build] = {
    "one layer": dense,
    "layers of one variable each": equal_layers,
    "no layer": lambda file: None,
    "groups without members": lambda file: file.create_group("a/b/c") and None,
    "1,000 layers": layers(1000),
    "dtypes": dtypes,
    "texts": texts,
    "a long text": long_text,
    "several names of a dataset": several_names,
    "states of an optimizer": states,
    "long names": long_names,
    "times": old_objects,
    "deep": lambda file: file.create_group("/".join("a" * 60)) and None,
}


def newest(folder: Path) -> Path:
    path = folder / "x.weights.h5"
    with h5py.File(path, "w", libver="latest") as file:
        dense(file)
    return path


UNUSUAL: dict[str, Callable[[Path], Path]] = {
    "the newest version of HDF5": newest,
    "a group for names that are not ASCII": bad.planted(lambda file: file.create_group("é").create_group("ü")),
    "chunks": bad.planted(bad.dataset(4, 3, chunks=(2, 3), first=4)),
    "values in another file": bad.planted(bad.dataset(4, 3, external=[("../secret.bin", 0, 48)])),
    "a link": bad.planted(bad.link(h5py.SoftLink("/layers/dense/vars/1"))),
    "a link to another file": bad.planted(bad.link(h5py.ExternalLink("../other.h5", "/x"))),
    "a virtual dataset": bad.planted(bad.virtual(".")),
    "a dataset that was never written": bad.planted(bad.dataset(4, 3)),
    "a fill value": bad.planted(bad.dataset(4, 3, fillvalue=7, first=4)),
    "texts as values": bad.planted(bad.variable_text),
    "truth values": bad.planted(bad.of("?")),
    "complex numbers": bad.planted(bad.of("c8")),
    "a wrong mark": bad.planted(bad.of("f4", "bfloat16")),
    "no mark": bad.planted(bad.of("V2")),
    "a type in place of a dataset": bad.planted(bad.link(np.dtype("f4"))),
    "groups in a circle": bad.planted(bad.group_cycle),
    "a name of numbers": bad.planted(bad.name_of_numbers),
    "a name that is not text": bad.planted(bad.named(b"\xff")),
    "a long name": bad.planted(bad.long_name(3000)),
    "many attributes": bad.planted(bad.other_attributes),
    "deep groups": bad.planted(bad.deep),
    "no values": bad.planted(bad.link(h5py.Empty("f4"))),
    "a locked file": bad.locked,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", USUAL)
def test_the_result_is_that_of_the_library(tmp_path: Path, name: str) -> None:
    path = built(tmp_path, USUAL[name])
    tree = usual(path)
    assert tree is not None
    assert tree == by_library(path)
    assert list(tree.groups[""]) == sorted(tree.groups[""])


@pytest.mark.slow
def test_a_file_from_which_groups_were_removed_has_the_same_result(tmp_path: Path) -> None:
    path = built(tmp_path, removed)
    assert usual(path) in (None, by_library(path))
    assert len(formats.read(path).layers) == 340 - 43


def test_legacy_files_have_the_same_result(tmp_path: Path) -> None:
    path = legacy(tmp_path, dense=["dense/kernel:0", "dense/bias:0"], empty=[])
    assert usual(path) == by_library(path) is not None


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".weights.h5", ".h5"])
def test_files_that_are_written_here_are_usual(tmp_path: Path, suffix: str) -> None:
    tensors = [
        TensorRef(path=f"l{place}/kernel", role="kernel", shape=(place % 5,), location=f"layers/dense_{place}/vars/0")
        for place in range(300)
    ]
    formats.write(tmp_path / f"x{suffix}", tensors, lambda path: np.zeros(int(path[1:-7]) % 5, np.float32))
    assert usual(tmp_path / f"x{suffix}") == by_library(tmp_path / f"x{suffix}") is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", UNUSUAL)
def test_other_files_are_left_to_the_library(tmp_path: Path, name: str) -> None:
    (tmp_path / "own").mkdir()
    assert usual(UNUSUAL[name](tmp_path / "own")) is None


def test_an_object_without_messages_is_left_to_the_library(tmp_path: Path) -> None:
    path = built(tmp_path, dense)
    content = bytearray(path.read_bytes())
    header = int.from_bytes(content[64:72], "little")  # of the root group
    content[header + 8 : header + 12] = bytes(4)
    path.write_bytes(content)
    assert usual(path) is None


@pytest.mark.slow
def test_many_names_of_few_values_are_refused(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    with pytest.raises(BudgetExceeded, match="share the same few stored values"):
        usual(bad.planted(bad.many_aliases)(tmp_path / "own"))


def changes(whole: bytes, samples: int) -> Iterator[bytes]:
    """Yield the content with one byte changed, in two ways each: every byte that is not among zeros, or a sample."""
    for place, byte in enumerate(whole):
        if place % (len(whole) // samples | 1) == 0 if samples else any(whole[max(0, place - 7) : place + 8]):
            for change in (0xFF, 1):
                yield whole[:place] + bytes([byte ^ change]) + whole[place + 1 :]


SWEEPS = [pytest.param(20, id="sampled"), pytest.param(0, id="every byte", marks=pytest.mark.full)]


@pytest.mark.slow
@pytest.mark.parametrize("samples", SWEEPS)
@pytest.mark.parametrize("build", [texts, several_names, layers(9), dtypes])
def test_a_changed_byte_is_unusual_or_read_as_the_library_reads_it(tmp_path: Path, samples: int, build: Build) -> None:
    path = built(tmp_path, build)
    whole = path.read_bytes()
    accepted = 0
    for content in changes(whole, samples):
        path.write_bytes(content)
        if (tree := usual(path)) is not None:
            accepted += 1
            assert tree == by_library(path), [place for place, byte in enumerate(whole) if content[place] != byte]
    assert accepted, "most bytes are values or unused"


def test_only_pages_with_descriptions_are_read(tmp_path: Path) -> None:
    path = weights(tmp_path)
    with h5py.File(path, "r+") as file:
        file["layers/dense/vars/2"] = np.zeros(1 << 22, np.uint8)
        file["layers/dense_1/vars/0"] = np.zeros(1 << 22, np.uint8)
    source, read = Source.pin(path), []
    original = Source.read_into

    def counted(self: Source, file: object, offset: int, view: memoryview) -> None:
        read.append(len(view))
        original(self, file, offset, view)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Source, "read_into", counted)
        assert Hdf5File(source)._usual() is not None
    assert sum(read) < 1 << 16


@pytest.mark.parametrize(("start", "length"), [(-1, 1), (99, 2), (101, 0), (0, 101), (1 << 62, 1 << 62)])
def test_nothing_outside_of_the_file_is_read(start: int, length: int) -> None:
    image = Image(lambda _start, _buffer: pytest.fail("nothing is read"), 100)
    with pytest.raises(UnusualError):
        image.need(np.array([start]), length)


def image_of(content: bytearray) -> tuple[Image, list[int]]:
    """Return the image of a file in memory, and a list that gets the number of bytes of each call that reads it."""
    read: list[int] = []

    def read_into(start: int, buffer: memoryview) -> None:
        read.append(len(buffer))
        buffer[:] = content[start : start + len(buffer)]

    return Image(read_into, len(content)), read


SIZE = (9 << 20) + 5
"""More than one part of a file for which large pages of memory are used, and no multiple of a page."""


def test_pages_close_to_each_other_are_read_in_one_call_and_hold_the_bytes_of_the_file() -> None:
    content = bytearray(np.random.default_rng(0).bytes(SIZE))
    image, read = image_of(content)
    image.need(np.array([5 << 20]), 8)
    starts = np.append(np.arange(0, SIZE - 8, 8192), SIZE - 8)
    image.need(starts, 8)
    assert read == [4096, SIZE]
    assert image.rows(starts, 8) == [bytes(content[start : start + 8]) for start in starts.tolist()]
    assert image.rows(np.array([5 << 20]), 8) == [bytes(content[5 << 20 : (5 << 20) + 8])]


def test_a_page_that_changed_before_it_was_read_again_is_noticed() -> None:
    content = bytearray(SIZE)
    image, _ = image_of(content)
    image.need(np.array([5 << 20]), 8)
    content[(5 << 20) + 4000] = 1
    with pytest.raises(UnusualError):
        image.need(np.arange(0, SIZE - 8, 8192), 8)


@pytest.mark.parametrize("numbers", [[], [3], [3, 3, 3], [2, 1, 2, 7, 1], [-1, 5, -1]])
def test_different_numbers_and_groups_of_equal_numbers_are_those_of_numpy(numbers: list[int]) -> None:
    array = np.array(numbers, np.int64)
    assert distinct(array).tolist() == np.unique(array).tolist()
    _, first, group = np.unique(array, return_index=True, return_inverse=True)
    assert [part.tolist() for part in first_and_group(array)] == [first.tolist(), group.tolist()]


def test_memory_is_emptied_only_where_a_page_of_the_system_is_a_page_of_the_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = bytearray(np.random.default_rng(0).bytes(SIZE))
    image, read = image_of(content)
    monkeypatch.setattr(mmap, "PAGESIZE", 1 << 16)
    monkeypatch.setattr(image, "_memory", memoryview(image._memory))  # which cannot be emptied
    image.need(np.arange(0, SIZE - 8, 8192), 8)
    assert len(read) == 1
