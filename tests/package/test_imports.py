"""Working with a small model imports no unneeded framework."""

import os
import subprocess
import sys

import pytest

STORY = """
import sys
import keras, torch
import keras3conv as k3c
module = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
layers = [keras.layers.Dense(8, activation="relu"), keras.layers.Dense(2)]
model = keras.Sequential([keras.Input((4,)), *layers])
given = torch.rand(3, 4)
plan = k3c.align(module, model, inputs=given)
k3c.transfer(module, model, plan, out=sys.argv[1])
assert k3c.validate(module, model, inputs=given, alignment=plan).ok
assert k3c.convert(sys.argv[1]).report.ok
print("tensorflow" in sys.modules)
"""


def test_tensorflow_is_not_imported_on_the_torch_backend(tmp_path: os.PathLike[str]) -> None:
    pytest.importorskip("keras")
    pytest.importorskip("torch")
    environment = {**os.environ, "KERAS_BACKEND": "torch", "PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = [sys.executable, "-c", STORY, f"{os.fspath(tmp_path)}/model.keras"]
    result = subprocess.run(arguments, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "False"
