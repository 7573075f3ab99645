import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from keras3conv import formats
from keras3conv.errors import FileError
from keras3conv.writing import private_folders
from keras3conv.writing.outputs import replacing, replacing_all, replacing_folder, write_text
from tests.support import killing

ROOT = Path(__file__).resolve().parents[3]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def failing_after(monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    """Make only the rename with this number fail."""
    done = iter(range(1000))
    rename, replace = Path.rename, Path.replace

    def refuse() -> None:
        if next(done) == calls:
            raise OSError(5, "planted")

    def failing_rename(self: Path, target: Path) -> Path:
        refuse()
        return rename(self, target)

    def failing_replace(self: Path, target: Path) -> Path:
        refuse()
        return replace(self, target)

    monkeypatch.setattr(Path, "rename", failing_rename)
    monkeypatch.setattr(Path, "replace", failing_replace)


@pytest.mark.parametrize("failing", range(7))
def test_a_failure_at_any_rename_leaves_all_old_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    paths = [tmp_path / name for name in ("a", "b", "c", "index")]
    for path in paths[:3]:
        path.write_text("old")
    before = content(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(FileError, match=("planted")):  # noqa: PT012 - the block fails late
        failing_after(patch, failing)
        with replacing_all(paths, overwrite=True) as temporaries:
            for temporary in temporaries:
                temporary.write_text("new")
    assert content(tmp_path) == before


@pytest.mark.parametrize("killed", range(8))
def test_a_process_that_ends_at_any_rename_leaves_the_old_or_the_new_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: int
) -> None:
    paths = [tmp_path / name for name in ("a", "b", "c", "index")]
    for path in paths[:3]:
        path.write_text("old")
    before = content(tmp_path)
    child = os.fork()
    if not child:
        try:
            failing_after(monkeypatch, killed)
            monkeypatch.setattr(private_folders.PrivateFolder, "undo", lambda *_: os._exit(9))
            with replacing_all(paths, overwrite=True) as temporaries:
                for temporary in temporaries:
                    temporary.write_text("new")
            os._exit(0)
        finally:
            os._exit(1)  # else the child would run the other tests
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == (9 if killed < 7 else 0)
    write_text(tmp_path / "other", "next")
    (tmp_path / "other").unlink()
    assert content(tmp_path) == (before if killed < 7 else {path.name: b"new" for path in paths})


def test_what_a_running_process_writes_is_not_removed(tmp_path: Path) -> None:
    with replacing(tmp_path / "a") as first:
        first.write_text("a")
        write_text(tmp_path / "b", "b")
        other = first.parents[1].with_name(first.parents[1].name.replace(str(os.getpid()), str(os.getppid())))
        other.mkdir()
        write_text(tmp_path / "c", "c")
        assert other.is_dir()
        other.rmdir()
    assert names(tmp_path) == ["a", "b", "c"]


def test_the_temporary_folder_of_another_machine_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / ".k3c-00000000-1-0").mkdir()
    write_text(tmp_path / "a", "a")
    assert names(tmp_path) == [".k3c-00000000-1-0", "a"]


def test_the_mode_of_a_new_file_follows_the_umask(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "a")
        with replacing_folder(tmp_path / "folder") as inside:
            (inside / "b").write_text("b")
    finally:
        os.umask(mask)
    modes = [path.stat().st_mode & 0o777 for path in (tmp_path / "a", tmp_path / "folder", tmp_path / "folder" / "b")]
    assert modes == [0o640, 0o750, 0o640]


