"""A report says which layers Keras' torch backend computes otherwise than TensorFlow and JAX, also if it passes."""

from typing import Any

import keras
import pytest
import torch
from torch import nn
from torch.nn import functional

import keras3conv as k3c


class Port(nn.Module):
    """Two convolutions, and between them a function that computes what Keras computes on its torch backend."""

    def __init__(self, between: Any) -> None:
        super().__init__()
        self.first, self.between, self.last = nn.Conv2d(3, 4, 3), between, nn.Conv2d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        between: torch.Tensor = self.between(self.first(x))
        return self.last(between)


def average(x: torch.Tensor) -> torch.Tensor:
    return functional.avg_pool2d(functional.pad(x, (1, 2, 1, 2), mode="replicate"), 4, 1)


def average_without_padding(x: torch.Tensor) -> torch.Tensor:
    return functional.avg_pool2d(x, 2, 2, ceil_mode=True)


def cubic(x: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(x, scale_factor=2, mode="bicubic", align_corners=False)


def smooth_cubic(x: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(x, size=(3, 3), mode="bicubic", align_corners=False, antialias=True)


def model_of(layer: keras.layers.Layer) -> keras.Model:
    return keras.Sequential(
        [keras.Input((9, 9, 3)), keras.layers.Conv2D(4, 3), layer, keras.layers.Conv2D(2, 1)], name="model"
    )


DIFFERENT = {
    "average": (average, keras.layers.AveragePooling2D(4, strides=1, padding="same", name="there"), "repeats the last"),
    "bicubic": (cubic, keras.layers.UpSampling2D(2, interpolation="bicubic", name="there"), "another one (-0.5)"),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_a_port_of_what_only_the_torch_backend_computes_passes_with_a_note(name: str) -> None:
    between, layer, said = DIFFERENT[name]
    model, module = model_of(layer), Port(between).eval()
    inputs = torch.rand(2, 3, 9, 9)
    plan = k3c.align(module, model, inputs=inputs)
    k3c.transfer(model, module, plan)
    report = k3c.validate(module, model, inputs=inputs, alignment=plan)
    report.raise_if_failed()
    (note,) = (note for note in report.notes if note.startswith("there: "))
    assert said in note
    assert "KERAS_BACKEND=jax" in note


@pytest.mark.usefixtures("without_causes")
@pytest.mark.parametrize("name", DIFFERENT)
def test_a_conversion_returns_what_the_other_backends_return_and_fails_on_torch_with_the_note(name: str) -> None:
    _, layer, said = DIFFERENT[name]
    report = k3c.convert(model_of(layer)).report
    assert report is not None
    assert not report.ok
    assert any(said in note for note in report.notes)


SAME = {
    "a window of two": (average_without_padding, keras.layers.AveragePooling2D(2, padding="same")),
    "antialias": (smooth_cubic, keras.layers.Resizing(3, 3, interpolation="bicubic", antialias=True)),
}


@pytest.mark.parametrize("name", SAME)
def test_a_layer_that_all_backends_compute_alike_has_no_note(name: str) -> None:
    between, layer = SAME[name]
    model, module = model_of(layer), Port(between).eval()
    inputs = torch.rand(2, 3, 9, 9)
    plan = k3c.align(module, model, inputs=inputs)
    k3c.transfer(model, module, plan)
    report = k3c.validate(module, model, inputs=inputs, alignment=plan)
    report.raise_if_failed()
    assert not any("KERAS_BACKEND" in note for note in report.notes)
