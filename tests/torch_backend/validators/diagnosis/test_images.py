"""The diagnosis names planted mistakes in convolutions, pooling, padding, axes and handwritten normalisation."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from torch import nn

import keras3conv as k3c
from tests.support.models import randomize
from tests.support.planted.networks import Tamper, first_problem, images
from tests.support.planted.painter import Painter, painter
from tests.support.tampering import swapped, with_values


def with_positive_means(module: Painter) -> None:
    """Make the moving means positive, so that they are valid variances when they are swapped."""
    assert module.norm.running_mean is not None
    module.norm.running_mean.abs_()


def diagnosed(tamper: Tamper | None = None, **plant: Any) -> tuple[str, str]:
    """Return the torch layer and the text of the first problem in the network with a mistake."""
    problem = first_problem(Painter(), painter(**plant), images(), tamper, with_positive_means)
    assert problem.fixes, f"a cause comes with the line to paste: {problem.fact}"
    return problem.torch, problem.fact


@pytest.mark.parametrize(
    ("plant", "layer", "cause"),
    [
        ({"edge": "constant"}, "stem", "torch pads the border with mode reflect, Keras with constant"),
        (
            {"corner": "other"},
            "depth",
            "torch pads (0, 1, 1, 0) (before and after, the last axis first), Keras (1, 0, ",
        ),
        ({"alpha": 1.0}, "grouped", "alpha is 0.5 in torch and 1 in Keras"),
        ({"maxima": (0, 1)}, "thin", 'Keras pads a max pooling by (0, 1), (0, 1), "same" pads more at the end'),
        ({"means": "same"}, "slim", 'Keras pads an average pooling by (0, 1), (0, 1), as "same" does, and does not'),
        ({"means": "maximum"}, "slim", "torch pools by the mean, Keras by the maximum"),
        ({"crop": 0}, "mix", "Keras crops 0 at the start of every axis of the transposed convolution, torch (1, 1)"),
        ({"shuffle": "keras"}, "mix", "the channels of a pixel shuffle are in another order: torch has (c r r)"),
        ({"order": -1}, "mix", "the tensors are concatenated in another order in Keras"),
        ({"axis": 1}, "last", "softmax is over axis 1 in torch, and over torch's axis 2 in Keras"),
        ({"minus": "keras"}, "last", "the two arguments of sub are swapped"),
        ({"stride": 2}, "last", "stride is [1, 1] in torch and (2, 2) in Keras"),
        ({"windows": (0, 0)}, "head", "ceil_mode is True in torch, Keras pools as with ceil_mode=False"),
        ({"unbiased": False}, "scores", "torch takes the unbiased std, divided by N - 1; Keras the biased one"),
        ({"epsilon": 1e-3}, "scores", "epsilon is 1e-05 in torch and 0.001 in Keras"),
    ],
)
def test_a_mistake_in_an_image_network_is_named(plant: dict[str, Any], layer: str, cause: str) -> None:
    torch_layer, fact = diagnosed(**plant)
    assert torch_layer == layer
    assert cause in fact


def depthwise_by_multiplier(kernel: Any) -> Any:
    rows, columns, channels, multiplier = kernel.shape
    return kernel.reshape(rows, columns, multiplier, channels).swapaxes(2, 3)


def groups_interleaved(kernel: Any) -> Any:
    return kernel.reshape(*kernel.shape[:3], -1, 3).swapaxes(3, 4).reshape(kernel.shape)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tamper", "layer", "cause"),
    [
        (with_values(depth__kernel=depthwise_by_multiplier), "depth", "the kernels of a depthwise convolution are in"),
        (with_values(grouped__kernel=groups_interleaved), "grouped", "the groups of the kernel are in another order"),
        (
            swapped((("norm", "moving_mean"), ("norm", "moving_variance"))),
            "norm",
            "the moving mean and the moving variance are swapped",
        ),
        (with_values(norm__gamma=np.ones_like), "norm", "Keras has no gamma, torch has weight"),
        (with_values(norm__beta=np.zeros_like), "norm", "Keras has no beta, torch has bias"),
    ],
)
def test_a_mistake_in_the_weights_of_an_image_network_is_named(tamper: Tamper, layer: str, cause: str) -> None:
    torch_layer, fact = diagnosed(tamper)
    assert torch_layer == layer
    assert cause in fact


@pytest.mark.slow
def test_the_network_agrees_without_a_mistake() -> None:
    source, target = randomize(Painter()), painter()
    plan = k3c.align(source, target, inputs=images(), probe=False).check()
    k3c.transfer(source, target, plan)
    k3c.validate(source, target, inputs=images(), alignment=plan).raise_if_failed()


@pytest.mark.parametrize(("channels", "size"), [(4, 8), (7, 14)])
def test_a_wrong_padding_is_found_at_its_layer_if_an_image_has_as_many_channels_as_rows_and_columns(
    channels: int, size: int
) -> None:
    """Both axis orders of such an output have the same shape, and the wrong one may be closer by chance."""
    linear = nn.Linear(channels * (size // 2) ** 2, 2)
    module = nn.Sequential(nn.Conv2d(3, channels, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), linear)
    convolution = layers.Conv2D(channels, 3, strides=2, padding="same", activation="relu", name="stem")
    model = keras.Sequential(
        [keras.Input((size, size, 3)), convolution, layers.Flatten(), layers.Dense(2, name="head")]
    )
    plan = k3c.align(module, model)
    k3c.transfer(module, model, plan, accept_difference=True)
    problem = k3c.validate(module, model, plan=plan, proofs=["float64"]).section("float64").problems[0]
    assert problem.where.endswith("stem")
    assert "before stem" in " ".join(problem.fixes)
