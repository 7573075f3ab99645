"""The certificate of a conversion to Keras, and its folder in a process without torch and keras3conv."""

import os
import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.builder.to_keras.operations_pooling import spread
from keras3conv.cli.app import FAILED, PASSED

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.scale = nn.Parameter(torch.rand(4, 1, 1))
        self.register_buffer("table", torch.rand(4, 6, 8))
        self.fc = nn.Linear(4 * 6 * 8, 5)

    def forward(self, x):
        return self.fc(torch.flatten(torch.relu(self.conv(x)) * self.scale + self.table, 1))

def make():
    return Net()
"""

RELOAD = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from model import build_model
import keras
model = build_model()
model.load_weights(sys.argv[1] + "/model.weights.h5")
whole = keras.saving.load_model(sys.argv[1] + "/model.keras")
x = np.load(sys.argv[1] + "/../x.npy")
made = [keras.ops.convert_to_numpy(one(x)) for one in (model, whole)]
assert np.array_equal(*made)
assert not {"torch", "keras3conv"} & {*sys.modules}
np.save(sys.argv[1] + "/../y.npy", made[0])
"""


def module(tmp_path: Path) -> nn.Module:
    path = tmp_path / "net.py"
    path.write_text(NET)
    made = runpy.run_path(str(path))["make"]()
    assert isinstance(made, nn.Module)
    return made.eval()


@pytest.mark.slow
@pytest.mark.parametrize("backend", [name for name in ("jax", "tensorflow") if find_spec(name)])
def test_a_saved_model_runs_without_torch_and_this_package(tmp_path: Path, backend: str) -> None:
    net, x = module(tmp_path), torch.randn(2, 3, 6, 8)
    conversion = k3c.convert(net, inputs=x, validate=False)
    files = conversion.save(tmp_path / "out")
    names = {Path(file.path).name for file in files}
    assert names == {"constants.npz", "metadata.json", "model.keras", "model.py", "model.weights.h5"}
    np.save(tmp_path / "x.npy", x.permute(0, 2, 3, 1).numpy())
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-P", "-c", RELOAD, str(tmp_path / "out")]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert np.allclose(np.load(tmp_path / "y.npy"), net(x).detach().numpy(), atol=1e-5)


def test_the_certificate_of_a_conversion_passes(tmp_path: Path) -> None:
    conversion = k3c.convert(module(tmp_path), inputs=torch.randn(2, 3, 6, 8))
    assert conversion.report is not None
    conversion.report.raise_if_failed()
    assert conversion.target == "keras"
    assert isinstance(conversion.model, keras.Model)


def test_a_planted_mistake_fails_the_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = "keras3conv.builder.to_keras.operations_convolutions.spread"
    monkeypatch.setattr(where, lambda value, rank: spread(value, rank)[::-1])
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=(1, 0)), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    conversion = k3c.convert(net, inputs=torch.randn(2, 3, 6, 8))
    assert conversion.report is not None
    assert not conversion.report.ok
    assert "float64" in {section.name for section in conversion.report.sections if section.status == "failed"}


@pytest.mark.slow
def test_the_command_line_converts_a_factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from keras3conv.cli.commands import app

    monkeypatch.chdir(tmp_path)
    (tmp_path / "net_to_convert.py").write_text(NET)
    torch.save(module(tmp_path).state_dict(), tmp_path / "net.pt")
    command = ["convert", "net_to_convert.py:make", "--torch-weights", "net.pt", "-o", "out"]
    assert CliRunner().invoke(app, [*command, "--shape", "2,3,6,8"]).exit_code == PASSED
    assert (tmp_path / "out" / "model.py").is_file()
    both = CliRunner().invoke(app, [*command, "--shape", "2,3,6,8", "--inputs", "x.npz"])
    assert both.exit_code not in (PASSED, FAILED)
