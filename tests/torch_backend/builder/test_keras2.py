"""Conversion of files that Keras 2 wrote, without TensorFlow, compared with outputs that were stored by Keras 2.

The files were written by Keras 2.3.1 and by TensorFlow 2.1, 2.4 and 2.15: see `tests/keras2_files/make.py`.
"""

import json
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import torch

import keras3conv as k3c
from keras3conv.errors import MalformedCheckpoint, ModelError, UnsupportedLayerError
from keras3conv.formats.keras2 import file as keras2_file
from keras3conv.formats.keras2.network import network_of
from keras3conv.formats.keras2.operations import applied
from keras3conv.frameworks.keras.keras2.building import build
from keras3conv.frameworks.keras.keras2.classes import hard_sigmoid_of_keras_2, settings_of_training
from keras3conv.frameworks.keras.keras2.problems import problems_in
from tests.support.cli_runs import run

FILES = Path(__file__).resolve().parents[2] / "keras2_files"
READ = sorted(path for path in FILES.glob("*/*.h5") if path.stem != "refused")
REFUSED = sorted(FILES.glob("*/refused.h5"))


def named(path: Path) -> str:
    return f"{path.parent.name}-{path.stem}"


def arrays(path: Path, kind: str) -> list[Any]:
    with np.load(path.with_suffix(".npz")) as stored:
        return [stored[name] for name in stored.files if name.startswith(kind)]


def returned(conversion: Any, path: Path) -> list[Any]:
    """Return the outputs of the module for the stored inputs, in the axis order of Keras."""
    given = [
        torch.from_numpy(np.ascontiguousarray(array.transpose(value.order)))
        for array, value in zip(arrays(path, "input"), conversion.program.inputs, strict=True)
    ]
    with torch.no_grad():
        found = conversion.model(*given)
    flat = list(found) if isinstance(found, list | tuple) else [found]
    orders = conversion.program.output_orders
    return [one.numpy().transpose(np.argsort(order)) for one, order in zip(flat, orders, strict=True)]


@pytest.mark.parametrize("path", READ, ids=named)
def test_a_converted_keras_2_file_returns_the_outputs_stored_by_keras_2(path: Path) -> None:
    conversion = k3c.convert(path, validate=path.parent.name == "tensorflow-2.15.1")
    if conversion.report is not None:
        conversion.report.raise_if_failed()
    for found, expected in zip(returned(conversion, path), arrays(path, "output"), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("version", ["keras-2.3.1", "tensorflow-2.4.4", "tensorflow-2.15.1"])
def test_a_regularizer_of_keras_2_is_named_although_it_is_not_converted(version: str) -> None:
    report = k3c.convert(FILES / version / "convolutions.h5").report
    assert report is not None
    facts = report.section("hyperparameters").facts
    assert "kernel_regularizer" in facts["acts in training, not converted"]


def test_only_regularizers_and_constraints_of_keras_with_numbers_are_made() -> None:
    config = {
        "kernel_regularizer": {"class_name": "L1L2", "config": {"l1": 0.5, "l2": 0.25, "unknown": 1}},
        "bias_regularizer": {"class_name": "Own", "config": {}},
        "activity_regularizer": {"class_name": "L2", "config": {"l2": "a text"}},
        "kernel_constraint": {"class_name": "MaxNorm", "config": {"max_value": 2, "axis": 0}},
        "bias_constraint": {"class_name": ["NonNeg"], "config": []},
    }
    made = settings_of_training(config, set(config))
    assert sorted(made) == ["kernel_constraint", "kernel_regularizer"]
    assert made["kernel_regularizer"].get_config() == {"l1": 0.5, "l2": 0.25}
    assert made["kernel_constraint"].get_config() == {"max_value": 2, "axis": 0}
    assert not settings_of_training(config, set())


def test_the_files_are_from_four_versions() -> None:
    assert len({path.parent for path in READ}) == 4
    assert len(READ) >= 24


def test_an_architecture_of_keras_2_with_its_weights_is_converted(tmp_path: Path) -> None:
    path = FILES / "tensorflow-2.4.4" / "recurrent.h5"
    with h5py.File(path) as file, h5py.File(tmp_path / "weights.h5", "w") as weights:
        config = {**json.loads(file.attrs["model_config"]), "keras_version": "2.4.0"}
        for name, group in file["model_weights"].items():
            file.copy(group, weights, name)
        weights.attrs.update(file["model_weights"].attrs)
    (tmp_path / "model.json").write_text(json.dumps(config))
    conversion = k3c.convert(tmp_path / "model.json", weights=tmp_path / "weights.h5", validate=False)
    np.testing.assert_allclose(returned(conversion, path)[0], arrays(path, "output")[0], rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("path", REFUSED, ids=named)
def test_all_unsupported_layers_of_a_keras_2_file_are_in_one_message(path: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedLayerError) as caught:
        k3c.convert(path)
    said = str(caught.value)
    assert "local" in said
    assert "Keras 3 has no layer of this class" in said
    assert "no code is ever run from a file" in said
    if path.parent.name != "keras-2.3.1":
        assert "lgamma" in said.lower()
        assert said.startswith("3 problems in refused.h5")
    finished = run("convert", str(path), "-o", str(tmp_path / "folder"))
    assert finished.exit_code == 2
    assert not (tmp_path / "folder").exists()


def sequential(*layers: dict[str, Any]) -> dict[str, Any]:
    first = {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 4, 4, 2], "name": "given"}}
    return {"class_name": "Sequential", "config": {"name": "model", "layers": [first, *layers]}}


