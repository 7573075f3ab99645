"""A layer whose neighbours compensate its difference is confirmed by the outputs of the models; a mistake is not."""

from collections.abc import Callable

import keras
import numpy as np
import pytest
import torch
from keras import layers
from torch import nn

import keras3conv as k3c
from keras3conv.alignment.plan import Alignment
from tests.support.models import randomize

Pair = tuple[nn.Module, keras.Model]


def decided(plan: Alignment) -> dict[str, str]:
    return {pair.keras: pair.decided_by for pair in plan.pairs}


def upsampling(crop: tuple[int, int] = (1, 1)) -> Pair:
    module = nn.Sequential(nn.Conv1d(2, 8, 3), nn.ReLU(), nn.ConvTranspose1d(8, 4, 4, stride=2, padding=1))
    drawing = [keras.Input((16, 2)), layers.Conv1D(8, 3, activation="relu", name="conv")]
    cropping = layers.Cropping1D(crop)
    return module, keras.Sequential([*drawing, layers.Conv1DTranspose(4, 4, strides=2, name="up"), cropping])


class Twice(nn.Module):
    """Two transposed convolutions of equal shapes, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.up0, self.up1 = (nn.ConvTranspose2d(4, 4, 4, stride=2, padding=1) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.up1(torch.tanh(self.up0(x)))


def twice(names: tuple[str, str] = ("up0", "up1")) -> Pair:
    inputs = keras.Input((4, 5, 4))
    x = layers.Cropping2D(1)(layers.Conv2DTranspose(4, 4, strides=2, name=names[0])(inputs))
    x = layers.Conv2DTranspose(4, 4, strides=2, name=names[1])(layers.Activation("tanh")(x))
    return Twice(), keras.Model(inputs, layers.Cropping2D(1)(x))


def padded_outside() -> Pair:
    """Torch pads inside the convolution; Keras pads before it, and makes one more column that it crops afterwards."""
    module = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 4 * 5, 2))
    inputs = keras.Input((4, 5, 3))
    x = layers.Conv2D(6, 3, name="conv")(layers.ZeroPadding2D(((1, 1), (1, 2)))(inputs))
    x = layers.Permute((3, 1, 2))(layers.ReLU()(layers.Cropping2D(((0, 0), (0, 1)))(x)))
    return module, keras.Model(inputs, layers.Dense(2, name="fc")(layers.Flatten()(x)))


class Scaled(nn.Module):
    """A layer whose channels are scaled by constants after it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.tanh(self.first(x) * torch.arange(1.0, 7.0).to(x)))


@keras.saving.register_keras_serializable("tests.compensated")
class ScaledDense(layers.Dense):
    """A dense layer that scales its channels itself."""

    def call(self, inputs: object, training: bool | None = None) -> object:
        return super().call(inputs) * keras.ops.cast(keras.ops.arange(1, 7), self.compute_dtype)


def scaled_inside() -> Pair:
    inputs = keras.Input((5,))
    x = layers.Activation("tanh")(ScaledDense(6, name="first")(inputs))
    return Scaled(), keras.Model(inputs, layers.Dense(3, name="second")(x))


@pytest.mark.parametrize("make", [upsampling, twice, padded_outside, scaled_inside])
def test_layers_whose_difference_is_compensated_are_confirmed(make: Callable[[], Pair]) -> None:
    module, model = make()
    plan = k3c.align(randomize(module), model)
    assert set(decided(plan).values()) == {"probe"}
    assert "the outputs of the models are equal, and only with these weights" in str(
        [one.detail for pair in plan.pairs for one in pair.evidence]
    )
    k3c.transfer(module, model, plan)
    assert k3c.validate(module, model, plan=plan).status == "passed"


def test_a_crop_on_the_wrong_side_leaves_the_pair_forced() -> None:
    module, model = upsampling((2, 0))
    plan = k3c.align(module, model)
    assert decided(plan)["up"] == "forced"
    assert "differ" in plan.difference


@pytest.mark.parametrize("names", [("up0", "up1"), ("up1", "up0")])
def test_exchanged_layers_of_equal_shape_are_never_confirmed(names: tuple[str, str]) -> None:
    module, model = twice(names)
    plan = k3c.align(module, model)
    right = {"up0": names[0], "up1": names[1]}
    for pair in plan.pairs:
        assert pair.keras == right[pair.torch] or pair.decided_by == "forced"


def test_a_hint_that_exchanges_layers_of_equal_shape_makes_the_outputs_differ() -> None:
    module, model = twice()
    plan = k3c.align(module, model, hints={"up0": "up1", "up1": "up0"})
    assert "their outputs differ" in plan.difference
    assert "probe" not in decided(plan).values()


class Dead(nn.Module):
    """A layer whose output no output of the module depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.fc = nn.ConvTranspose1d(2, 3, 4, stride=2, padding=1), nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc((0 * self.up(x)).mean(2))


def test_a_layer_whose_weights_change_no_output_stays_forced() -> None:
    inputs = keras.Input((6, 2))
    x = layers.Cropping1D(1)(layers.Conv1DTranspose(3, 4, strides=2, name="up")(inputs))
    x = layers.GlobalAveragePooling1D()(layers.Rescaling(0.0)(x))
    plan = k3c.align(Dead(), keras.Model(inputs, layers.Dense(2, name="fc")(x)))
    assert plan.difference == ""
    assert decided(plan)["up"] == "forced"


def test_neither_model_is_changed() -> None:
    module, model = upsampling()
    before = [np.array(one) for one in model.get_weights()]
    k3c.align(module, model)
    assert all(np.array_equal(*both) for both in zip(before, model.get_weights(), strict=True))
