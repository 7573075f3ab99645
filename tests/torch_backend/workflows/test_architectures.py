"""An architecture without weights (`.json`) is one side of a workflow, with a file of weights beside it."""

import json
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from keras import layers
from torch import nn

import keras3conv as k3c
from keras3conv.errors import MalformedCheckpoint, ModelError
from keras3conv.formats.identify import is_architecture
from keras3conv.report.report import Report
from tests.support.cli_runs import assert_refused, run


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(torch.relu(self.conv(x)).mean((2, 3)))
        return out


@dataclass(frozen=True)
class Files:
    """A model in two files."""

    model: keras.Model
    architecture: Path
    weights: Path


@pytest.fixture
def files(tmp_path: Path) -> Files:
    x = keras.Input((8, 8, 3))
    hidden = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, activation="relu")(x))
    model = keras.Model(x, layers.Dense(2)(hidden))
    found = Files(model, tmp_path / "net.json", tmp_path / "net.weights.h5")
    found.architecture.write_text(model.to_json())
    model.save_weights(found.weights)
    return found


def sources(report: Report) -> set[str]:
    return {file.path for file in report.sources}


def test_a_plan_needs_no_weights(files: Files) -> None:
    plan = k3c.align(Net(), files.architecture)
    assert [pair.decided_by for pair in plan.check().pairs] == ["probe", "probe"]


def test_the_architecture_with_its_weights_is_the_source_of_a_transfer_and_of_a_certificate(files: Files) -> None:
    module = Net().eval()
    plan = k3c.align(module, files.architecture)
    k3c.transfer(files.architecture, module, plan, keras_weights=files.weights)
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    with torch.no_grad():
        found = module(torch.from_numpy(x).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(found, files.model(x, training=False).detach().numpy(), atol=1e-6)
    report = k3c.validate(module, files.architecture, keras_weights=files.weights)
    report.raise_if_failed()
    assert sources(report) == {"net.json", "net.weights.h5"}


def test_a_certificate_fails_for_the_weights_of_a_model_that_was_trained_on(files: Files) -> None:
    module = Net().eval()
    k3c.transfer(files.architecture, module, k3c.align(module, files.architecture), keras_weights=files.weights)
    files.model.layers[1].bias.assign_add(np.full(4, 0.01, "float32"))
    files.model.save_weights(files.weights)
    report = k3c.validate(module, files.architecture, keras_weights=files.weights, proofs=["outputs"])
    assert report.status == "failed"


def test_a_transfer_into_an_architecture_writes_its_weights(files: Files, tmp_path: Path) -> None:
    module = Net()
    k3c.transfer(module, files.architecture, k3c.align(module, files.architecture), out=tmp_path / "new.weights.h5")
    files.model.load_weights(tmp_path / "new.weights.h5")
    np.testing.assert_array_equal(files.model.layers[-1].kernel.numpy().T, module.head.weight.detach().numpy())


def test_weights_of_another_model_are_refused(files: Files, tmp_path: Path) -> None:
    other = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    other.save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(ModelError, match="are not the weights of"):
        k3c.validate(Net(), files.architecture, keras_weights=tmp_path / "other.weights.h5")


def test_a_lambda_in_an_architecture_is_named_and_not_run(files: Files) -> None:
    files.architecture.write_text(
        files.architecture.read_text().replace('"class_name": "GlobalAveragePooling2D"', '"class_name": "Lambda"')
    )
    with pytest.raises(ModelError, match="no code is ever run from a file"):
        k3c.align(Net(), files.architecture)


def test_json_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(json.dumps({"pairs": []}))
    with pytest.raises(MalformedCheckpoint, match="the architecture must be"):
        k3c.align(Net(), tmp_path / "plan.json")


def test_an_index_of_weights_is_no_architecture() -> None:
    names = ("a.json", "b.JSON", "model.safetensors.index.json", "model.weights.json", "a.keras")
    assert [is_architecture(name) for name in names] == [True, True, False, False, False]


def test_the_command_line_asks_for_the_weights(files: Files, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("from tests.torch_backend.workflows.test_architectures import Net")
    factory, architecture = f"{tmp_path / 'net.py'}:Net", str(files.architecture)
    for command in (("validate", factory, architecture), ("transfer", architecture, factory, "-o", "net.pt")):
        assert_refused(run(*command), "so a file of weights is", "Fix:  --keras-weights model.weights.h5")
    finished = run("transfer", factory, architecture, "-o", str(tmp_path / "new.weights.h5"))
    assert finished.exit_code == 0, finished.output
    assert "--keras-weights" in finished.output