def test_an_unknown_setting_is_refused_if_it_changes_the_result_and_ignored_if_not() -> None:
    renorm = {"class_name": "BatchNormalizationV1", "config": {"name": "norm", "axis": [3], "virtual_batch_size": 8}}
    plain = {"class_name": "BatchNormalizationV2", "config": {"name": "plain", "axis": [3], "renorm": False}}
    own = {"class_name": "Dense", "config": {"name": "dense", "units": 2, "activation": "mine"}}
    problems = list(problems_in(sequential(renorm, plain, own), "2.2.4-tf", "own code"))
    assert [problem.keras for problem in problems] == ["norm", "dense"]
    assert "virtual_batch_size=8" in problems[0].fact
    assert "'mine'" in problems[1].fact


def test_an_interpolation_with_another_meaning_in_keras_2_is_refused() -> None:
    layer = {"class_name": "UpSampling2D", "config": {"name": "up", "interpolation": "bilinear"}}
    assert list(problems_in(sequential(layer), "2.3.1", ""))
    assert not list(problems_in(sequential(layer), "2.3.0-tf", ""))


def test_old_policies_and_class_names_are_translated() -> None:
    policy = {"class_name": "Policy", "config": {"name": "float32"}}
    layer = {"class_name": "BatchNormalizationV1", "config": {"name": "norm", "axis": [3], "dtype": policy}}
    model = build(sequential(layer), lambda name: {}).model
    assert isinstance(model.layers[-1], keras.layers.BatchNormalization)
    assert model.layers[-1].axis == 3


def test_a_layer_whose_variables_do_not_fit_the_architecture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.h5"
    path.write_bytes((FILES / "tensorflow-2.4.4" / "nested.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        group = file["model_weights"]["tower"]
        kernel = group["dense/kernel:0"][()]
        del group["dense/kernel:0"]
        group["dense/kernel:0"] = kernel[:, :-1]
    with pytest.raises(
        ModelError,
        match=r"tower/dense .* the file has kernel of shape \(5, 5\) where Keras 3 has kernel of shape \(5, 6\)",
    ):
        k3c.convert(path)


def test_a_cycle_of_layers_is_an_error() -> None:
    entries = [
        {"class_name": "Dense", "name": name, "config": {"name": name}, "inbound_nodes": [[[other, 0, 0, {}]]]}
        for name, other in (("a", "b"), ("b", "a"))
    ]
    network = network_of({"layers": entries, "input_layers": [], "output_layers": [["a", 0, 0]]})
    with pytest.raises(MalformedCheckpoint, match="in a circle, or on a missing layer: a, b"):
        network.in_order()


def test_a_tensorflow_function_may_have_a_constant_as_its_first_argument() -> None:
    entry: dict[str, Any] = {
        "class_name": "TFOpLambda",
        "name": "tf",
        "config": {"name": "tf", "function": "math.subtract"},
    }
    given = {"class_name": "InputLayer", "name": "x", "config": {"name": "x"}, "inbound_nodes": []}
    node = ["_CONSTANT_VALUE", -1, 1.0, {"y": ["x", 0, 0], "name": None}]
    network = network_of({"layers": [given, {**entry, "inbound_nodes": [node]}], "output_layers": [["tf", 0, 0]]})
    (call,) = network.calls
    found = applied("TFOpLambda", entry["config"], call.argument, call.keywords)
    assert found.name == "subtract"
    assert found.arguments["x1"] == 1.0
    assert found.arguments["x2"].layer == "x"


def test_the_hard_sigmoid_of_keras_2_differs_from_that_of_keras_3() -> None:
    given = np.linspace(-4, 4, 9, dtype="float32")
    ours = keras.ops.convert_to_numpy(hard_sigmoid_of_keras_2(given))
    np.testing.assert_allclose(ours, np.clip(0.2 * given + 0.5, 0, 1), rtol=1e-6)
    theirs = keras.ops.convert_to_numpy(keras.activations.hard_sigmoid(keras.ops.convert_to_tensor(given)))
    assert np.abs(ours - theirs).max() > 0.02


@pytest.mark.parametrize(
    ("name", "role"), [("dense/kernel:0", "kernel"), ("b'rnn_1/kernel:0'_2", "kernel"), ("mean:0", "mean")]
)
def test_the_role_of_a_variable_is_the_end_of_its_name(name: str, role: str) -> None:
    assert keras2_file.role_of(name) == role
