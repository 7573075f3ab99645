"""Test an installed keras3conv; `environments` runs this file in every environment, without the repository on the path.

python _environment_trial.py files            # no framework: a checkpoint is moved into a Keras file, and verified
python _environment_trial.py keras            # Keras without torch: a torch checkpoint fills a live model
python _environment_trial.py missing          # for each extra that is not installed, an error names the extra
python _environment_trial.py recipes README   # both frameworks: the recipes of the README run
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def command(*arguments: str) -> str:
    """Run the installed program, and return what it printed; raise if its exit status is not zero."""
    program = Path(sys.executable).with_name("keras3conv")
    return subprocess.run([program, *arguments], check=True, capture_output=True, text=True).stdout


def checkpoint(path: str) -> dict[str, Any]:
    """Write a checkpoint of two layers, as torch names and shapes them."""
    from safetensors.numpy import save_file

    random = np.random.default_rng(0)
    shapes = {"conv.weight": (8, 3, 3, 3), "conv.bias": (8,), "fc.weight": (4, 8), "fc.bias": (4,)}
    tensors = {name: random.standard_normal(shape).astype("float32") for name, shape in shapes.items()}
    save_file(tensors, path)
    return tensors


def files() -> None:
    """Move a checkpoint into a file of Keras weights without any framework."""
    import h5py

    tensors = checkpoint("net.safetensors")
    with h5py.File("empty.weights.h5", "w") as file:
        for layer, shapes in (("conv2d", ((3, 3, 3, 8), (8,))), ("dense", ((8, 4), (4,)))):
            variables = file.create_group(f"layers/{layer}/vars")
            for place, shape in enumerate(shapes):
                variables.create_dataset(str(place), data=np.zeros(shape, "float32"))
        file.create_group("vars")
    command("doctor")
    command("inspect", "net.safetensors")
    command("transfer", "net.safetensors", "empty.weights.h5", "-o", "filled.weights.h5", "--accept-unconfirmed")
    command("verify", "filled.weights.h5")
    with h5py.File("filled.weights.h5") as file:
        kernel = np.asarray(file["layers/conv2d/vars/0"])
    np.testing.assert_array_equal(kernel, tensors["conv.weight"].transpose(2, 3, 1, 0))
    missing()


def keras() -> None:
    """Fill a live Keras model from a torch checkpoint, without torch."""
    import keras as framework

    import keras3conv as k3c

    tensors = checkpoint("net.safetensors")
    layers = framework.layers
    stack = [framework.Input((8, 8, 3)), layers.Conv2D(8, 3), layers.GlobalAveragePooling2D(), layers.Dense(4)]
    model = framework.Sequential(stack)
    plan = k3c.align("net.safetensors", model)
    k3c.transfer("net.safetensors", model, plan)
    found = framework.ops.convert_to_numpy(model.layers[-1].kernel)
    np.testing.assert_array_equal(found, tensors["fc.weight"].T)


def recipes(readme: str) -> None:
    """Run the code examples (recipes) of the README."""
    text = Path(readme).read_text(encoding="utf-8")
    found = re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    assert found
    for recipe in found:
        exec(compile(recipe, readme, "exec"), {"__name__": "recipe"})  # noqa: S102 - the repository's own text


FEATURES = {
    "torch": ("inspect", "torch_net.py:make"),
    "keras": ("inspect", "keras_net.py:make"),
    "jax": ("inspect", "jax_net.py:make"),
    "tensorflow": ("inspect", "tensorflow_net.py:make"),
    "report": ("sweep", "sweep.toml", "-o", "results"),
    "ray": ("sweep", "sweep.toml", "-o", "results", "--ray"),
    "onnx": ("compare-onnx", "first.onnx", "second.onnx"),
    "demo": ("demo",),
}
"""For each extra, a command that needs it."""


def missing() -> None:
    """Run a command for every extra that is not installed: the error must name the extra."""
    known = json.loads(command("doctor", "--json"))["extras"]
    for package in ("torch", "keras", "jax", "tensorflow"):
        Path(f"{package}_net.py").write_text(f"import {package}\n")
    Path("sweep.toml").write_text('[[task]]\nname = "one"\nmodel = "net.keras"\n')
    program = Path(sys.executable).with_name("keras3conv")
    for extra, arguments in FEATURES.items():
        if known[extra]["installed"]:
            continue
        ended = subprocess.run([program, *arguments], check=False, capture_output=True, text=True)
        named = re.search(r'pip install "keras3conv\[([\w,-]+)\]"', " ".join(ended.stderr.split()))
        assert ended.returncode == 2, (arguments, ended.returncode, ended.stderr)
        assert named, (arguments, ended.stderr)
        assert extra in named[1].split(","), (arguments, ended.stderr)


if __name__ == "__main__":
    trials: dict[str, Callable[..., None]] = {"files": files, "keras": keras, "recipes": recipes, "missing": missing}
    trials[sys.argv[1]](*sys.argv[2:])
