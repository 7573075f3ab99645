"""Conversion of Keras models to torch modules: source code, validation and saved folders."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch

import keras3conv as k3c
from keras3conv.errors import FileError, UnsupportedLayerError
from keras3conv.frameworks.keras import model as keras_side
from keras3conv.frameworks.torch.generated import instance_of

layers = keras.layers


def randomised(model: keras.Model) -> keras.Model:
    """Return the model with random weights, because zeros and ones would hide mistakes."""
    generator = np.random.default_rng(3)
    shapes = {tensor.path: tensor.shape for tensor in keras_side.view(model).tensors() if not tensor.is_seed}
    keras_side.write(
        model, {path: generator.uniform(0.2, 0.9, shape).astype("float32") for path, shape in shapes.items()}
    )
    return model


def residual() -> keras.Model:
    given = keras.Input((9, 8, 3))
    x = layers.Conv2D(6, 3, strides=2, padding="same", activation="relu", name="stem")(given)
    x = layers.BatchNormalization(name="stem_bn")(x)
    y = layers.Conv2D(6, 3, padding="same", name="inner")(x)
    x = layers.Activation("relu")(layers.Add()([x, y]))
    x = layers.Flatten()(x)
    return keras.Model(given, layers.Dense(4, activation="softmax", name="head")(x), name="residual")


def branches() -> keras.Model:
    image, number = keras.Input((8, 8, 4), name="image"), keras.Input((3,), name="number")
    left = layers.Conv2D(5, 1, name="left")(image)
    right = layers.DepthwiseConv2D(3, padding="same", name="right")(image)
    joined = layers.Concatenate()([left, right])
    pooled = layers.GlobalAveragePooling2D()(joined)
    gate = layers.Dense(9, activation="sigmoid", name="gate")(number)
    return keras.Model([image, number], {"mixed": pooled * gate, "map": joined}, name="branches")


def shared() -> keras.Model:
    dense = layers.Dense(5, name="twice")
    given = keras.Input((5,))
    return keras.Model(given, dense(dense(given)) + 1.5, name="shared")


def nested() -> keras.Model:
    inner = keras.Sequential([layers.Dense(7, activation="tanh", name="a"), layers.Dense(5, name="b")], name="inner")
    given = keras.Input((4,))
    return keras.Model(given, layers.Dense(2, name="out")(inner(given)), name="nested")


class Scaled(keras.layers.Layer):
    """A layer without a rule that calls a layer with a rule, a variable and operations."""

    def build(self, shape: Any) -> None:
        self.dense = layers.Dense(6, name="dense")
        self.dense.build(shape)
        self.scale = self.add_weight(shape=(6,), name="scale")

    def call(self, inputs: Any) -> Any:
        batch, height, width, channels = keras.ops.shape(inputs)
        flat = keras.ops.reshape(inputs, (batch, height * width, channels))
        return self.dense(flat) * self.scale


def custom() -> keras.Model:
    given = keras.Input((4, 5, 3))
    x = layers.Conv2D(3, 3, padding="same")(given)
    return keras.Model(given, Scaled(name="scaled")(x), name="custom")


MODELS: tuple[Callable[[], keras.Model], ...] = (residual, branches, shared, nested, custom)


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("channels", ["first", "last"])
def test_a_converted_model_passes_validation(make: Callable[[], keras.Model], channels: Any) -> None:
    conversion = k3c.convert(randomised(make()), channels=channels)
    assert conversion.report is not None
    conversion.report.raise_if_failed()


def test_the_source_code_makes_the_same_module() -> None:
    conversion = k3c.convert(randomised(residual()), validate=False)
    again = instance_of(conversion.source)
    again.load_state_dict(conversion.model.state_dict())
    given = torch.randn(2, 3, 9, 8)
    assert torch.equal(again(given), conversion.model(given))


def test_the_source_code_imports_only_torch() -> None:
    source = k3c.convert(residual(), validate=False).source
    imports = [line for line in source.splitlines() if line.startswith(("import", "from"))]
    assert imports == ["import torch", "import torch.nn.functional as F", "from torch import nn"]
    assert "self.stem = nn.Conv2d(3, 6, 3, stride=2, padding=(1, 0))" in source or "nn.ZeroPad2d" in source
    assert "permute" not in source


def test_all_layers_without_a_counterpart_are_in_one_message() -> None:
    given = keras.Input((8, 8, 3))
    x = layers.RandomCrop(8, 8, name="crop")(given)
    x = layers.Conv2D(3, 3, name="fine")(x)
    model = keras.Model(given, layers.Resizing(4, 4, name="resizing")(layers.RandomCrop(4, 4, name="again")(x)))
    with pytest.raises(UnsupportedLayerError) as caught:
        k3c.convert(model)
    assert all(name in str(caught.value) for name in ("crop", "again"))


@pytest.mark.parametrize("name", ['x"); open("pwned", "w")  #', "a\nb = 1", "класс", "self", "1"])
def test_the_name_of_a_layer_never_becomes_code(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = keras.Input((3,), name=f"{name} given")
    model = keras.Model(given, layers.Dense(2, name=name)(given), name=name)
    conversion = k3c.convert(model)
    assert conversion.report is not None
    assert conversion.report.ok
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
def test_validation_fails_without_an_activation() -> None:
    model = randomised(residual())
    conversion = k3c.convert(model, validate=False)
    wrong = instance_of(conversion.source.replace("F.relu(self.stem(x), inplace=True)", "self.stem(x)"))
    wrong.load_state_dict(conversion.model.state_dict())
    report = k3c.validate(wrong, model, inputs=conversion.inputs, alignment=conversion.alignment)
    assert not report.ok


@pytest.mark.slow
def test_a_model_with_layers_in_wrappers_is_converted_without_an_import_of_tensorflow(tmp_path: Path) -> None:
    given = keras.Input((6, 4))
    x = keras.layers.Bidirectional(keras.layers.GRU(3))(keras.layers.TimeDistributed(keras.layers.Dense(5))(given))
    keras.Model(given, x).save(tmp_path / "model.keras")
    code = "import sys, keras3conv; keras3conv.convert('model.keras'); assert 'tensorflow' not in sys.modules"
    path = os.pathsep.join(filter(None, sys.path))
    subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, env={"KERAS_BACKEND": "torch", "PYTHONPATH": path}
    )


@pytest.mark.slow
def test_a_saved_folder_works_without_keras_and_without_keras3conv(tmp_path: Path) -> None:
    model = randomised(residual())
    conversion = k3c.convert(model)
    conversion.save(tmp_path / "saved")
    given = torch.randn(2, 3, 9, 8)
    torch.save(given, tmp_path / "given.pt")
    code = (
        "import sys, torch; from safetensors.torch import load_file; from model import Model; m = Model().eval();"
        "m.load_state_dict(load_file('weights.safetensors')); torch.save(m(torch.load('../given.pt')), '../made.pt');"
        "assert not {'keras', 'keras3conv'} & {*sys.modules}"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "saved",
        check=True,
        env={"PYTHONPATH": ".", "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert torch.equal(torch.load(tmp_path / "made.pt"), conversion.model(given))
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == [
        "metadata.json",
        "model.py",
        "report.html",
        "report.json",
        "weights.safetensors",
    ]
    digest = hashlib.sha256((tmp_path / "saved" / "weights.safetensors").read_bytes()).hexdigest()
    assert digest in (tmp_path / "saved" / "report.html").read_text()


def test_the_metadata_has_the_keras_axes_of_outputs_that_were_only_transposed(tmp_path: Path) -> None:
    given = keras.Input((9, 8, 3))
    x = layers.Conv2D(5, 3)(given)
    k3c.convert(keras.Model(given, [x, keras.ops.transpose(x, (0, 3, 1, 2))]), validate=False).save(tmp_path / "saved")
    metadata = json.loads((tmp_path / "saved" / "metadata.json").read_text())
    assert [output["shape"] for output in metadata["outputs"]] == ["(batch, 5, 7, 6)"] * 2
    assert [output["keras_axes"] for output in metadata["outputs"]] == [[0, 3, 1, 2], [0, 1, 2, 3]]


def test_an_existing_folder_is_replaced_only_with_overwrite(tmp_path: Path) -> None:
    conversion = k3c.convert(shared(), validate=False)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "model.py").write_text("an earlier conversion")
    with pytest.raises(FileError, match="exists"):
        conversion.save(tmp_path / "old")
    assert (tmp_path / "old" / "model.py").read_text() == "an earlier conversion"
    conversion.save(tmp_path / "old", overwrite=True)
    assert (tmp_path / "old" / "model.py").read_text() == conversion.source
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_a_folder_with_the_users_own_files_is_never_replaced(tmp_path: Path) -> None:
    conversion = k3c.convert(shared(), validate=False)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "kept.txt").write_text("kept")
    with pytest.raises(FileError, match=r"another origin \(kept\.txt\), which would be deleted: choose another name"):
        conversion.save(tmp_path / "old", overwrite=True)
    assert [path.name for path in (tmp_path / "old").iterdir()] == ["kept.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_a_failed_save_leaves_the_old_folder_and_no_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversion = k3c.convert(shared(), validate=False)
    conversion.save(tmp_path / "folder")
    before = (tmp_path / "folder" / "model.py").read_bytes()

    def broken(*args: Any, **kwargs: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("keras3conv.formats.write", broken)
    with pytest.raises(FileError, match=r"cannot write .*folder: the disk is full; the old file is unchanged"):
        conversion.save(tmp_path / "folder", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert (tmp_path / "folder" / "model.py").read_bytes() == before


def test_a_compiled_live_model_is_converted() -> None:
    model = randomised(residual())
    model.compile("adam", "mse")
    report = k3c.convert(model).report
    assert report is not None
    assert report.ok
