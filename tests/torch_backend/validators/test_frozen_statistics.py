"""Batch normalisations that keep their moving statistics in training mode, on one side or on both."""

from typing import Any

import keras
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody gives it
from keras import layers
from torch import nn

import keras3conv as k3c


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.head = nn.BatchNorm1d(4), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.head(self.normalised(x))
        return made

    def normalised(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.norm(x)
        return made


class Functional(Net):
    """Calls the function, which always takes the moving statistics."""

    def normalised(self, x: torch.Tensor) -> torch.Tensor:
        norm = self.norm
        assert norm.running_mean is not None
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps)


class Frozen(Net):
    """Keeps the layer in evaluation mode, as in the training of detectors."""

    def train(self, mode: bool = True) -> "Frozen":
        super().train(mode)
        self.norm.eval()
        return self


def network(*, trainable: bool) -> keras.Model:
    given = keras.Input((4,))
    norm = layers.BatchNormalization(epsilon=1e-5, momentum=0.9, name="norm", trainable=trainable)
    return keras.Model(given, layers.Dense(3, name="head")(norm(given)))


class OwnCall(keras.Model):
    """A model whose code decides in which mode the batch normalization runs."""

    def __init__(self, mode: bool | None) -> None:
        super().__init__()
        self.mode = mode
        self.norm = layers.BatchNormalization(epsilon=1e-5, momentum=0.9, name="norm")
        self.head = layers.Dense(3, name="head")
        self(np.zeros((2, 4), np.float32))

    def call(self, x: Any, training: bool | None = None) -> Any:
        return self.head(self.norm(x, training=training if self.mode is None else self.mode))


def gradients(module: nn.Module, model: keras.Model, **options: Any) -> Any:
    plan = k3c.align(module, model, probe=False)
    k3c.transfer(module, model, plan)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    flags = [child.training for child in module.modules()]
    report = k3c.validate(module, model, inputs=torch.randn(5, 4), alignment=plan, proofs=["gradients"], **options)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert flags == [child.training for child in module.modules()]
    return report.section("gradients")


@pytest.mark.parametrize(
    ("module", "trainable", "fix"),
    [(Functional, True, "trainable=False"), (Frozen, True, "trainable=False"), (Net, False, "trainable=True")],
)
def test_statistics_of_the_batch_on_one_side_only_are_not_alike_in_training(
    module: type[Net], trainable: bool, fix: str
) -> None:
    section = gradients(module().eval(), network(trainable=trainable))
    assert section.status == "passed", section.problems
    assert "1 batch normalisation not alike in training mode" in section.summary
    assert "norm: in training mode" in section.facts["not alike in training mode"]
    strict = gradients(module().eval(), network(trainable=trainable), training=True)
    assert strict.status == "failed"
    assert strict.problems[0].fixes == (f"{fix}  # Keras: norm",)
    repaired = gradients(module().eval(), network(trainable=not trainable), training=True)
    assert repaired.status == "passed", repaired.problems


@pytest.mark.parametrize("module", [Functional, Frozen])
def test_statistics_that_both_sides_keep_are_listed_as_frozen(module: type[Net]) -> None:
    section = gradients(module().eval(), network(trainable=False), training=True)
    assert section.status == "passed", section.problems
    assert section.facts["frozen on both sides"] == "norm"
    assert "one step in training mode" not in section.summary


def test_statistics_of_the_batch_on_both_sides_are_compared_in_one_step() -> None:
    section = gradients(Net().eval(), network(trainable=True), training=True)
    assert section.status == "passed", section.problems
    assert "one step in training mode" in section.summary


def test_statistics_that_keras_corrects_in_training_are_not_alike_and_fail_only_with_training() -> None:
    given = keras.Input((4,))
    norm = layers.BatchNormalization(epsilon=1e-5, momentum=0.9, renorm=True, name="norm")
    model = keras.Model(given, layers.Dense(3, name="head")(norm(given)))
    conversion = k3c.convert(model, inputs=torch.randn(5, 4))
    assert conversion.report is not None
    assert conversion.report.ok, conversion.report
    section = conversion.report.section("gradients")
    assert "1 batch normalisation not alike in training mode" in section.summary
    assert "renorm=True" in section.facts["not alike in training mode"]
    options: dict[str, Any] = {"inputs": torch.randn(5, 4), "alignment": conversion.alignment}
    strict = k3c.validate(conversion.model, model, training=True, proofs=["gradients"], **options)
    assert "towards its moving statistics (renorm=True)" in strict.section("gradients").problems[0].fact


def test_a_keras_layer_called_with_training_false_keeps_its_moving_statistics() -> None:
    section = gradients(Net().eval(), OwnCall(mode=False))
    assert section.status == "passed", section.problems
    assert "1 batch normalisation not alike in training mode" in section.summary
    strict = gradients(Net().eval(), OwnCall(mode=False), training=True)
    assert strict.status == "failed"
    assert strict.problems[0].fixes == ("training=training  # Keras: in the call of norm, instead of training=False",)
    repaired = gradients(Net().eval(), OwnCall(mode=None), training=True)
    assert repaired.status == "passed", repaired.problems
    assert "one step in training mode" in repaired.summary
    frozen = gradients(Frozen().eval(), OwnCall(mode=False), training=True)
    assert frozen.status == "passed", frozen.problems
    assert frozen.facts["frozen on both sides"] == "norm"
