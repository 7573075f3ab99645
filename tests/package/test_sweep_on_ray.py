"""The same sweep on two nodes of a Ray cluster on this machine, and in processes without Ray."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from keras3conv.report.overview import Row, read_rows
from keras3conv.workflows.sweep.run import sweep
from tests.support.sweeps import write_checkpoint, write_files

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed"),
]

# The cluster and its driver run in a process of their own: Ray leaves threads and open files behind.
SCRIPT = """
import json
import sys

from ray.cluster_utils import Cluster

import keras3conv as k3c

node = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
cluster.add_node(**node)
try:
    overview = k3c.sweep(json.loads(sys.argv[1]), "on_ray", ray=cluster.address)
    print(overview.tally)
    try:
        k3c.sweep([{**json.loads(sys.argv[1])[0], "cpus": 64}], "too_large", ray=cluster.address)
    except k3c.Keras3ConvError as error:
        print(error)
finally:
    cluster.shutdown()
"""

LOST_ONCE = """
import os
import pathlib
import signal


def make():
    marker = pathlib.Path(__file__).with_name("was_here")
    if not marker.exists():
        marker.touch()
        os.kill(os.getppid(), signal.SIGKILL)
        signal.pause()
    return 1
"""
"""A factory that kills its Ray worker the first time."""


def comparable(row: Row) -> Row:
    """Return a row without the fields that differ between runs and machines."""
    plain = replace(row, seconds=0, peak_memory=0, memory_limit=0)
    return replace(plain, outcome="") if row.status == "out of memory" else plain


def test_two_nodes_of_ray_give_the_same_rows_and_repeat_only_a_lost_worker(tmp_path: Path) -> None:
    write_files(tmp_path, checkpoints=2)
    write_checkpoint(tmp_path / "misfit.safetensors", features=4)
    (tmp_path / "lost.py").write_text(LOST_ONCE)
    shared: dict[str, Any] = {"keras": str(tmp_path / "fc.h5"), "do": ["align", "transfer"], "write": ["x.safetensors"]}
    tasks: list[dict[str, Any]] = [
        {**shared, "torch": [str(tmp_path / "checkpoints" / f"step{place}.safetensors") for place in range(2)]},
        {**shared, "name": "crash", "torch": f"{tmp_path}/planted.py:crash"},
        {**shared, "name": "hang", "torch": f"{tmp_path}/planted.py:hang", "time_limit": 1},
        {**shared, "name": "grow", "torch": f"{tmp_path}/planted.py:grow", "memory_limit": "400 MiB"},
        {**shared, "name": "misfit", "torch": str(tmp_path / "misfit.safetensors")},
        {**shared, "name": "lost", "torch": f"{tmp_path}/lost.py:make"},
    ]
    finished = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(tasks)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    said = finished.stdout.splitlines()
    assert "7 tasks: 2 passed, 1 failed, 1 unusable, 1 crashed, 1 timed out, 1 out of memory" in said
    assert "step0 needs CPU 64, and no machine of the Ray cluster has that much" in said
    assert (tmp_path / "was_here").exists()

    overview = sweep(tasks, tmp_path / "locally")
    on_ray = read_rows((tmp_path / "on_ray" / "results.jsonl").read_text().splitlines(), "on Ray")
    assert [comparable(row) for row in on_ray] == [comparable(row) for row in overview.rows]
    for row in on_ray:
        for file in row.files:
            assert (tmp_path / "on_ray" / file.path).read_bytes() == (tmp_path / "locally" / file.path).read_bytes()
