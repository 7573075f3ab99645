"""Measure the memory of file-to-file transfers, each in a separate process, some of them under a limit."""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks._files_models import FIXTURES, Fixture
from benchmarks._files_times import Result
from benchmarks._memory import Growth, anonymous_memory
from keras3conv.workflows.transfer import Options, transfer

MEBIBYTE = 1 << 20


def memory(folder: Path, _rounds: int) -> list[Result]:
    """Measure the peak of anonymous memory, and transfer one GiB under a limit of 400 MiB."""
    results = []
    for fixture in (*FIXTURES, Fixture("16 x 4096 x 4096", ((4096, 4096),) * 16)):
        limit = 400 * MEBIBYTE if fixture.size >= 1 << 30 else 0
        fixture.save(folder / "in.safetensors")
        found = _in_a_process(folder, fixture, limit)
        largest = max(4 * int(np.prod(shape)) for shape in fixture.shapes) / MEBIBYTE
        name = f"{fixture.name}, under {limit // MEBIBYTE} MiB" if limit else fixture.name
        results.append(Result("peak MiB of a transfer", name, found["peak"], 2 * largest + 64))
    return results


def sparse(folder: Path, _rounds: int, gigabytes: int = 8) -> list[Result]:
    """Transfer a sparse checkpoint that is larger than the memory limit; the memory must not grow."""
    number = gigabytes * 10**9 // (4 * 4096 * 4096)
    fixture = Fixture(f"{gigabytes} GB of holes", ((4096, 4096),) * number)
    fixture.save_sparse(folder / "in.safetensors")
    found = _in_a_process(folder, fixture, 2 << 30)
    part = f"{fixture.name}, under 2 GiB"
    return [
        Result(part, "growth in MiB per GB", abs(found["slope"]), 1.0),
        Result(part, "peak MiB", found["peak"], 192.0),
        Result(part, "seconds per GB", found["seconds"] / gigabytes),
    ]


def _in_a_process(folder: Path, fixture: Fixture, limit: int) -> dict[str, float]:
    task = json.dumps([str(folder), fixture.shapes, limit])
    command = [sys.executable, "-m", "benchmarks._files_memory", task]
    finished = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(finished.stdout)
    return found


def child(task: str) -> None:
    """Transfer once in this process; print by how much the peak anonymous memory grows, and the growth per gigabyte."""
    folder, shapes, limit = json.loads(task)
    fixture = Fixture("", tuple(map(tuple, shapes)))
    small = Path(folder) / "small.safetensors"
    warm = Fixture("", ((8, 8),))
    warm.save(small)
    transfer(small, Path(folder) / "small.weights.h5", warm.plan(), Options(overwrite=True))
    plan = fixture.plan()
    if limit:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    places = []

    def progress(_name: str, done: int, _total: int) -> None:
        places.append((done / 1e9, anonymous_memory() / MEBIBYTE))

    out = Path(folder) / "big.weights.h5"
    out.unlink(missing_ok=True)  # an earlier output has the tensors of another fixture
    started = time.perf_counter()
    options = Options(overwrite=True, progress=progress)
    with Growth() as growth:
        transfer(Path(folder) / "in.safetensors", out, plan, options)
    seconds = time.perf_counter() - started
    later = places[len(places) // 4 :]
    slope = float(np.polyfit([one[0] for one in later], [one[1] for one in later], 1)[0]) if len(later) > 2 else 0.0
    sys.stdout.write(json.dumps({"peak": growth.bytes / MEBIBYTE, "slope": slope, "seconds": seconds}))


if __name__ == "__main__":
    child(sys.argv[1])
