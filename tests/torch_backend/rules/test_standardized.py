"""Convolutions that standardise their kernel, against plain ones: what they convolve with is what moves."""

import inspect
from importlib import import_module

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.errors import ModelError
from keras3conv.frameworks.torch import derived as torch_derived
from keras3conv.frameworks.torch import module as torch_side
from keras3conv.frameworks.torch import standardized as torch_standardized
from tests.support import stand_ins
from tests.support.models import randomize

stand_ins.install()

IMAGES = np.random.default_rng(0).standard_normal((2, 3, 8, 9)).astype(np.float32)


class Net(nn.Module):
    """A standardised kernel, one with a gain in a class of somebody's own, and a layer after them."""

    def __init__(self) -> None:
        super().__init__()
        layers = import_module("timm.layers.std_conv")
        self.stem = layers.StdConv2d(3, 6, 3)
        self.body = type("Own", (layers.ScaledStdConv2d,), {})(6, 5, 3)
        self.head = nn.Linear(5, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.body(torch.relu(self.stem(images)))).mean((2, 3)))


def twin() -> keras.Model:
    inputs = keras.Input((8, 9, 3))
    x = keras.layers.Conv2D(6, 3, padding="same", use_bias=False, activation="relu", name="stem")(inputs)
    x = keras.layers.Conv2D(5, 3, activation="relu", name="body")(x)
    return keras.Model(inputs, keras.layers.Dense(4, name="head")(keras.ops.mean(x, (1, 2))), name="twin")


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_it_crosses_and_is_proven() -> None:
    module, model = randomize(Net()), twin()
    before = state(module)
    plan = k3c.align(module, model, inputs=IMAGES).check()
    k3c.transfer(module, model, plan)
    report = k3c.validate(module, model, inputs=IMAGES, alignment=plan)
    report.raise_if_failed()
    assert report.tally == "7 passed"
    assert "declared loss: computed in torch" in str(report)
    assert all(torch.equal(module.state_dict()[name], tensor) for name, tensor in before.items())


def test_what_is_written_is_what_it_convolves_with() -> None:
    module, other, model = randomize(Net(), 1), randomize(Net(), 2), twin()
    plan = k3c.align(module, model, inputs=IMAGES)
    k3c.transfer(module, model, plan)
    k3c.transfer(model, other, plan)
    for path in ("stem.weight", "body.weight"):
        first, second = (torch_side.view(one).read(path) for one in (module, other))
        assert np.abs(first - second).max() <= 4e-7 * np.abs(first).max()


def test_a_kernel_that_it_cannot_make_is_refused_and_nothing_is_written() -> None:
    module, model = randomize(Net()), twin()
    before = state(module)
    with pytest.raises(ModelError, match=r"stem\.weight .*StdConv2d standardises its weight"):
        k3c.transfer(model, module, k3c.align(module, model))
    assert all(torch.equal(module.state_dict()[name], tensor) for name, tensor in before.items())


def test_a_kernel_taken_as_it_is_kept_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    module, model = randomize(Net()), twin()
    monkeypatch.setattr(torch_derived, "is_standardized", lambda child: False)
    plan = k3c.align(module, model, inputs=IMAGES, hints={"stem": "stem", "body": "body", "head": "head"})
    plan = plan.ignore("body.gain", "the mistake on trial").check()
    k3c.transfer(module, model, plan)
    report = k3c.validate(module, model, inputs=IMAGES, alignment=plan)
    assert {section.name for section in report.sections if section.status == "failed"} >= {"float64", "outputs"}


def test_a_class_that_standardises_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    module = nn.Sequential(randomize(Net()).stem)
    monkeypatch.setattr(type(module[0]), "forward", nn.Conv2d.forward)
    with pytest.raises(ModelError, match="does not standardise its weight by batch_norm"):
        torch_side.run(module, IMAGES, float64=True)


def test_the_class_of_transformers_computes_the_kernel_that_is_seen() -> None:
    layers = pytest.importorskip("transformers.models.bit.modeling_bit")
    assert "in_channel" in inspect.signature(layers.WeightStandardizedConv2d).parameters
    layer = randomize(layers.WeightStandardizedConv2d(3, 4, 3, padding="SAME"))
    plain = nn.Conv2d(3, 4, 3, padding=1, bias=False)
    plain.weight.data = torch_standardized.standard_kernel(layer)
    images = torch.from_numpy(IMAGES)
    with torch.no_grad():
        assert torch.allclose(layer(images), plain(images), atol=1e-6)
