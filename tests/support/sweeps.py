"""Files and code for the tasks of sweeps that need no framework."""

from pathlib import Path

import h5py
import numpy as np
from safetensors.numpy import save_file

PLANTED = """
import os
import time


def crash():
    os._exit(3)


def hang():
    while True:
        time.sleep(60)


def grow():
    held = []
    while True:
        held.append(bytearray(b"x" * 20_000_000))


def raises():
    raise ValueError("this model is broken")


def needs(argument):
    return argument
"""
"""Factories that fail in different ways."""

CHECKPOINTS = """[defaults]
keras = "fc.h5"
do = ["align", "transfer"]
write = ["out.safetensors"]

[[task]]
torch = "checkpoints/*.safetensors"
"""
"""The part of a sweep with a task for each checkpoint that `write_files` wrote."""


def write_checkpoint(path: Path, seed: int = 0, features: int = 5) -> None:
    """Write a torch checkpoint of one linear layer."""
    weight = np.random.default_rng(seed).standard_normal((2, features), dtype=np.float32)
    save_file({"fc.weight": weight, "fc.bias": np.zeros(2, np.float32)}, path)


def write_keras_weights(path: Path) -> None:
    """Write the weights of one Dense layer in the format of Keras 2."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"fc"]
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.4.0"
        group = file.create_group("fc")
        group.attrs["weight_names"] = [b"fc/kernel:0", b"fc/bias:0"]
        group["fc/kernel:0"], group["fc/bias:0"] = np.zeros((5, 2), np.float32), np.zeros(2, np.float32)


def write_files(folder: Path, checkpoints: int = 0) -> None:
    """Write `net.safetensors`, `fc.h5`, `planted.py`, and some checkpoints into the folder `checkpoints`."""
    write_checkpoint(folder / "net.safetensors")
    write_keras_weights(folder / "fc.h5")
    (folder / "planted.py").write_text(PLANTED)
    (folder / "checkpoints").mkdir()
    for place in range(checkpoints):
        write_checkpoint(folder / "checkpoints" / f"step{place}.safetensors", seed=place)
