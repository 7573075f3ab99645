"""A transfer whose shards are written on two nodes of a Ray cluster on this machine, and the same one without Ray."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keras3conv as k3c
from keras3conv import formats
from keras3conv.errors import InputError
from keras3conv.model.views import TensorRef

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.full,  # two nodes of Ray start too slowly on a small machine for every run
    pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed"),
]

# The cluster and its driver run in a process of their own: Ray leaves threads and open files behind.
SCRIPT = """
import json

from ray.cluster_utils import Cluster

import keras3conv as k3c
from keras3conv.workflows.files import read_plan

node = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
cluster.add_node(**node)
plan = read_plan(__import__("pathlib").Path("plan.json"))
try:
    report = k3c.transfer(
        "net.weights.h5", "on_ray/x.safetensors", plan, max_shard_size=3000, ray=cluster.address
    )
    (found,) = [note for note in report.notes if "NaN" in note]
    print(json.dumps([report.ok, found]))
    open("damaged.weights.h5", "wb").write(open("net.weights.h5", "rb").read()[:-100])
    try:
        k3c.transfer("damaged.weights.h5", "on_ray/y.safetensors", plan, max_shard_size=3000, ray=cluster.address)
    except k3c.Keras3ConvError as error:
        print(json.dumps(str(error)))
finally:
    cluster.shutdown()
"""


def plan_of(folder: Path) -> k3c.Alignment:
    """Write the weights of both sides, with a NaN, and return their plan."""
    generator = np.random.default_rng(0)
    arrays = {f"l{place}/kernel": generator.random((20, 30), np.float32) for place in range(4)}
    arrays["l2/kernel"][3, 3] = np.nan
    keras = [
        TensorRef(path=path, role="kernel", shape=(20, 30), location=f"layers/dense{f'_{place}' * (place > 0)}/vars/0")
        for place, path in enumerate(arrays)
    ]
    formats.write(folder / "net.weights.h5", keras, arrays.__getitem__)
    torch = [TensorRef(path=f"l{place}.weight", role="weight", shape=(30, 20)) for place in range(4)]
    formats.write(folder / "net.safetensors", torch, lambda path: arrays[path.replace(".weight", "/kernel")].T)
    return k3c.align(folder / "net.safetensors", folder / "net.weights.h5", probe=False)


def content_of(folder: Path) -> dict[str, Any]:
    """Return the bytes of every file by name; of the manifest the JSON, without the versions of what is imported."""
    content: dict[str, Any] = {path.name: path.read_bytes() for path in folder.iterdir()}
    manifest = json.loads(content["x.safetensors.index.json.manifest.json"])
    del manifest["environment"]
    return {**content, "x.safetensors.index.json.manifest.json": manifest}


def test_shards_that_are_written_on_ray_are_those_that_are_written_without_it(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    (tmp_path / "plan.json").write_text(plan.to_json())
    for folder in ("here", "on_ray"):
        (tmp_path / folder).mkdir()
    report = k3c.transfer(tmp_path / "net.weights.h5", tmp_path / "here/x.safetensors", plan, max_shard_size=3000)
    finished = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    (ok, note), refused = map(json.loads, finished.stdout.splitlines())
    assert (ok, [note]) == (True, [note for note in report.notes if "NaN" in note])
    assert "damaged.weights.h5" in refused
    here, on_ray = (content_of(tmp_path / name) for name in ("here", "on_ray"))
    assert here == on_ray
    assert len(here) == 4 + 1 + 1, "the shards, the index and the manifest"


def test_one_file_is_not_written_on_ray(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    with pytest.raises(InputError, match=r"only shards are written on Ray(.|\n)*Fix:  max_shard_size"):
        k3c.transfer(tmp_path / "net.weights.h5", tmp_path / "y.safetensors", plan, ray="local")
