import zipfile
from pathlib import Path

import numpy as np
import pytest

from keras3conv import formats
from keras3conv.errors import BudgetExceeded, FileError, IncompleteCheckpoint, MalformedCheckpoint, UnsafeCheckpoint
from tests.support.hdf5_files import archive


def test_the_architecture_in_an_archive_gives_order_configuration_and_inputs(tmp_path: Path) -> None:
    view = formats.read(archive(tmp_path))
    head = view.layers[1]
    assert (head.path, head.run.calls, head.config) == ("head", (1,), {"name": "head", "units": 3})
    assert view.input_specs[0].shape == (None, 4)
    assert view.facts["written by Keras"] == "3.9.0"
    assert view.read("head/bias").tolist() == [0, 1, 2]


def test_a_compressed_archive_is_read_from_memory(tmp_path: Path) -> None:
    path = archive(tmp_path)
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(tmp_path / "y.keras", "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    assert formats.read(tmp_path / "y.keras").read("head/bias").tolist() == [0, 1, 2]


def test_a_damaged_archive_is_detected_by_its_crc(tmp_path: Path) -> None:
    path = archive(tmp_path)
    whole = bytearray(path.read_bytes())
    place = whole.index(np.arange(12, dtype=np.float32).tobytes())
    whole[place] ^= 1
    path.write_bytes(whole)
    view = formats.read(path)
    with pytest.raises(MalformedCheckpoint, match=r"the CRC of .* does not match"):
        view.read("head/bias")


OUTSIDE = ["../../evil", "/evil", "C:/evil", "a\\..\\evil"]


def with_member(path: Path, name: str) -> Path:
    """Add a member to an archive; return its path."""
    with zipfile.ZipFile(path, "a") as target:
        target.writestr(name, b"x")
    return path


@pytest.mark.parametrize("name", OUTSIDE)
def test_reading_extracts_no_member_whatever_its_name(tmp_path: Path, name: str) -> None:
    path = with_member(archive(tmp_path), name)
    assert formats.read(path).read("head/bias").tolist() == [0, 1, 2]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", OUTSIDE)
def test_an_archive_is_not_rewritten_with_a_member_that_would_be_extracted_outside(tmp_path: Path, name: str) -> None:
    path = with_member(archive(tmp_path), name)
    view = formats.read(path)
    with pytest.raises(UnsafeCheckpoint, match="would be extracted outside of its folder"):
        formats.write(tmp_path / "new.keras", tuple(view.tensors()), view.read, template=path)
    assert list(tmp_path.iterdir()) == [path]


def test_an_encrypted_member_is_unsafe(tmp_path: Path) -> None:
    path = archive(tmp_path)
    whole = bytearray(path.read_bytes())
    whole[whole.index(b"PK\1\2") + 8] |= 1  # the flags in the central directory
    path.write_bytes(whole)
    with pytest.raises(UnsafeCheckpoint, match="is encrypted"):
        formats.read(path)


def test_a_nul_in_the_name_of_a_member_is_malformed(tmp_path: Path) -> None:
    path = with_member(archive(tmp_path), "config.jsonQ")
    path.write_bytes(path.read_bytes().replace(b"config.jsonQ", b"config.json\0"))
    with pytest.raises(MalformedCheckpoint, match="contains a NUL character"):
        formats.read(path)


def test_two_members_with_one_name_are_malformed(tmp_path: Path) -> None:
    path = archive(tmp_path)
    with zipfile.ZipFile(path, "a") as target, pytest.warns(UserWarning, match="Duplicate name"):
        target.writestr("model.weights.h5", b"other")
    with pytest.raises(MalformedCheckpoint, match="two members"):
        formats.read(path)


HDF5_START = b"\x89HDF\r\n\x1a\n" + bytes([0, 0, 0, 0, 0, 8, 8, 0]) + bytes(24) + (100).to_bytes(8, "little")
"""The first block of an HDF5 file that declares a length of 100 bytes."""


def test_an_inflating_member_is_refused_by_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keras3conv.formats.keras.archive.MAX_INFLATED", 1 << 16)
    path = tmp_path / "x.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("config.json", b'{"class_name": "M", "config": {}}')
        target.writestr("model.weights.h5", bytes(1 << 20))
    with pytest.raises(BudgetExceeded, match="declares 1,048,576 bytes"):
        formats.read(path)


def test_an_inflating_member_that_declares_less_is_stopped(tmp_path: Path) -> None:
    path = tmp_path / "x.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("config.json", b'{"class_name": "M", "config": {}}')
        target.writestr("model.weights.h5", HDF5_START + bytes((1 << 20) - len(HDF5_START)))
    whole = path.read_bytes()
    path.write_bytes(whole.replace((1 << 20).to_bytes(4, "little"), (100).to_bytes(4, "little")))
    with pytest.raises(BudgetExceeded, match="contains more than the declared 100 bytes"):
        formats.read(path)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_keras_writes_and_json_does_not_have_are_read(tmp_path: Path, number: str) -> None:
    layer = f'{{"class_name": "Pad", "module": "keras.ops", "config": {{"name": "pad", "value": {number}}}}}'
    config = f'{{"class_name": "Sequential", "module": "keras", "config": {{"name": "net", "layers": [{layer}]}}}}'
    (pad, *_) = formats.read(archive(tmp_path, config=config.encode())).layers
    assert pad.config is not None
    assert np.array_equal(pad.config["value"], float(number), equal_nan=True)


@pytest.mark.parametrize(
    "config",
    [
        b"[" * 200_000,
        b'{"class_name": "M", "config": {"a": 1e999}}',
        b'{"class_name": "M", "class_name": "N", "config": {}}',
        b'{"class_name": "M", "config": {"a": ' + b"1" * 5000 + b"}}",
        b"[]",
        b'{"class_name": "Sequential", "config": {"layers": [1]}}',
    ],
)
def test_an_architecture_that_is_not_plain_json_is_malformed(tmp_path: Path, config: bytes) -> None:
    with pytest.raises(MalformedCheckpoint):
        formats.read(archive(tmp_path, config=config))


def test_an_archive_without_weights_is_incomplete(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.keras", "w") as target:
        target.writestr("config.json", b"{}")
    with pytest.raises(IncompleteCheckpoint, match=r"no model\.weights\.h5"):
        formats.read(tmp_path / "x.keras")


def test_a_keras_archive_needs_a_template(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="can be written only with the live model"):
        formats.write(tmp_path / "new.keras", [], lambda _: np.zeros(1))
