"""Whole models in which only one side has some values: zeros between groups, unused rows, missing scales."""

from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.errors import TransferError
from keras3conv.frameworks.keras import model as keras_side
from keras3conv.frameworks.torch import layers as torch_layers
from keras3conv.rules.helpers import counterpart as _affine
from tests.support.models import randomize


class Picture(nn.Module):
    """Patches, a grouped transposed convolution, and a position table as in RoBERTa."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, (4, 2), (4, 2))
        self.up = nn.ConvTranspose2d(8, 6, 3, stride=2, groups=2, padding=1, dilation=(1, 2))
        self.places = nn.Embedding(14, 6, padding_idx=1)

    def forward(self, images: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        return self.up(self.patches(images)).mean((2, 3)) + self.places(places + 2).sum(1)


def picture() -> keras.Model:
    images, places = keras.Input((8, 10, 3)), keras.Input((3,), dtype="int64")
    x = keras.ops.image.extract_patches(images, size=(4, 2))
    x = keras.layers.Dense(8, name="projection")(x)
    x = keras.layers.Conv2DTranspose(6, (3, 5), strides=2, output_padding=0, name="larger")(x)
    x = keras.layers.Cropping2D(1)(x)
    rows = keras.layers.Embedding(12, 6, name="rows")(places)
    return keras.Model([images, places], keras.ops.mean(x, (1, 2)) + keras.ops.sum(rows, 1), name="picture")


LOSS = "elements along axis 0 are left out (2) and come back as zeros: places.weight <-> rows/embeddings"
IMAGES = np.random.default_rng(0).standard_normal((2, 3, 8, 10)).astype(np.float32)
PLACES = np.array([[0, 1, 2], [3, 4, 11]])


def test_layers_are_paired_by_options_that_only_the_torch_layer_has() -> None:
    module, model = randomize(Picture()), picture()
    plan = k3c.align(module, model, inputs=(IMAGES, PLACES)).check()
    assert {pair.torch: pair.keras for pair in plan.pairs} == {
        "patches": "projection",
        "up": "larger",
        "places": "rows",
    }
    report = k3c.transfer(module, model, k3c.Alignment.from_json(plan.to_json()))
    assert report.section("transfer").facts == {"declared loss": LOSS}
    certificate = k3c.validate(module, model, inputs=(IMAGES, PLACES), alignment=plan)
    certificate.raise_if_failed()
    assert certificate.tally == "7 passed"


def test_the_transfer_back_loses_the_declared_rows_and_nothing_more() -> None:
    module, model, other = randomize(Picture()), picture(), randomize(Picture(), seed=1)
    plan = k3c.align(module, model, inputs=(IMAGES, PLACES))
    k3c.transfer(module, model, plan)
    k3c.transfer(model, other, plan)
    for name, parameter in module.named_parameters():
        if name == "places.weight":
            assert torch.equal(other.places.weight[2:], module.places.weight[2:])
            assert not other.places.weight[:2].any()
        else:
            assert torch.equal(other.get_parameter(name), parameter), name


def test_nonzero_values_where_zeros_are_required_are_refused_and_the_target_is_unchanged() -> None:
    module, model = randomize(Picture()), picture()
    plan = k3c.align(module, model, inputs=(IMAGES, PLACES))
    k3c.transfer(module, model, plan)
    kernel = np.array(keras_side.to_numpy(model.get_layer("larger").kernel))
    model.get_layer("larger").kernel.assign(np.where(kernel == 0, 0.25, kernel))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(TransferError, match="that are not zero"):
        k3c.transfer(model, module, plan)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


@pytest.mark.parametrize(("padding", "rows"), [(0, 13), (1, 12), (3, 10)])
def test_rows_of_a_position_table_up_to_the_padding_row_are_skipped(padding: int, rows: int) -> None:
    table = randomize(nn.Embedding(14, 6, padding_idx=padding))
    inputs = keras.Input((3,), dtype="int64")
    model = keras.Model(inputs, keras.layers.Embedding(rows, 6, name="rows")(inputs))
    plan = k3c.align(nn.Sequential(table), model).accepting_difference().check()
    k3c.transfer(nn.Sequential(table), model, plan)
    stored = keras_side.to_numpy(model.get_layer("rows").embeddings)
    assert np.array_equal(stored, table.weight.detach().numpy()[padding + 1 :])


def test_an_embedding_without_a_padding_row_is_never_cut() -> None:
    inputs = keras.Input((3,), dtype="int64")
    model = keras.Model(inputs, keras.layers.Embedding(12, 6)(inputs))
    assert k3c.align(nn.Sequential(nn.Embedding(14, 6)), model).problems()


def sequential(*layers: keras.layers.Layer, shape: tuple[int, ...]) -> keras.Model:
    return keras.Sequential([keras.Input(shape), *layers])


HALF: list[tuple[nn.Module, Any, tuple[int, ...], str]] = [
    (nn.BatchNorm2d(4), lambda: keras.layers.BatchNormalization(epsilon=1e-5, scale=False), (5, 6, 4), "weight"),
    (nn.BatchNorm2d(4), lambda: keras.layers.BatchNormalization(epsilon=1e-5, center=False), (5, 6, 4), "bias"),
    (nn.LayerNorm(4), lambda: keras.layers.LayerNormalization(epsilon=1e-5, scale=False), (5, 4), "weight"),
    (nn.GroupNorm(2, 4), lambda: keras.layers.GroupNormalization(2, epsilon=1e-5, scale=False), (5, 6, 4), "weight"),
    (nn.GroupNorm(2, 4), lambda: keras.layers.GroupNormalization(2, epsilon=1e-5, center=False), (5, 6, 4), "bias"),
]


@pytest.mark.parametrize(("norm", "make", "shape", "role"), HALF, ids=[f"{case[0]} {case[3]}" for case in HALF])
def test_a_norm_without_a_scale_or_a_center_is_paired_with_ones_or_zeros(
    norm: nn.Module, make: Any, shape: tuple[int, ...], role: str
) -> None:
    module, model = randomize(nn.Sequential(norm)), sequential(make(), shape=shape)
    plan = k3c.align(module, model).check()
    for variable in model.weights:
        variable.assign(np.random.default_rng(3).uniform(0.5, 1.5, variable.shape))
    k3c.transfer(model, module, plan)
    assert getattr(module[0], role).unique().tolist() == [1.0 if role == "weight" else 0.0]
    certificate = k3c.validate(module, model, alignment=plan)
    certificate.raise_if_failed()
    assert certificate.tally == "7 passed"
    k3c.transfer(module, model, plan)
    with torch.no_grad():
        getattr(module[0], role)[1] = 3.0
    with pytest.raises(TransferError, match="would lose 1 values that are not"):
        k3c.transfer(module, model, plan)


@pytest.mark.parametrize(("norm", "make", "shape", "role"), HALF, ids=[f"{case[0]} {case[3]}" for case in HALF])
def test_swapping_ones_and_zeros_fails_the_certificate(
    norm: nn.Module, make: Any, shape: tuple[int, ...], role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_affine, "_ROLES", (("weight", "gamma", 0), ("bias", "beta", 1)))
    module, model = randomize(nn.Sequential(norm)), sequential(make(), shape=shape)
    plan = k3c.align(module, model).accepting_difference()
    k3c.transfer(model, module, plan)
    failed = {
        section.name for section in k3c.validate(module, model, alignment=plan).sections if section.status == "failed"
    }
    assert failed >= {"float64", "outputs"}


def measured(**settings: Any) -> keras.Model:
    inputs = keras.Input((5, 4))
    model = keras.Model(inputs, keras.layers.Normalization(name="normal", **settings)(inputs))
    if "mean" not in settings:
        model.get_layer("normal").adapt(np.random.default_rng(1).uniform(-3, 5, (20, 5, 4)).astype("float32"))
    return model


@pytest.mark.parametrize("axis", [(-1,), (1, 2)])
@pytest.mark.parametrize("invert", [False, True])
def test_the_statistics_of_a_normalization_layer_are_transferred(axis: tuple[int, ...], invert: bool) -> None:
    source, target = measured(axis=axis, invert=invert), measured(axis=axis, invert=invert)
    target.get_layer("normal").adapt(np.ones((2, 5, 4), "float32"))
    module = nn.Sequential(torch_layers.Normalization((4,) if axis == (-1,) else (5, 4), axis, invert=invert))
    plan = k3c.align(module, source).accepting_difference().check()
    k3c.transfer(source, module, plan)
    k3c.transfer(module, target, plan)
    array = np.random.default_rng(2).uniform(-3, 5, (2, 5, 4)).astype("float32")
    expected = np.array(keras_side.run(source, array).outputs[""])
    assert np.array_equal(keras_side.run(target, array).outputs[""], expected)
    certificate = k3c.validate(module, target, alignment=plan)
    certificate.raise_if_failed()
    assert np.array_equal(keras_side.run(target, array).outputs[""], expected)
