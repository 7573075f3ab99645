"""Conversion of files, and files that are refused before any of their code runs."""

import re
from pathlib import Path

import keras
import pytest
import torch

import keras3conv as k3c
from keras3conv.errors import InputError, MalformedCheckpoint, UnsupportedLayerError
from tests.torch_backend.builder.test_convert import randomised, residual
from tests.torch_backend.cli.test_commands import run

layers = keras.layers


class Own(keras.layers.Layer):
    """A layer that is not registered with Keras."""

    def call(self, inputs: object) -> object:
        return keras.ops.relu(inputs)


def hostile() -> keras.Model:
    given = keras.Input((4,))
    x = layers.Lambda(lambda value: value * 2, name="twice")(layers.Dense(3, name="dense")(given))
    return keras.Model(given, layers.Lambda(lambda value: value + 1, name="more")(Own(name="own")(x)))


class Squared(keras.Operation):
    """An operation that is not registered with Keras."""

    def call(self, x: object) -> object:
        return keras.ops.square(x)

    def compute_output_spec(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return keras.KerasTensor(x.shape, x.dtype)


def test_all_problems_of_a_file_are_in_one_message(tmp_path: Path) -> None:
    given = keras.Input((4,))
    x = layers.Lambda(lambda value: value * 2, name="twice")(given)
    inner = keras.Sequential([Own(name="own"), layers.RandomContrast(0.1, name="contrast")], name="inner")
    x = Squared(name="squared")(inner(layers.Reshape((2, 2, 1))(x)))
    keras.Model(given, keras.ops.nanmax(x, axis=1)).save(tmp_path / "model.keras")
    with pytest.raises(UnsupportedLayerError, match=r"5 problems in model\.keras") as raised:
        k3c.convert(tmp_path / "model.keras")
    for text in (
        "twice",
        "inner/own",
        "inner/contrast",
        "squared",
        r"nanmax\S*  .*keras.ops.nanmax: it is for data with",
    ):
        assert re.search(rf"^  {text}", str(raised.value), re.MULTILINE)


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
@pytest.mark.filterwarnings("ignore:.*HDF5 file")
def test_a_file_with_its_architecture_is_converted(name: str, tmp_path: Path) -> None:
    model = randomised(residual())
    model.save(tmp_path / name)
    conversion = k3c.convert(tmp_path / name)
    assert conversion.report is not None
    conversion.report.raise_if_failed()
    given = torch.randn(2, 3, 9, 8)
    expected = k3c.convert(model, validate=False).model(given)
    assert torch.equal(conversion.model(given), expected)


def test_an_architecture_and_its_weights_are_converted(tmp_path: Path) -> None:
    model = randomised(residual())
    (tmp_path / "model.json").write_text(model.to_json())
    model.save_weights(tmp_path / "model.weights.h5")
    conversion = k3c.convert(tmp_path / "model.json", weights=tmp_path / "model.weights.h5")
    given = torch.randn(2, 3, 9, 8)
    assert torch.equal(conversion.model(given), k3c.convert(model, validate=False).model(given))


def test_an_architecture_without_weights_is_refused_with_the_argument_to_pass(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(residual().to_json())
    with pytest.raises(InputError, match=r'weights="model\.weights\.h5"'):
        k3c.convert(tmp_path / "model.json")


def test_weights_without_an_architecture_are_refused(tmp_path: Path) -> None:
    residual().save_weights(tmp_path / "model.weights.h5")
    with pytest.raises(InputError, match=r"contains weights, but no architecture"):
        k3c.convert(tmp_path / "model.weights.h5")


@pytest.mark.parametrize("text", ["{}", "[1]", "nothing", '{"class_name": "Functional", "config": 3}'])
def test_a_json_file_without_an_architecture_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(MalformedCheckpoint):
        k3c.convert(tmp_path / "model.json", weights=tmp_path / "model.weights.h5")


def test_code_in_a_file_is_refused_in_one_message_and_never_run(tmp_path: Path) -> None:
    hostile().save(tmp_path / "model.keras")
    (tmp_path / "model.json").write_text(hostile().to_json())
    for path, weights in ((tmp_path / "model.keras", None), (tmp_path / "model.json", tmp_path / "model.weights.h5")):
        with pytest.raises(UnsupportedLayerError) as caught:
            k3c.convert(path, weights=weights)
        said = str(caught.value)
        assert said.startswith("3 problems in model")
        assert all(name in said for name in ("twice", "own", "more"))
        assert "no code is ever run from a file" in said
        assert "k3c.convert(make_model()" in said


def test_the_functions_of_a_live_model_are_traced() -> None:
    conversion = k3c.convert(hostile())
    assert conversion.report is not None
    conversion.report.raise_if_failed()


def test_the_command_writes_the_folder_and_prints_the_certificate(tmp_path: Path) -> None:
    randomised(residual()).save(tmp_path / "model.keras")
    finished = run("convert", str(tmp_path / "model.keras"), "-o", str(tmp_path / "folder"))
    assert finished.exit_code == 0, finished.output
    assert (tmp_path / "folder" / "model.py").exists()
    again = run("convert", str(tmp_path / "model.keras"), "-o", str(tmp_path / "folder"))
    assert again.exit_code == 2
    assert "exists" in again.output


def test_a_file_of_a_model_without_weights_is_converted(tmp_path: Path) -> None:
    given = keras.Input((8, 6, 3))
    keras.Model(given, layers.MaxPooling2D()(layers.ReLU()(given))).save(tmp_path / "model.keras")
    conversion = k3c.convert(tmp_path / "model.keras")
    assert conversion.report is not None
    assert conversion.report.ok
    images = torch.randn(2, 3, 8, 6)
    assert torch.equal(conversion.model(images), torch.nn.functional.max_pool2d(images.relu(), 2))


def test_layers_that_prepare_data_are_refused_in_one_message() -> None:
    given = keras.Input((4,), dtype="int32")
    x = layers.CategoryEncoding(5, output_mode="multi_hot", name="encoding")(given)
    y = layers.Discretization([1.0, 2.0], name="bins")(keras.ops.cast(given, "float32"))
    model = keras.Model(given, [layers.Dense(2)(x), layers.Dense(2)(keras.ops.cast(y, "float32"))])
    with pytest.raises(UnsupportedLayerError, match="2 problems") as caught:
        k3c.convert(model)
    said = str(caught.value)
    assert said.count("run it on the data, before the model") == 2
