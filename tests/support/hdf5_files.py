"""Small weight files in the formats of Keras 2 and Keras 3."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from keras3conv.model.views import ModelView

KERNEL = "layers/dense/vars/0"


def dense(file: h5py.File, without: str = "") -> None:
    """Write the weights of a Dense layer as Keras 3 does."""
    group = file.create_group("layers/dense/vars")
    group.attrs["name"] = "head"
    if without != KERNEL:
        group["0"] = np.arange(12, dtype=np.float32).reshape(4, 3)
    group["1"] = np.arange(3, dtype=np.float32)


def weights(folder: Path, plant: Callable[[h5py.File], None] | None = None) -> Path:
    path = folder / "x.weights.h5"
    with h5py.File(path, "w") as file:
        dense(file, without=KERNEL if plant else "")
        if plant:
            plant(file)
    return path


def archive(folder: Path, plant: Callable[[h5py.File], None] | None = None, **members: bytes) -> Path:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        (plant or dense)(file)
    config = {
        "class_name": "Sequential",
        "module": "keras",
        "config": {
            "name": "net",
            "layers": [
                {"class_name": "InputLayer", "module": "keras.layers", "config": {"batch_shape": [None, 4]}},
                {"class_name": "Dense", "module": "keras.layers", "config": {"name": "head", "units": 3}},
            ],
        },
    }
    path = folder / "x.keras"
    with zipfile.ZipFile(path, "w") as target:
        target.writestr("metadata.json", members.get("metadata", b'{"keras_version": "3.9.0"}'))
        target.writestr("config.json", members.get("config", json.dumps(config).encode()))
        target.writestr("model.weights.h5", members.get("weights", buffer.getvalue()))
    return path


def paths(view: ModelView) -> list[str]:
    return [tensor.path for tensor in view.tensors()]


def legacy(folder: Path, **weight_names: list[str]) -> Path:
    path = folder / "x.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = list(weight_names)
        for layer, names in weight_names.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = names
            for number, name in enumerate(names):
                group[name] = np.full(2, number, np.float32)
    return path
