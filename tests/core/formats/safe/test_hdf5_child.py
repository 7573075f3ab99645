"""If the process that reads HDF5 crashes, hangs or uses too much memory, the file is refused and the next one read."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from keras3conv import formats
from keras3conv.errors import MalformedCheckpoint
from keras3conv.formats.safe import hdf5_child, hdf5_reader
from tests.support.hdf5_files import KERNEL, weights


def chunked(folder: Path) -> Path:
    """Return a file that only the library reads."""
    values = np.zeros((4, 3), np.float32)
    return weights(folder, lambda file: file.create_dataset(KERNEL, data=values, chunks=(2, 3)))


def started(program: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", program]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("program", "says"),
    [
        (
            "import os, sys; sys.stdin.readline(); os.kill(os.getpid(), 11)",
            "the HDF5 library crashed while it read the file",
        ),
        (
            "import os, sys; sys.stdin.readline(); os.kill(os.getpid(), 24)",
            "the HDF5 library did not finish within its time limit",
        ),
        ("import sys; sys.stdin.readline(); sys.stdout.write('{\"bytes\": 9}\\nabc')", "ended with the status 0"),
        ("import sys; sys.exit(7)", "ended with the status 7"),
    ],
)
def test_a_crash_is_an_error_of_the_file_and_the_next_file_is_read(
    tmp_path: Path, program: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = chunked(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(hdf5_reader, "_CHILD", hdf5_reader._Child())
        patch.setattr(hdf5_reader, "_start", lambda: started(program))
        with pytest.raises(MalformedCheckpoint, match=rf"x\.weights\.h5 is damaged: .*{says}"):
            formats.read(path)
    assert formats.read(path).read("head/bias").tolist() == [0, 1, 2]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limits")
def test_the_processor_time_of_a_request_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = chunked(tmp_path)
    program = (
        "import sys; from keras3conv.formats.safe import hdf5_child; hdf5_child._SECONDS = 1\n"
        "sys.stdin.readline(); hdf5_child._limit_request(0, 0)\nwhile True: pass"
    )
    assert hdf5_child._SECONDS > 1
    monkeypatch.setattr(hdf5_reader, "_CHILD", hdf5_reader._Child())
    monkeypatch.setattr(hdf5_reader, "_start", lambda: started(program))
    with pytest.raises(MalformedCheckpoint, match="did not finish within its time limit"):
        formats.read(path)


@pytest.mark.parametrize("layout", ["contiguous", "chunked", "compressed", "compact"])
def test_values_are_the_same_read_directly_or_by_the_child(tmp_path: Path, layout: str) -> None:
    values = np.arange(120, dtype=np.float32).reshape(8, 15)

    def plant(file: h5py.File) -> None:
        options: dict[str, dict[str, Any]] = {
            "chunked": {"chunks": (2, 5)},
            "compressed": {"chunks": (4, 5), "compression": "gzip"},
        }
        if layout != "compact":
            file.create_dataset(KERNEL, data=values, **options.get(layout, {}))
            return
        creation, group = h5py.h5p.create(h5py.h5p.DATASET_CREATE), file["layers/dense/vars"]
        creation.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple(values.shape)
        made = h5py.h5d.create(group.id, b"0", h5py.h5t.IEEE_F32LE, space, dcpl=creation)
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, values)

    view = formats.read(weights(tmp_path, plant))
    np.testing.assert_array_equal(view.read("head/kernel"), values)
