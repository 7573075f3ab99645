"""A small torch module, the Keras model of the same function, and its state dict in a file."""

import json
from pathlib import Path

import keras
import torch
from safetensors.torch import save_file
from torch import nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.heads = nn.MultiheadAttention(8, 2, batch_first=True)
        self.out = nn.Linear(8, 130)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.stem(x)).flatten(2).transpose(1, 2)
        return self.out(self.heads(x, x, x, need_weights=False)[0])


def twin() -> keras.Model:
    inputs = keras.Input((4, 4, 3))
    x = keras.layers.Conv2D(8, 3, padding="same", name="stem")(inputs)
    x = keras.layers.BatchNormalization(epsilon=1e-5, name="norm")(x)
    x = keras.layers.Reshape((16, 8))(x)
    x = keras.layers.MultiHeadAttention(2, 4, name="heads")(x, x)
    return keras.Model(inputs, keras.layers.Dense(130, name="out")(x), name="twin")


def save_torch(module: nn.Module, folder: Path, name: str) -> Path:
    """Save the state dict of a module; in shards if the name is an index."""
    state = {name: value.clone() for name, value in module.state_dict().items()}
    if not name.endswith(".index.json"):
        path = folder / name
        save_file(state, path) if name.endswith(".safetensors") else torch.save(state, path)
        return path
    suffix = ".safetensors" if "safetensors" in name else ".bin"
    parts = [dict(list(state.items())[::2]), dict(list(state.items())[1::2])]
    paths = [save_torch(module, folder, f"whole{suffix}").with_name(f"{number}{suffix}") for number in (1, 2)]
    for part, path in zip(parts, paths, strict=True):
        save_file(part, path) if suffix == ".safetensors" else torch.save(part, path)
    (folder / f"whole{suffix}").unlink()
    weight_map = {key: path.name for part, path in zip(parts, paths, strict=True) for key in part}
    (folder / name).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder / name
