"""The padding of a max pooling is named as the cause, and not the value it pads with, if both would explain the output.

After a ReLU no value is negative, so zeros around an image have the same maxima as -inf has.
"""

import keras
import pytest
import torch
from keras import layers
from torch import nn

import keras3conv as k3c
from keras3conv.report.report import Report


def module(activation: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    pool = nn.MaxPool2d(3, 2, padding=1)
    return nn.Sequential(nn.Conv2d(3, 4, 3), activation, pool, nn.Conv2d(4, 2, 1)).eval()


def model(activation: str, *, zeros: bool = False) -> keras.Model:
    """Return the Keras model with another padding, or with the padding of torch but zeros in it."""
    image = keras.Input((18, 18, 3))
    x = layers.Activation(activation)(layers.Conv2D(4, 3)(image))
    x = layers.ZeroPadding2D(1)(x) if zeros else x
    x = layers.MaxPooling2D(3, 2, padding="valid" if zeros else "same", name="shrink")(x)
    return keras.Model(image, layers.Conv2D(2, 1)(x))


def certificate(torch_module: nn.Module, keras_model: keras.Model) -> Report:
    plan = k3c.align(torch_module, keras_model)
    k3c.transfer(torch_module, keras_model, plan, accept_difference=True)
    return k3c.validate(torch_module, keras_model, plan=plan, proofs=("hyperparameters", "float64"))


@pytest.mark.parametrize(("activation", "name"), [(nn.ReLU(), "relu"), (nn.Tanh(), "tanh")])
def test_another_padding_is_the_cause_also_after_a_relu(activation: nn.Module, name: str) -> None:
    problem = certificate(module(activation), model(name)).section("float64").problems[0]
    assert (
        'Keras pads a max pooling by (0, 1), (0, 1), "same" pads more at the end; torch (1, 1), (1, 1)' in problem.fact
    )
    assert any(fix.endswith('# Keras: before shrink\npadding="valid"  # Keras: shrink') for fix in problem.fixes)
    assert not any("F.pad(x, (0, 1, 0, 1))" in fix for fix in problem.fixes), "zeros would be right only after a ReLU"


def test_zeros_are_the_cause_if_they_are() -> None:
    problem = certificate(module(nn.Tanh()), model("tanh", zeros=True)).section("float64").problems[0]
    assert "Keras pads a max pooling with 0, torch with -inf: (1, 1), (1, 1)" in problem.fact


def test_a_field_that_differs_only_because_the_padding_does_is_no_problem_of_its_own() -> None:
    section = certificate(module(nn.ReLU()), model("relu")).section("hyperparameters")
    assert section.summary.startswith("1 of ")
    assert ["padding is 1 in torch" in problem.fact for problem in section.problems] == [True]
    rows = {row[1]: row[-1] for row in section.tables[0].rows if row[0] == "2"}
    assert rows["ceil_mode"] == "not judged: it differs only because padding does"
