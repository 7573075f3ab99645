"""Weights that Keras saved in several files are one model; an index that contradicts the files is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from keras3conv import formats
from keras3conv.errors import FileError, IncompleteCheckpoint, MalformedCheckpoint, UnsafeCheckpoint

WEIGHT_MAP = {
    "/layers/dense/vars": ["model_00000.weights.h5", "model_00001.weights.h5"],
    "/layers/dense_1/vars": "model_00001.weights.h5",
}


def shard(folder: Path, number: int, **datasets: float) -> None:
    with h5py.File(folder / f"model_0000{number}.weights.h5", "w") as file:
        for path, value in datasets.items():
            group = file.require_group(f"layers/{path.partition('__')[0]}/vars")
            group[path.partition("__")[2]] = np.full((2, 3) if path.endswith("0") else 3, value, np.float32)
            group.attrs["name"] = path.partition("__")[0]


def sharded(folder: Path, weight_map: Any = None, change: Callable[[Path], object] = lambda _: None) -> Path:
    shard(folder, 0, dense__0=1)
    shard(folder, 1, dense__1=2, dense_1__0=3)
    change(folder)
    path = folder / "model.weights.json"
    path.write_text(json.dumps({"metadata": {"total_size": 60.0}, "weight_map": weight_map or WEIGHT_MAP}))
    return path


def test_weights_in_several_files_are_one_model(tmp_path: Path) -> None:
    path = sharded(tmp_path)
    for view in (formats.read(path), formats.read(tmp_path)):
        assert view.side == "keras"
        assert view.facts["format"] == "Keras 3 weights in 2 shards"
        assert {tensor.path: view.read(tensor.path).flat[0] for tensor in view.tensors()} == {
            "dense/kernel": 1,
            "dense/bias": 2,
            "dense_1/kernel": 3,
        }


BAD = {
    "a missing shard": (WEIGHT_MAP, lambda folder: (folder / "model_00001.weights.h5").unlink(), IncompleteCheckpoint,
                        "the shard 'model_00001.weights.h5' is missing"),
    "a shard in another folder": ({"/a": "../x.weights.h5"}, lambda _: None, UnsafeCheckpoint, "'/a' is in"),
    "a shard that is a number": ({"/a": 5}, lambda _: None, UnsafeCheckpoint, "'/a' is in the shard 5"),
    "a group that no shard has": ({**WEIGHT_MAP, "/layers/b/vars": "model_00000.weights.h5"}, lambda _: None,
                                  IncompleteCheckpoint, "lacks the variables of '/layers/b/vars'"),
    "a group that the index does not list": ({"/layers/dense/vars": WEIGHT_MAP["/layers/dense/vars"]}, lambda _: None,
                                             MalformedCheckpoint, "also contains 'layers/dense_1/vars/0'"),
    "a dataset in two shards": (WEIGHT_MAP, lambda folder: shard(folder, 1, dense__0=1, dense__1=2, dense_1__0=3),
                                MalformedCheckpoint, "vars/0' must be in one shard, but is in model_00000"),
    "a shard that the index forgot": (WEIGHT_MAP, lambda folder: shard(folder, 2, dense_2__0=1), IncompleteCheckpoint,
                                      "lists no tensor of the shard 'model_00002.weights.h5'"),
    "no map": ([], lambda _: None, MalformedCheckpoint, "has no key weight_map"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_an_index_that_contradicts_the_files_is_refused(tmp_path: Path, case: str) -> None:
    weight_map, change, error, says = BAD[case]
    path = sharded(tmp_path, weight_map, change)
    if weight_map == []:
        path.write_text("{}")
    with pytest.raises(error, match=says):
        formats.read(path)


def test_a_single_shard_without_its_index_is_read_as_a_file(tmp_path: Path) -> None:
    sharded(tmp_path)
    assert formats.read(tmp_path / "model_00000.weights.h5").read("dense/kernel").shape == (2, 3)
    with pytest.raises(FileError):
        formats.read(tmp_path / "model_00002.weights.h5")
