"""A certificate of the outputs alone runs each model once, and explains differences like a full one."""

from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.errors import InputError, ModelError
from keras3conv.frameworks.keras import model as keras_side
from keras3conv.frameworks.keras import view as keras_view
from keras3conv.frameworks.torch import module as torch_side
from keras3conv.transforms import Array
from tests.support.models import randomize


class Net(nn.Module):
    """A convolution, a norm, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.relu(self.norm(self.conv(x))).mean((2, 3)))


def twin() -> keras.Model:
    inputs = keras.Input((6, 7, 3))
    x = keras.layers.BatchNormalization(epsilon=1e-5, name="norm")(keras.layers.Conv2D(4, 3, name="conv")(inputs))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x))
    return keras.Model(inputs, keras.layers.Dense(5, name="fc")(x), name="twin")


def images(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape).astype("float32")


def with_equal_weights() -> tuple[nn.Module, keras.Model, k3c.Alignment]:
    module, model = randomize(Net()), twin()
    plan = k3c.align(module, model).check()
    k3c.transfer(module, model, plan)
    return module, model, plan


def test_layers_are_not_inspected_if_no_proof_needs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    module, model, plan = with_equal_weights()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("this is not needed to compare outputs")

    for name in ("_config", "file_locations", "_attribute_names"):
        monkeypatch.setattr(keras_view, name, refuse)
    monkeypatch.setattr(keras_side, "_recording", refuse)
    monkeypatch.setattr(torch_side, "forward_calls", refuse)
    tolerance = k3c.Tolerance(absolute=1e-5, relative=1e-5)
    report = k3c.validate(
        module, model, inputs=images(2, 3, 6, 7), alignment=plan, proofs=["outputs"], tolerance=tolerance
    )
    assert report.ok
    with pytest.raises(AssertionError, match="not needed"):
        k3c.validate(module, model, inputs=images(2, 3, 6, 7), alignment=plan, proofs=["activations"])


def test_each_model_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    module, model, plan = with_equal_weights()
    ran: list[str] = []
    module.register_forward_hook(lambda *_: ran.append("torch"))
    called = keras.Model.__call__

    def counted(self: keras.Model, *args: Any, **kwargs: Any) -> Any:
        ran.append("keras")
        return called(self, *args, **kwargs)

    monkeypatch.setattr(keras.Model, "__call__", counted)
    tolerance = k3c.Tolerance(absolute=1e-5, relative=1e-5)
    given: dict[str, Any] = {
        "inputs": images(2, 3, 6, 7),
        "alignment": plan,
        "proofs": ["outputs"],
        "tolerance": tolerance,
    }
    assert k3c.validate(module, model, **given).ok
    assert sorted(ran) == ["keras", "torch"]


def test_a_difference_is_explained_when_only_outputs_are_compared() -> None:
    module, model, plan = with_equal_weights()
    ended = keras.Model(model.input, keras.ops.softmax(model.output), name="twin")
    report = k3c.validate(module, ended, inputs=images(2, 3, 6, 7), alignment=plan, proofs=["outputs"])
    (problem,) = report.section("outputs").problems
    assert "softmax" in problem.fact


@pytest.mark.parametrize("proofs", [None, ["outputs"]], ids=["all", "outputs"])
def test_a_plan_for_other_models_fails_and_names_them_with_examples(proofs: list[str] | None) -> None:
    module, model, _ = with_equal_weights()
    inputs = keras.Input((4,))
    other = keras.Model(inputs, keras.layers.Dense(3, name="fc")(inputs), name="other")
    plan = k3c.align(nn.Sequential(nn.Linear(4, 3)), other)
    report = k3c.validate(module, model, inputs=images(2, 3, 6, 7), alignment=plan, proofs=proofs)
    section, *others = report.sections
    assert section.summary.startswith("the plan is for other models")
    facts = [problem.fact for problem in section.problems]
    assert "the plan has this tensor, of shape (3, 4), but the model does not" in facts
    made_for = "the plan was made for Sequential (torch) and other (keras), not for Net (torch) and twin (keras)"
    assert facts[0] == f"{made_for} (19 differences)"
    assert section.tables == ()
    assert {other.status for other in others} == {"skipped"}


def test_an_exception_names_the_layer_although_layers_are_not_recorded() -> None:
    module, model, plan = with_equal_weights()
    with pytest.raises(ModelError, match=r"  conv  \(torch\)  RuntimeError"):
        k3c.validate(module, model, inputs=images(2, 3, 6, 7).astype("float64"), alignment=plan, proofs=["outputs"])


def test_inputs_without_a_sample_are_refused() -> None:
    module, model, plan = with_equal_weights()
    with pytest.raises(InputError, match=r"the input of the torch side is empty, with shape \(0, 3, 6, 7\)"):
        k3c.validate(module, model, inputs=images(0, 3, 6, 7), alignment=plan)


def test_infinite_inputs_fail() -> None:
    module, model, plan = with_equal_weights()
    inputs = images(2, 3, 6, 7)
    inputs[0, 0, 0, 0] = np.inf
    report = k3c.validate(module, model, inputs=inputs, alignment=plan)
    assert {"float64", "outputs"} <= {section.name for section in report.with_status("failed")}


@pytest.mark.parametrize(
    ("proof", "line"), [("backends", 'backends="all"'), ("accuracy", "labels=labels"), ("onnx", "onnx=True")]
)
def test_a_proof_that_needs_an_argument_is_refused_with_that_argument(proof: str, line: str) -> None:
    module, model, plan = with_equal_weights()
    with pytest.raises(InputError) as caught:
        k3c.validate(module, model, alignment=plan, proofs=[proof])
    assert str(caught.value).endswith(f"\nFix:  {line}")


def test_the_size_of_large_outputs_is_stated_beside_their_difference() -> None:
    module, model, plan = with_equal_weights()
    assert (
        "at values up to" not in k3c.validate(module, model, plan=plan, proofs=["outputs"]).section("outputs").summary
    )
    with torch.no_grad():
        module.fc.weight.mul_(1e5)  # type: ignore[operator, union-attr]
    k3c.transfer(module, model, plan)
    summary = k3c.validate(module, model, plan=plan, proofs=["outputs"]).section("outputs").summary
    assert ", at values up to " in summary
