"""The public functions on every backend of Keras: align, transfer in both directions, validate, write files."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.frameworks.keras import model as keras_side
from tests.support.models import randomize


class Net(nn.Module):
    """Convolution, batch norm, depthwise convolution, pooling, two dense layers of one shape, one called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.b = nn.Linear(6, 6)
        self.a = nn.Linear(6, 6)
        self.norm = nn.BatchNorm2d(6)
        self.conv = nn.Conv2d(3, 6, (3, 2))
        self.depthwise = nn.Conv2d(6, 6, 3, groups=6, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        x = self.depthwise(x).mean((2, 3))
        return self.b(torch.tanh(self.a(torch.tanh(self.a(x)))))


def layers() -> dict[str, keras.layers.Layer]:
    return {
        "stem": keras.layers.Conv2D(6, (3, 2), name="stem"),
        "stem_bn": keras.layers.BatchNormalization(epsilon=1e-5, name="stem_bn"),
        "spatial": keras.layers.DepthwiseConv2D(3, padding="same", name="spatial"),
        "shared": keras.layers.Dense(6, activation="tanh", name="shared"),
        "head": keras.layers.Dense(6, name="head"),
    }


def connect(parts: dict[str, keras.layers.Layer], x: object) -> object:
    x = keras.ops.relu(parts["stem_bn"](parts["stem"](x)))
    x = keras.ops.mean(parts["spatial"](x), axis=(1, 2))
    return parts["head"](parts["shared"](parts["shared"](x)))


def functional() -> keras.Model:
    inputs = keras.Input((9, 8, 3))
    return keras.Model(inputs, connect(layers(), inputs), name="functional")


def nested() -> keras.Model:
    parts = layers()
    inner_input = keras.Input((7, 7, 6))
    inner = keras.Model(inner_input, keras.ops.mean(parts["spatial"](inner_input), axis=(1, 2)), name="inner")
    inputs = keras.Input((9, 8, 3))
    x = inner(keras.ops.relu(parts["stem_bn"](parts["stem"](inputs))))
    return keras.Model(inputs, parts["head"](parts["shared"](parts["shared"](x))), name="outer")


class Subclassed(keras.Model):
    """The same network as a subclassed model."""

    def __init__(self) -> None:
        super().__init__(name="subclassed")
        self.parts = layers()

    def build(self, shape: object) -> None:
        self.built = True

    def call(self, x: object, training: bool = False) -> object:
        return connect(self.parts, x)


IMAGES = np.random.default_rng(0).standard_normal((2, 3, 9, 8)).astype(np.float32)


def subclassed() -> keras.Model:
    model = Subclassed()
    model(np.moveaxis(IMAGES, 1, -1))
    return model


MODELS = pytest.mark.parametrize("make", [functional, nested, subclassed], ids=lambda make: make.__name__)


@MODELS
def test_a_transferred_model_passes_validation(make: Callable[[], keras.Model]) -> None:
    module, model = randomize(Net()), make()
    plan = k3c.align(module, model, inputs=IMAGES).check()
    assert {pair.torch: pair.keras.rpartition("/")[2] for pair in plan.pairs} == {
        "a": "shared",
        "b": "head",
        "norm": "stem_bn",
        "conv": "stem",
        "depthwise": "spatial",
    }
    k3c.transfer(module, model, plan)
    report = k3c.validate(module, model, inputs=IMAGES, alignment=plan)
    report.raise_if_failed()
    assert report.tally == "7 passed"
    assert report.environment["KERAS_BACKEND"] == keras_side.backend()


@MODELS
def test_a_round_trip_returns_the_same_bits(make: Callable[[], keras.Model]) -> None:
    module, other, model = randomize(Net()), randomize(Net(), seed=1), make()
    plan = k3c.align(module, model, inputs=IMAGES)
    k3c.transfer(module, model, plan)
    k3c.transfer(model, other, plan)
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, other.get_parameter(name)), name


def test_a_wrong_epsilon_is_caught_by_the_float64_proof() -> None:
    module, model = randomize(Net()), functional()
    model.get_layer("stem_bn").epsilon = 1.001e-5
    k3c.transfer(module, model, k3c.align(module, model), accept_difference=True)
    section = k3c.validate(module, model).section("float64")
    assert section.status == "failed"
    assert section.problems[0].torch == "norm"


def test_a_factor_of_one_in_a_million_is_caught_by_the_float64_proof() -> None:
    module, model = randomize(Net()), functional()
    k3c.transfer(module, model, k3c.align(module, model))
    scaled = keras.Model(model.inputs, keras.tree.map_structure(lambda x: x * (1.0 + 1e-6), model.outputs))
    plan = k3c.align(module, scaled, probe=False).check()
    assert k3c.validate(module, scaled, alignment=plan).section("float64").status == "failed"


class Rescaled(nn.Module):
    """A rescaling whose factor float32 cannot represent, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x * (1 / 100.0) - 0.3)


def test_the_constants_of_a_rescaling_are_float64_in_a_float64_run() -> None:
    inputs = keras.Input((6,))
    model = keras.Model(inputs, keras.layers.Dense(3, name="head")(keras.layers.Rescaling(1 / 100.0, -0.3)(inputs)))
    module = randomize(Rescaled())
    plan = k3c.align(module, model, probe=False).check()
    report = k3c.validate(module, model, alignment=plan, proofs=("float64", "gradients"))
    report.raise_if_failed()
    assert report.ok


def test_a_change_of_the_source_after_a_transfer_leaves_the_target_unchanged() -> None:
    module, model = randomize(Net()), functional()
    k3c.transfer(module, model, k3c.align(module, model))
    before = [np.array(keras_side.to_numpy(variable)) for variable in model.variables]
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.zero_()
    now = [keras_side.to_numpy(variable) for variable in model.variables]
    assert all(np.array_equal(first, second) for first, second in zip(before, now, strict=True))


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5", ".h5"])
def test_written_files_load_in_keras_and_align_again(tmp_path: Path, suffix: str) -> None:
    module, model = randomize(Net()), functional()
    path = tmp_path / f"model{suffix}"
    k3c.transfer(module, model, k3c.align(module, model), out=path)
    fresh = functional()
    if suffix == ".keras":
        fresh = keras.saving.load_model(path, compile=False)
    else:  # Keras does not load the architecture of an .h5 that has operations in it
        fresh.load_weights(path)
    for first, second in zip(model.variables, fresh.variables, strict=True):
        assert np.array_equal(keras_side.to_numpy(first), keras_side.to_numpy(second)), first.path
    other = randomize(Net(), seed=1)
    k3c.transfer(path, other, k3c.align(other, path, inputs=IMAGES, hints={"a": "shared", "b": "head"}))
    assert torch.equal(other.b.weight, module.b.weight)
