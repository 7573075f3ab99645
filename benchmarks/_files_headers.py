"""Measure the time to read the header of a large file, and to refuse a file that declares far more than it has."""

import resource
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks._files_models import Fixture
from benchmarks._files_times import Result
from keras3conv import formats
from keras3conv.cli.output import model_text
from keras3conv.formats.safe.hdf5_reader import _TREES
from keras3conv.garbage import collection_paused


def inspected(folder: Path, rounds: int, number: int = 100_000) -> list[Result]:
    """Measure the processor time in seconds to read the header of a file with many tensors, and to list its layers."""
    fixture = Fixture("", ((16,),) * number)
    fixture.save(folder / "in.safetensors")
    values = np.zeros(16, np.float32)
    tensors = tuple(fixture.plan().keras.tensors())
    formats.write(folder / "in.weights.h5", tensors, lambda _path: values, overwrite=True)
    times: dict[str, list[float]] = {"in.safetensors": [], "in.weights.h5": [], "h5py": []}
    for _ in range(max(3, rounds // 2)):
        for name, seconds in times.items():
            started = time.process_time()
            if name == "h5py":
                _walk(folder / "in.weights.h5")
            else:
                with collection_paused():  # as the command does
                    model_text(formats.read(folder / name), every=False)
                _TREES.clear()  # or the second time would not parse the file
            seconds.append(time.process_time() - started)
    plain, ours, walk = map(median, times.values())
    part = f"inspect, {number:,} tensors"
    return [
        Result(part, ".safetensors, seconds of a processor", plain, 1.0, plain),
        Result(part, ".weights.h5, seconds of a processor", ours, 1.0, ours),
        Result(f"{part} / walk of h5py", ".weights.h5", ours / walk, 1.2, ours),
        Result(f"{part} / walk of h5py", "walk of h5py", 1.0, None, walk),
    ]


def _walk(path: Path) -> None:
    """Visit every group and dataset with h5py, as a reader of a file does: shapes, dtypes and names of layers."""
    import h5py

    def note(_name: str, node: Any) -> None:
        found.append((node.shape, node.dtype) if isinstance(node, h5py.Dataset) else node.attrs.get("name"))

    found: list[Any] = []
    with h5py.File(path) as file:
        file.visititems(note)


def refused(folder: Path, rounds: int) -> list[Result]:
    """Measure how many milliseconds longer a command needs to refuse a malicious file than to report a missing one."""
    bombs = {
        "a safetensors header of 2^60 bytes": (folder / "a.safetensors", (1 << 60).to_bytes(8, "little") + b"{}"),
        "a zip archive of 1 GiB of zeros": (folder / "b.keras", b""),
        "a pickle that repeats a list": (folder / "c.pt", b"\x80\x02]" + b"2\x85" * 100_000 + b"."),
    }
    for path, content in bombs.values():
        path.write_bytes(content)
    with zipfile.ZipFile(folder / "b.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("config.json", "model.weights.h5"):
            with archive.open(name, "w") as member:
                for _ in range(1024):
                    member.write(bytes(1 << 20))
    paths = {"": folder / "missing.safetensors"} | {name: path for name, (path, _) in bombs.items()}
    found: dict[str, list[float]] = {name: [] for name in paths}
    for _ in range(max(3, rounds)):
        for name, path in paths.items():
            found[name].append(_seconds_to_refuse(path))
    start = min(found.pop(""))
    return [Result(f"refuse {name}", "ms of a processor", 1e3 * (min(one) - start), 50) for name, one in found.items()]


def _seconds_to_refuse(path: Path) -> float:
    """Return the processor time of a command that refuses a file."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "keras3conv", "inspect", str(path)]
    finished = subprocess.run(command, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert finished.returncode == 2, finished.stdout
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
