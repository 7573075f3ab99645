import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from keras3conv import formats
from keras3conv.errors import FileError, MalformedCheckpoint
from keras3conv.model.views import TensorRef
from keras3conv.transforms import Array

SUFFIXES = [".safetensors", ".weights.h5", ".h5"]
TENSORS = [
    TensorRef(path=f"{name}/kernel", role="kernel", shape=(2, 3), location=f"layers/{name}/vars/0")
    for name in ("dense", "dense_1", "dense_2")
]


def values(path: str) -> Array:
    return np.full((2, 3), len(path), np.float32)


@pytest.mark.parametrize("error", [RuntimeError, OSError, KeyboardInterrupt, ValueError, TypeError])
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("failing", range(3))
def test_a_failed_write_leaves_the_old_file_untouched(
    tmp_path: Path, suffix: str, failing: int, error: type[BaseException]
) -> None:
    path = tmp_path / f"x{suffix}"
    formats.write(path, TENSORS, values)
    before = path.read_bytes()

    def fails(name: str) -> Array:
        if name == TENSORS[failing].path:
            raise error("planted")
        return values(name)

    with pytest.raises((error, FileError), match="planted"):
        formats.write(path, TENSORS, fails, overwrite=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_tensors_give_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    first = formats.write(tmp_path / f"a{suffix}", TENSORS, values)
    second = formats.write(tmp_path / f"b{suffix}", TENSORS, values)
    assert first.sha256 == second.sha256
    assert (first.size, first.md5) == (second.size, second.md5)
    assert first.size == (tmp_path / f"a{suffix}").stat().st_size


def test_an_existing_file_is_replaced_only_with_overwrite(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(FileError, match="overwrite=True"):
        formats.write(path, TENSORS, values)
    assert path.read_bytes() == b"old"
    formats.write(path, TENSORS, values, overwrite=True)
    assert path.read_bytes() != b"old"


def test_a_new_file_has_the_default_mode_and_an_old_one_keeps_its_mode(tmp_path: Path) -> None:
    new, old = tmp_path / "new.h5", tmp_path / "old.h5"
    old.write_bytes(b"old")
    old.chmod(0o640)
    mask = os.umask(0o027)
    try:
        formats.write(new, TENSORS, values)
        formats.write(old, TENSORS, values, overwrite=True)
    finally:
        os.umask(mask)
    assert [path.stat().st_mode & 0o777 for path in (new, old)] == [0o640, 0o640]


def test_the_file_is_flushed_to_disk_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(descriptor: int) -> None:
        calls.append("fsync")
        fsync(descriptor)

    def noted_replace(self: Path, target: Path) -> Path:
        calls.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    with formats.replacing(tmp_path / "x") as temporary:
        temporary.write_bytes(b"new")
        calls.append("written")
    assert calls == ["written", "fsync", "rename", "fsync"]


def test_a_failed_flush_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(5, "planted")

    path = tmp_path / "x.safetensors"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(FileError, match="is unchanged"):
        formats.write(path, TENSORS, values, overwrite=True)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_links_folders_and_missing_folders_are_refused_as_destinations(tmp_path: Path) -> None:
    (tmp_path / "folder.h5").mkdir()
    (tmp_path / "link.h5").symlink_to(tmp_path / "other.h5")
    for name, message in [
        ("folder.h5", "not a regular file"),
        ("link.h5", "is a link"),
        ("none/x.h5", "none does not exist"),
    ]:
        with pytest.raises(FileError, match=message):
            formats.write(tmp_path / name, TENSORS, values, overwrite=True)


def test_an_array_that_differs_from_its_declaration_is_refused(tmp_path: Path) -> None:
    for wrong in (np.zeros((3, 2), np.float32), np.zeros((2, 3), np.float64)):
        with pytest.raises(FileError, match=r"dense/kernel was declared as float32 of shape \(2, 3\)"):
            formats.write(tmp_path / "x.safetensors", TENSORS, lambda _, wrong=wrong: wrong)
    assert list(tmp_path.iterdir()) == []


def test_two_tensors_with_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="two tensors have the name 'dense/kernel'"):
        formats.write(tmp_path / "x.safetensors", [TENSORS[0], TENSORS[0]], values)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.txt", b"x", r"unknown suffix; the known ones are .*\.safetensors"),
        ("x.pt", b"\x89HDF\r\n\x1a\n" + bytes(100), "contains HDF5, but its suffix is that of a torch checkpoint"),
        ("x.h5", b"PK\3\4" + bytes(100), "contains a zip archive, but its suffix is that of HDF5"),
        ("x.weights.h5", b"PK\3\4" + b"archive/data.pkl", "contains a torch checkpoint, .*; name it x.pt"),
        ("x.h5", b"PK\3\4" + b"config.json", "contains a Keras archive, .*; name it x.keras"),
        ("x.h5", (20).to_bytes(8, "little") + b'{"a":1}', "contains safetensors"),
        ("x.safetensors", b"\x89HDF\r\n\x1a\n" + bytes(100), "contains HDF5"),
        ("x.keras", b"PK\3\4" + b"archive/data.pkl", "contains a torch checkpoint"),
        ("x.pt", b"PK\3\4" + b"config.json", "contains a Keras archive"),
        ("x.pt", b"hello", "is not a torch checkpoint, nor any other"),
        ("x.h5", b"#!/bin/sh".ljust(512, b"\0") + b"\x89HDF\r\n\x1a\n", "nor any other"),
    ],
)
def test_content_that_does_not_match_the_suffix_is_refused(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FileError, match=message):
        formats.read(tmp_path / name)


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".pt", ".keras", ".safetensors.index.json"])
def test_missing_empty_and_irregular_files_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    with pytest.raises(FileError, match="cannot be read: No such file"):
        formats.read(path)
    path.touch()
    with pytest.raises(MalformedCheckpoint, match="is empty"):
        formats.read(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(FileError, match="not a regular file"):
        formats.read(path)


def test_the_suffix_determines_the_framework() -> None:
    assert [formats.side_of(f"a/b.{suffix}") for suffix in ("pt", "pth", "safetensors")] == ["torch"] * 3
    assert [formats.side_of(f"a/B.{suffix}") for suffix in ("h5", "weights.h5", "KERAS")] == ["keras"] * 3
    with pytest.raises(FileError, match="unknown suffix"):
        formats.side_of("x.tflite")


@pytest.mark.parametrize("size", [None, 30])
def test_the_names_of_keras_layers_come_back(tmp_path: Path, size: int | None) -> None:
    named = [replace(tensor, path=f"outer{place}/{tensor.path}") for place, tensor in enumerate(TENSORS)]
    tensors = [replace(one, location=f"layers/functional{place}/{one.location}") for place, one in enumerate(named)]
    written = formats.write(tmp_path / "x.weights.h5", tensors, values_of_any_name, max_shard_size=size)
    layers = {tensor.path.rpartition("/")[0] for tensor in formats.read(written.path).tensors()}
    assert layers == {"outer0/dense", "outer1/dense_1", "outer2/dense_2"}


def values_of_any_name(_path: str) -> Array:
    return np.zeros((2, 3), np.float32)
