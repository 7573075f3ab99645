"""The cross-check through ONNX on the backend of this process."""

from importlib.util import find_spec

import keras
import pytest
from torch import nn

import keras3conv as k3c
from keras3conv.frameworks.keras import model as keras_side
from keras3conv.report.values import Section
from keras3conv.validators.onnx import export as onnx_export
from tests.support.models import randomize

pytestmark = pytest.mark.slow

EXPORTERS = {"torch": "TorchScript exporter", "tensorflow": "tf2onnx", "jax": "jax2onnx"}


def checked(activation: str) -> Section:
    """Return the ONNX section of the report for a small pair whose Keras side has the given activation."""
    module = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6, eps=1e-3), nn.ReLU(), nn.Flatten(), nn.Linear(120, 4)
    )
    model = keras.Sequential(
        [
            keras.Input((4, 5, 3)),
            keras.layers.Conv2D(6, 3, padding="same"),
            keras.layers.BatchNormalization(),
            keras.layers.Activation(activation),
            keras.layers.Flatten(),
            keras.layers.Dense(4),
        ]
    )
    randomize(module)
    plan = k3c.align(module, model).accepting_difference().check()
    k3c.transfer(module, model, plan)
    return k3c.validate(module, model, alignment=plan, onnx=True, proofs=["onnx"]).section("onnx")


def test_the_exporter_that_ran_is_named_and_its_file_agrees() -> None:
    exporter = EXPORTERS[keras_side.backend()]
    if keras_side.backend() != "torch" and find_spec(exporter) is None:
        pytest.skip(f"{exporter} is not installed")
    section = checked("relu")
    told = section.facts["ONNX of Keras"]
    assert exporter in told
    assert "dynamo=True), opset" in section.facts["ONNX of torch"]
    assert section.status == "passed"
    assert ", opset " in told
    assert section.facts["ONNX of Keras, another batch"] == "agrees in a batch of 3 too"


def test_without_an_exporter_the_section_is_skipped_with_the_command_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(onnx_export, "_KERAS_EXPORTERS", {keras_side.backend(): "no_such_exporter"})
    section = checked("relu")
    assert section.status == "skipped"
    assert section.facts["ONNX of Keras"] in section.reason
    assert section.reason.startswith("there is no ONNX of Keras: Keras on ")
    assert section.reason.endswith("not installed: pip install no_such_exporter, or set KERAS_BACKEND=torch")


def test_a_difference_between_the_models_is_distinguished_from_a_bad_export() -> None:
    section = checked("softplus")
    assert section.status == "failed"
    fact = section.problems[0].fact
    assert "disagree" in fact
    if len(section.tables[0].rows) == 6:
        assert "each model agrees with its own export: the two models differ" in fact
