"""Write a small valid file of each format."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.support import hdf5_files, pickles, tensorflow_files

VALUES = np.array([1, 2], np.float32)


def safetensors(folder: Path, *, file: str = "x.safetensors", **entries: Any) -> Path:
    header = entries or {"a.weight": entry(), "a.bias": entry(dtype="BF16", shape=[1], data_offsets=[8, 10])}
    end = max((value["data_offsets"][1] for value in header.values()), default=0)
    raw = json.dumps(header).encode()
    path = folder / file
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(range(1, 1 + end)))
    return path


def entry(**changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}


def index(folder: Path) -> Path:
    safetensors(folder, file="1.safetensors", a=entry())
    safetensors(folder, file="2.safetensors", b=entry())
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}))
    return path


def torch_archive(folder: Path) -> Path:
    body = pickles.dictionary({"a.weight": pickles.tensor(), "a.bias": pickles.tensor(shape=(1,), offset=1)})
    return pickles.checkpoint(folder, body, {"0": VALUES.tobytes()})


def torch_legacy(folder: Path) -> Path:
    (folder / "legacy").mkdir(exist_ok=True)
    body = pickles.dictionary({"a.weight": pickles.tensor(), "a.bias": pickles.tensor(shape=(1,), offset=1)})
    return pickles.legacy(folder / "legacy", body, {"0": VALUES.tobytes()})


def keras_legacy(folder: Path) -> Path:
    return hdf5_files.legacy(folder, conv2d=["conv2d/kernel:0", "conv2d/bias:0"])


BUILDERS: dict[str, Callable[[Path], Path]] = {
    "safetensors": safetensors,
    "index": index,
    "torch": torch_archive,
    "torch before 1.6": torch_legacy,
    "weights.h5": hdf5_files.weights,
    "legacy h5": keras_legacy,
    "keras": hdf5_files.archive,
    "tensorflow": tensorflow_files.good,
}
"""For each format, a function that writes a file into a folder and returns its path."""
