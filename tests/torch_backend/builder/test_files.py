"""Conversion of files, and files that are refused before any of their code runs."""

import hashlib
import json
import re
from pathlib import Path

import keras
import pytest
import torch
from safetensors.torch import load_file, save_file

import keras3conv as k3c
from keras3conv.errors import InputError, MalformedCheckpoint, UnsupportedLayerError
from keras3conv.report.digests import named_files
from tests.support.cli_runs import run
from tests.torch_backend.builder.test_convert import randomised, residual

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
    inner = keras.Sequential([Own(name="own"), layers.RandomCrop(2, 1, name="crop")], name="inner")
    x = Squared(name="squared")(inner(layers.Reshape((2, 2, 1))(x)))
    keras.Model(given, keras.ops.nanmax(x, axis=1)).save(tmp_path / "model.keras")
    with pytest.raises(UnsupportedLayerError, match=r"5 problems in model\.keras") as raised:
        k3c.convert(tmp_path / "model.keras")
    for text in (
        "twice",
        "inner/own",
        "inner/crop",
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


@pytest.mark.slow
def test_the_command_writes_the_folder_and_prints_the_certificate(tmp_path: Path) -> None:
    randomised(residual()).save(tmp_path / "model.keras")
    finished = run("convert", str(tmp_path / "model.keras"), "-o", str(tmp_path / "folder"))
    assert finished.exit_code == 0, finished.output
    assert (tmp_path / "folder" / "model.py").exists()
    again = run("convert", str(tmp_path / "model.keras"), "-o", str(tmp_path / "folder"))
    assert again.exit_code == 2
    assert "exists" in again.output


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def report_of(folder: Path) -> k3c.Report:
    return k3c.Report.from_json((folder / "report.json").read_text())


def sources_of(folder: Path) -> dict[str, str]:
    """Return the digests of the sources in the `metadata.json` of a folder, by name."""
    sources = json.loads((folder / "metadata.json").read_text())["sources"]
    return {source["path"]: source["sha256"] for source in sources}


def test_the_certificate_names_the_source_and_the_made_inputs_and_the_card_needs_the_same_files(tmp_path: Path) -> None:
    source, folder = tmp_path / "model.keras", tmp_path / "folder"
    given = keras.Input((4,))
    keras.Model(given, layers.Dense(3)(given)).save(source)
    assert run("convert", str(source), "-o", str(folder)).exit_code == 0
    notes = report_of(folder).notes
    assert notes[0] == "random inputs of shape (2, 4), seed 20240229, made by convert"
    assert f"model.keras: {source.stat().st_size:,} bytes, sha256 {sha256(source)}" in notes
    assert sources_of(folder) == {"model.keras": sha256(source)}

    card = run("card", str(folder), "--source", str(source))
    assert card.exit_code == 0, card.output
    assert "does not name" not in card.output
    assert "not read by" not in card.output
    assert run("verify", str(folder)).exit_code == 0
    tensors = load_file(folder / "weights.safetensors")
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, folder / "weights.safetensors")
    refused = run("card", str(folder))
    assert refused.exit_code == 2
    assert "weights.safetensors is not the file that this certificate was made for" in " ".join(refused.output.split())
    assert run("verify", str(folder / "weights.safetensors")).exit_code == 1


@pytest.mark.slow
def test_the_certificate_names_the_code_and_the_weights_of_a_torch_module(tmp_path: Path) -> None:
    code, weights, folder = tmp_path / "net.py", tmp_path / "net.safetensors", tmp_path / "folder"
    code.write_text("from torch import nn\n\n\ndef make() -> nn.Module:\n    return nn.Sequential(nn.Linear(4, 3))\n")
    save_file(torch.nn.Sequential(torch.nn.Linear(4, 3)).state_dict(), weights)
    options = ("--torch-weights", str(weights), "--shape", "1,4", "-o", str(folder))
    finished = run("convert", f"{code}:make", *options)
    assert finished.exit_code == 0, finished.output
    assert report_of(folder).notes[0] == "random inputs of the given shape (1, 4), seed 20240229, made by convert"
    assert sources_of(folder) == {"net.py": sha256(code), "net.safetensors": sha256(weights)}
    assert {name for name, _ in named_files(report_of(folder))} >= {"net.py", "net.safetensors", "model.keras"}


def test_the_digests_of_an_architecture_and_its_weights_are_those_of_both_files(tmp_path: Path) -> None:
    given = keras.Input((4,))
    model = keras.Model(given, layers.Dense(3)(given))
    (tmp_path / "net.json").write_text(model.to_json())
    model.save_weights(tmp_path / "net.weights.h5")
    conversion = k3c.convert(tmp_path / "net.json", weights=tmp_path / "net.weights.h5", validate=False)
    digests = {file.path: file.sha256 for file in conversion.sources}
    assert digests == {name: sha256(tmp_path / name) for name in ("net.json", "net.weights.h5")}
    assert k3c.convert(model, validate=False).sources == ()


def test_a_file_of_a_model_without_weights_is_converted(tmp_path: Path) -> None:
    given = keras.Input((8, 6, 3))
    keras.Model(given, layers.MaxPooling2D()(layers.ReLU()(given))).save(tmp_path / "model.keras")
    conversion = k3c.convert(tmp_path / "model.keras")
    assert conversion.report is not None
    assert conversion.report.ok
    images = torch.randn(2, 3, 8, 6)
    assert torch.equal(conversion.model(images), torch.nn.functional.max_pool2d(images.relu(), 2))


def test_layers_that_prepare_data_are_refused_in_one_message() -> None:
    given = keras.Input((4,), dtype="int64")
    x = layers.IntegerLookup(vocabulary=[1, 3], name="looked_up")(given)
    y = layers.Hashing(3, name="hashed")(given)
    model = keras.Model(given, [layers.Embedding(4, 2)(x), layers.Embedding(3, 2)(y)])
    with pytest.raises(UnsupportedLayerError, match="2 problems") as caught:
        k3c.convert(model)
    said = str(caught.value)
    assert said.count("run it on the data, before the model") == 2
