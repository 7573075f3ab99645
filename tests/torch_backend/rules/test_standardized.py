"""Convolutions that standardise their kernel, against plain ones: the computed kernel is transferred."""

import inspect
from importlib import import_module

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.errors import AlignmentError, ModelError
from keras3conv.frameworks.torch import behaviour
from keras3conv.frameworks.torch import derived as torch_derived
from keras3conv.frameworks.torch import module as torch_side
from tests.support import stand_ins
from tests.support.models import randomize

stand_ins.install()

IMAGES = np.random.default_rng(0).standard_normal((2, 3, 8, 9)).astype(np.float32)


class Net(nn.Module):
    """A convolution with a standardised kernel, a custom class with a gain, and a linear layer."""

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


def test_standardized_convolutions_are_transferred_and_certified() -> None:
    module, model = randomize(Net()), twin()
    before = state(module)
    plan = k3c.align(module, model, inputs=IMAGES).check()
    k3c.transfer(module, model, plan)
    report = k3c.validate(module, model, inputs=IMAGES, alignment=plan)
    report.raise_if_failed()
    assert report.tally == "7 passed"
    assert "declared loss: torch computes the weight from other tensors" in str(report)
    assert all(torch.equal(module.state_dict()[name], tensor) for name, tensor in before.items())


def test_the_computed_kernel_equals_the_written_kernel() -> None:
    module, other, model = randomize(Net(), 1), randomize(Net(), 2), twin()
    plan = k3c.align(module, model, inputs=IMAGES)
    k3c.transfer(module, model, plan)
    k3c.transfer(model, other, plan)
    for path in ("stem.weight", "body.weight"):
        first, second = (torch_side.view(one).read(path) for one in (module, other))
        assert np.abs(first - second).max() <= 4e-7 * np.abs(first).max()


def test_a_kernel_that_the_module_cannot_compute_is_refused_and_the_module_unchanged() -> None:
    module, model = randomize(Net()), twin()
    before = state(module)
    with pytest.raises(ModelError, match=r"stem\.weight .*StdConv2d computes its kernel from its weight"):
        k3c.transfer(model, module, k3c.align(module, model))
    assert all(torch.equal(module.state_dict()[name], tensor) for name, tensor in before.items())


def test_copying_the_stored_weight_instead_of_the_computed_kernel_fails_the_certificate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module, model = randomize(Net()), twin()
    monkeypatch.setattr(torch_derived, "kernel_parts", lambda child: ())
    plan = k3c.align(module, model, inputs=IMAGES, hints={"stem": "stem", "body": "body", "head": "head"})
    plan = plan.ignore("body.gain", "the mistake on trial")
    with pytest.raises(AlignmentError, match="their outputs differ"):
        plan.check()
    k3c.transfer(module, model, plan.accepting_difference())
    report = k3c.validate(module, model, inputs=IMAGES, alignment=plan)
    assert {section.name for section in report.sections if section.status == "failed"} >= {"float64", "outputs"}


class ByHand(nn.Conv2d):
    """Standardises its kernel without `batch_norm`, with the unbiased variance."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True)
        return self._conv_forward(images, (self.weight - mean) / torch.sqrt(variance + 3e-4), self.bias)


class Masked(nn.Conv2d):
    """A convolution that masks half of its kernel."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        kernel = self.weight.clone()
        kernel[..., -1, :] = 0
        return nn.functional.conv2d(input=images, weight=kernel, bias=self.bias)


class Padded(nn.Conv2d):
    """A convolution that pads its input itself and uses its weight unchanged."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(nn.functional.pad(images, (0, 1, 0, 1)))


@pytest.mark.parametrize("cls", [ByHand, Masked])
def test_an_unknown_standardized_class_is_transferred_in_both_directions(cls: type[nn.Conv2d]) -> None:
    module, other = (nn.Sequential(randomize(cls(3, 6, 3), seed)) for seed in (1, 2))
    assert behaviour.kernel_parts(module[0]) == ("weight",)
    model = keras.Sequential([keras.Input((8, 9, 3)), keras.layers.Conv2D(6, 3)])
    before = state(module)
    plan = k3c.align(module, model, inputs=IMAGES).check()
    k3c.transfer(module, model, plan)
    assert all(torch.equal(module.state_dict()[name], tensor) for name, tensor in before.items())
    k3c.validate(module, model, inputs=IMAGES, alignment=plan, proofs=("float64", "outputs")).raise_if_failed()
    k3c.transfer(model, other, plan)
    first, second = (torch_side.view(one).read("0.weight") for one in (module, other))
    assert np.abs(first - second).max() <= 4e-7 * np.abs(first).max()


def test_a_class_that_convolves_with_its_weight_is_a_plain_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    stem = randomize(Net()).stem
    assert behaviour.kernel_parts(stem) == ("weight",)
    monkeypatch.setattr(type(stem), "forward", nn.Conv2d.forward)
    assert behaviour.kernel_parts(stem) == ()
    assert behaviour.kernel_parts(Padded(3, 4, 2)) == ()
    assert behaviour.kernel_parts(nn.Conv2d(3, 4, 2)) == ()


def test_a_layer_that_computes_its_kernel_only_in_a_copy_is_refused() -> None:
    layer = randomize(ByHand(3, 6, 3))
    with (
        behaviour.convolving_with(layer, torch.zeros(1, 1, 1, 1)),
        pytest.raises(RuntimeError, match="ByHand does not pass its kernel to a convolution function of torch"),
    ):
        layer(torch.from_numpy(IMAGES))


@pytest.mark.slow
def test_the_observed_kernel_reproduces_the_layer_of_transformers() -> None:
    layers = pytest.importorskip("transformers.models.bit.modeling_bit")
    assert "in_channel" in inspect.signature(layers.WeightStandardizedConv2d).parameters
    layer = randomize(layers.WeightStandardizedConv2d(3, 4, 3, padding="SAME"))
    plain = nn.Conv2d(3, 4, 3, padding=1, bias=False)
    plain.weight.data = behaviour.computed_kernel(layer)
    images = torch.from_numpy(IMAGES)
    with torch.no_grad():
        assert torch.allclose(layer(images), plain(images), atol=1e-6)
