"""Transfer a sharded checkpoint larger than the memory to sharded Keras weights; kill the process once and resume.

    python -m benchmarks large
    python -m benchmarks large --gigabytes 8 --memory 1024

The checkpoint is a sparse file: only the first values of every tensor are stored, so it takes almost no space on the
disk. The written weights are not sparse. The transfer runs in a process whose memory is limited. It is killed after
some shards are finished, and started again: these shards must not be written again. At the end `verify` reads every
shard, the proofs `structure` and `roundtrip` compare both sides file to file, in a process with the same limit, and
every tensor is compared with the checkpoint. The folder is deleted.
"""

import argparse
import json
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import keras3conv as k3c
from benchmarks._files_models import Fixture
from benchmarks._memory import Growth
from benchmarks.speed import written
from keras3conv import formats
from keras3conv.workflows.files import read_plan
from keras3conv.workflows.transfer import Options, transfer
from keras3conv.workflows.verify import verify

SOURCE, TARGET, INDEX = "net.safetensors.index.json", "net.weights.h5", "net.weights.json"

SHAPE = (4096, 4096)
MARK = 1000
"""How many values of a tensor are not zero; all are in its first row."""


def main() -> int:
    """Run the transfer, or the child process of one; return 1 if a check fails."""
    parser = argparse.ArgumentParser(prog="large", description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=8.0)
    parser.add_argument("--memory", type=int, default=1024, help="the limit of the memory in MiB (default: 1024)")
    parser.add_argument("--shard", default="1GB", help="the size of a shard that is written (default: 1GB)")
    parser.add_argument("--kill-after", type=int, default=3, help="the number of finished shards (default: 3)")
    parser.add_argument("--folder", type=Path, help="where the files are written; a temporary folder by default")
    parser.add_argument("--write", action="store_true", help="replace the table in benchmarks/FILES.md")
    parser.add_argument("--child", choices=("transfer", "validate"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(options.child, options.folder, options.memory, options.shard)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        rows = run(Path(folder), options.gigabytes, options.memory, options.shard, options.kill_after)
    text = "\n".join(["| measured | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows.items())])
    print(text)
    if options.write:
        written("large", text, "FILES.md")
    return 0


def child(task: str, folder: Path, memory: int, shard: str) -> int:
    """Transfer or validate in limited memory; print the peak of the anonymous memory in MiB."""
    limit = memory << 20
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    with Growth() as memory_used:
        if task == "transfer":
            options = Options(max_shard_size=formats.parse_size(shard))
            transfer(folder / SOURCE, folder / TARGET, read_plan(folder / "plan.json"), options)
        else:
            plan = read_plan(folder / "plan.json")
            report = k3c.validate(folder / SOURCE, folder / INDEX, plan=plan, proofs=["structure", "roundtrip"])
            assert [section.status for section in report.sections] == ["passed", "passed"], str(report)
    print(json.dumps({"peak": memory_used.peak >> 20}))
    return 0


def run(folder: Path, gigabytes: float, memory: int, shard: str, kill_after: int) -> dict[str, str]:
    """Start a transfer, kill it, resume it, and check the result."""
    fixture = Fixture("large", (SHAPE,) * max(2, round(gigabytes * 1e9 / (4 * SHAPE[0] * SHAPE[1]))))
    save(folder, fixture)
    (folder / "plan.json").write_text(fixture.plan().to_json())
    command = [sys.executable, "-m", "benchmarks", "large", "--folder", str(folder), "--memory", str(memory)]
    transferring, validating = [*command, "--shard", shard, "--child", "transfer"], [*command, "--child", "validate"]
    started = time.monotonic()
    process = subprocess.Popen(transferring)
    while len(before := finished(folder)) < kill_after and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(before) >= kill_after, "the process ended before it was killed"
    assert not list(folder.glob("net*.weights.*")), "a killed process left an output"
    found = peak_in(transferring)
    seconds = time.monotonic() - started
    kept = {path.name: path.stat().st_mtime_ns for path in folder.glob("net_*.weights.h5")}
    repeated = [name for name, changed in before.items() if kept.get(name) != changed]
    assert not repeated, f"finished shards were written again: {repeated}"
    assert not list(folder.glob(".k3c-*")), "something is left behind"
    assert verify(folder / INDEX).ok
    proven = peak_in(validating)
    compare(folder / SOURCE, folder / INDEX, fixture)
    total = sum(path.stat().st_size for path in folder.glob("net_*.weights.h5"))
    assert max(found, proven) < memory
    return {
        "written": f"{total / 1e9:.1f} GB in {len(kept)} shards, from {len(list(folder.glob('net-*.safetensors')))}",
        "limit of the memory": f"{memory} MiB",
        "peak of the anonymous memory in the transfer": f"{found} MiB",
        'the same in `validate(proofs=["structure", "roundtrip"])`, both passed': f"{proven} MiB",
        "finished shards when the process was killed": str(len(before)),
        "of these written again": "0",
        "tensors with other values than the checkpoint": "0",
        "seconds of the transfer": f"{seconds:.0f}",
    }


def peak_in(command: list[str]) -> int:
    """Run a child to its end, and return the peak that it printed."""
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return int(json.loads(ended.stdout)["peak"])


def finished(folder: Path) -> dict[str, int]:
    """Return the finished shards of a running transfer, each with the time of its last change."""
    notes = folder.glob(".k3c-*/new/*.finished")
    shards = [note.with_name(note.name.removesuffix(".finished")) for note in notes]
    return {shard.name: shard.stat().st_mtime_ns for shard in shards}


def save(folder: Path, fixture: Fixture) -> None:
    """Write the checkpoint: shards of four tensors, and the index."""
    generator, names = np.random.default_rng(0), {}
    number = -(-len(fixture.shapes) // 4)
    for place in range(number):
        path = folder / f"net-{place + 1:05}-of-{number:05}.safetensors"
        shapes = fixture.shapes[4 * place : 4 * place + 4]
        part = Fixture("", shapes)
        part.save_sparse(path, first=4 * place)
        with path.open("r+b") as file:
            start = path.stat().st_size - part.size
            for tensor in range(len(shapes)):
                file.seek(start + tensor * 4 * SHAPE[0] * SHAPE[1])
                file.write(generator.random(MARK, np.float32).data)
                names[f"layers.{4 * place + tensor}.weight"] = path.name
    content = {"metadata": {"total_size": fixture.size}, "weight_map": names}
    (folder / "net.safetensors.index.json").write_text(json.dumps(content))


def compare(source: Path, written: Path, fixture: Fixture) -> None:
    """Raise `AssertionError` if a written tensor differs from that of the checkpoint."""
    torch, keras = formats.read(source), formats.read(written)
    places = {tensor.location: tensor.path for tensor in keras.tensors()}
    for planned in fixture.plan().keras.tensors():
        number = planned.path.partition("/")[0].removeprefix("l")
        expected = torch.read(f"layers.{number}.weight")
        assert np.array_equal(keras.read(places[planned.location]), expected.T), planned.path
        assert np.count_nonzero(expected) > MARK // 2


if __name__ == "__main__":
    sys.exit(main())
