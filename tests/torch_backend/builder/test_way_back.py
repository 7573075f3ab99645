"""Weights that were trained in torch go back into the Keras model or its file."""

from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from keras import layers
from typer.testing import CliRunner

import keras3conv as k3c
from keras3conv.cli.commands import app
from keras3conv.errors import InputError
from tests.support.models import randomize

X = np.random.default_rng(0).standard_normal((2, 8, 8, 3)).astype(np.float32)


@pytest.fixture
def model() -> keras.Model:
    parts = [keras.Input((8, 8, 3)), layers.Conv2D(4, 3), layers.BatchNormalization(), layers.Flatten()]
    return keras.Sequential([*parts, layers.Dense(5)])


def outputs(model: keras.Model) -> np.ndarray:
    made: np.ndarray = keras.ops.convert_to_numpy(model(X))
    return made


def test_a_trained_state_dict_returns_to_the_keras_file(tmp_path: Path, model: keras.Model) -> None:
    model.save(tmp_path / "model.keras")
    conversion = k3c.convert(tmp_path / "model.keras", channels="last", validate=False)
    kept = {name: value.clone() for name, value in conversion.model.state_dict().items()}
    trained = randomize(k3c.convert(tmp_path / "model.keras", channels="last", validate=False).model, seed=3)
    conversion.to_keras(trained.state_dict(), tmp_path / "model.keras", out=tmp_path / "trained.keras")
    with torch.no_grad():
        wanted = trained.eval()(torch.tensor(X)).numpy()
    assert np.abs(outputs(keras.saving.load_model(tmp_path / "trained.keras")) - wanted).max() < 1e-4
    assert all(torch.equal(kept[name], value) for name, value in conversion.model.state_dict().items())
    conversion.to_keras(trained.state_dict(), model)
    assert np.abs(outputs(model) - wanted).max() < 1e-4


def test_a_state_dict_of_another_model_is_refused(model: keras.Model) -> None:
    conversion = k3c.convert(model, validate=False)
    with pytest.raises(InputError, match="does not fit the converted module"):
        conversion.to_keras({}, model)
    assert repr(conversion).startswith("<Conversion of ")


def test_the_metadata_of_a_conversion_is_a_plan(tmp_path: Path, model: keras.Model) -> None:
    model.save(tmp_path / "model.keras")
    conversion = k3c.convert(model, validate=False)
    conversion.save(tmp_path / "net")
    text = (tmp_path / "net" / "metadata.json").read_text()
    assert k3c.Alignment.from_json(text).pairs == conversion.alignment.pairs
    back = ["transfer", f"{tmp_path}/net/weights.safetensors", f"{tmp_path}/model.keras", "-o", f"{tmp_path}/b.keras"]
    done = CliRunner().invoke(app, [*back, "--plan", f"{tmp_path}/net/metadata.json"])
    assert done.exit_code == 0, done.output
    assert np.array_equal(outputs(keras.saving.load_model(tmp_path / "b.keras")), outputs(model))