def test_a_link_is_refused_and_neither_it_nor_its_target_changes(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(FileError, match=r"link is a link to .*target"):
        write_text(tmp_path / "link", "new", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "old"


def test_a_folder_that_is_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_text(tmp_path / "link" / "a", "a")
    assert names(tmp_path / "real") == ["a"]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_without_permission_is_named_with_the_file(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(FileError, match=r"cannot write .*/a: Permission denied"):
        write_text(tmp_path / "a", "a")
    tmp_path.chmod(0o700)


def test_a_file_cannot_be_written_twice_in_one_go(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="a is given twice"), replacing_all([tmp_path / "a", tmp_path / "a"]):
        pass


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    for number in (1, 2):
        with replacing_folder(folder, overwrite=True) as inside:
            (inside / f"{number}").write_text("x")
    assert names(folder) == ["2"]
    failing_after(monkeypatch, 1)
    with pytest.raises(FileError, match=r"cannot write .*folder: planted"), replacing_folder(folder, overwrite=True):
        pass
    assert names(tmp_path) == ["folder"]
    assert names(folder) == ["2"]


def test_the_index_is_removed_first_and_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moves: list[str] = []
    set_aside, move_in = private_folders.PrivateFolder.set_aside, private_folders.PrivateFolder.move_in

    def noted_set_aside(private_folder: private_folders.PrivateFolder, name: str) -> None:
        moves.append(f"{name} away")
        set_aside(private_folder, name)

    def noted_move_in(private_folder: private_folders.PrivateFolder, name: str) -> None:
        moves.append(f"{name} in")
        move_in(private_folder, name)

    monkeypatch.setattr(private_folders.PrivateFolder, "set_aside", noted_set_aside)
    monkeypatch.setattr(private_folders.PrivateFolder, "move_in", noted_move_in)
    with replacing_all([tmp_path / "shard", tmp_path / "index"]) as temporaries:
        for temporary in temporaries:
            temporary.write_text("new")
    assert moves == ["index away", "shard away", "shard in", "index in"]


def run(folder: Path, value: float, *limit: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.support.killing", str(folder), str(value), *map(str, limit)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def values_in(folder: Path) -> Iterator[float]:
    """Yield the value that fills each output; fail if an output contains several values."""
    for name in ("model.safetensors.index.json", "model.weights.h5", "legacy.h5"):
        view = formats.read(folder / name)
        held = {float(value) for tensor in view.tensors() for value in np.unique(view.read(tensor.path))}
        assert len(held) == 1, held
        yield held.pop()
    for name in ("model.safetensors.index.json", "model.weights.h5", "legacy.h5"):
        yield float((folder / f"{name}.manifest.json").read_text().split()[1])


@pytest.mark.slow
def test_a_full_disk_leaves_the_old_files_and_nothing_else(tmp_path: Path) -> None:
    killing.write(tmp_path, 1.0)
    before = content(tmp_path)
    for limit in (0, 1, 100, 800, 2_000, 66_000, 70_000, 131_000, 140_000, 300_000):
        process = run(tmp_path, 2.0, limit)
        said = process.communicate()[0]
        assert process.returncode == 3, (limit, said)
        assert "cannot write" in said
        assert str(tmp_path) in said
        assert content(tmp_path) == before, limit
    process = run(tmp_path, 2.0, 1_000_000)
    assert process.communicate()[0] == "ready\n"
    assert set(values_in(tmp_path)) == {2.0}


def kill_at_random(folder: Path, times: int) -> None:
    killing.write(folder, 0.0)
    expected = names(folder)
    generator = random.Random(0)
    started = time.monotonic()
    undisturbed = run(folder, 0.0)
    undisturbed.communicate()
    longest = time.monotonic() - started
    for number in range(1, times + 1):
        process = run(folder, float(number))
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(generator.random() * longest / 4)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        write_text(folder / "next", "the next run cleans up", overwrite=True)
        (folder / "next").unlink()
        assert names(folder) == expected, number
        assert len(set(values_in(folder))) == 1, number


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_the_old_or_the_new_files(tmp_path: Path) -> None:
    kill_at_random(tmp_path, 8)


@pytest.mark.slow
@pytest.mark.full
def test_two_hundred_processes_that_are_killed_leave_the_old_or_the_new_files(tmp_path: Path) -> None:
    kill_at_random(tmp_path, 200)


def test_a_byte_that_changes_on_disk_is_detected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for suffix in (".safetensors", ".weights.h5", ".h5"):
        path = tmp_path / f"x{suffix}"
        write_text(path, "old")
        pwrite, lost = os.pwrite, iter([True])

        def losing(descriptor: int, block: memoryview, start: int, pwrite=pwrite, lost=lost) -> int:  # type: ignore[no-untyped-def]
            damaged = bytearray(block)
            damaged[-1] ^= next(lost, False)
            return int(pwrite(descriptor, damaged, start))

        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", losing)
            with pytest.raises(
                FileError, match=rf"x{suffix} was damaged while it was written: the tensor dense_0/kernel has different"
            ):
                formats.write(path, killing.TENSORS, lambda _: np.zeros((64, 257), np.float32), overwrite=True)
        assert path.read_text() == "old\n"
    assert len(names(tmp_path)) == 3


def test_a_commit_without_the_new_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"cannot write .*/a: No such file"), replacing(tmp_path / "a"):
        pass
    assert names(tmp_path) == []
