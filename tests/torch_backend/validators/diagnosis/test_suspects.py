"""The diagnosis names a mistake that is planted in a small network, and no cause for an unknown mistake.

A mistake in the architecture is found by the float64 proof; a mistake in the weights, which the plan does not make, by
the comparison of the deployed models.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.transforms import Array
from tests.support.models import randomize
from tests.support.planted.networks import (
    ResNet,
    Tamper,
    ViT,
    Words,
    first_problem,
    images,
    resnet,
    sentences,
    vit,
    words,
)
from tests.support.tampering import swapped, with_values

ALL = ("kernel", "recurrent_kernel", "bias")
NORM = ("gamma", "beta", "moving_mean", "moving_variance")
INVERTED = "the mask is inverted: True means attend in torch, and the opposite in Keras"


@pytest.mark.parametrize(
    ("plant", "layer", "cause", "fix"),
    [
        ({"epsilon": 1e-3}, "norm", "epsilon is 1e-05 in torch and 0.001 in Keras", "nn.BatchNorm2d(6, eps=0.001)"),
        ({"training": True}, "norm", "Keras normalises with batch statistics", "training=False"),
        ({"stem": "same"}, "stem", "Keras pads (0, 1), (0, 1) (before, after)", "x = F.pad(x, (0, 1, 0, 1))"),
        ({"dilation": 2}, "block.conv1", "dilation is [1, 1] in torch and (2, 2) in Keras", "dilation=(2, 2)"),
        (
            {"slope": 0.3},
            "block.conv1",
            "negative_slope is 0.2 in torch and 0.3 in Keras",
            "nn.LeakyReLU(0.3)  # torch: act",
        ),
        (
            {"activation": ""},
            "block.conv1",
            "Keras lacks an activation before conv1: leaky_relu",
            "# Keras: before conv1",
        ),
        (
            {"activation": "relu"},
            "block.conv1",
            "torch applies leaky_relu before block.conv1, Keras relu",
            "# torch: act",
        ),
        (
            {"border": 0.0},
            "block.conv1",
            "Keras pads a max pooling with 0",
            "# torch: before pool\npadding=0  # torch: pool",
        ),
        ({"means": "inside"}, "wide", "average pooling counts the padding in torch: True", "count_include_pad=False"),
        ({"shortcut": False}, "wide", "torch adds two tensors before wide, Keras has only the first", "layers.Add()"),
        ({"resize": "bilinear aligned"}, "head", "Keras with bilinear (align_corners=True)", "align_corners=True"),
        ({"resize": "nearest"}, "head", "Keras with nearest (rounded down)", 'mode="nearest")'),
        (
            {"resize": "nearest-exact"},
            "head",
            "Keras with nearest (from the middle of the pixel)",
            'mode="nearest-exact")',
        ),
        (
            {"last": "softmax"},
            "output 0",
            "torch lacks an activation at the end: softmax",
            "x.softmax(-1)  # torch: at the end",
        ),
    ],
)
def test_a_mistake_in_a_residual_network_is_named(plant: dict[str, Any], layer: str, cause: str, fix: str) -> None:
    problem = first_problem(ResNet(), resnet(**plant), images())
    assert problem.torch == layer
    assert cause in problem.fact
    assert any(fix in line for line in problem.fixes)


@pytest.mark.parametrize(
    ("plant", "layer", "cause", "fix"),
    [
        (
            {"epsilon": 1e-3},
            "blocks.0.norm1",
            "epsilon is 1e-06 in torch and 0.001 in Keras",
            "nn.LayerNorm(8, eps=0.001)",
        ),
        (
            {"gelu": "tanh"},
            "blocks.0.down",
            "GELU is the erf variant in torch and the tanh variant in Keras",
            "blocks.0.act",
        ),
        ({"gelu": "linear"}, "blocks.0.down", "Keras lacks an activation before blocks_0_down: gelu", "blocks_0_down"),
        ({"swapped": ("query", "key")}, "blocks.0.out", "query and key are swapped", "query with key"),
        ({"swapped": ("value", "key")}, "blocks.0.out", "key and value are swapped", "key with value"),
        (
            {"causal": True},
            "blocks.0.out",
            "attention is not causal in torch, but is causal in Keras",
            "is_causal=True",
        ),
        ({"mask": "inverted"}, "blocks.1.out", INVERTED, "attn_mask = ~attn_mask  # torch: blocks.1"),
        ({"mask": "none"}, "blocks.1.out", "Keras ignores the attention mask", "attention_mask=attn_mask"),
        ({"scale": 1.0}, "blocks.0.out", "the scores are multiplied by 0.5 in torch and by 1 in Keras", "scale=1.0"),
        (
            {"heads": "width first"},
            "blocks.0.out",
            "the heads are split in another order",
            "unflatten(-1, (-1, heads))",
        ),
        ({"pooled": "sum"}, "head", "torch takes the mean over 1, Keras the sum", "x = x.sum(1)  # torch: before head"),
        (
            {"factor": 8**0.5},
            "blocks.0.norm1",
            "Keras multiplies by 2.82843 = sqrt(8) before blocks_0_norm1",
            "x = x * 2.8",
        ),
    ],
)
def test_a_mistake_in_a_vision_transformer_is_named(plant: dict[str, Any], layer: str, cause: str, fix: str) -> None:
    problem = first_problem(ViT(), vit(**plant), images())
    assert problem.torch == layer
    assert cause in problem.fact
    assert any(fix in line for line in problem.fixes)


@pytest.mark.parametrize(
    ("plant", "layer", "cause", "fix"),
    [
        (
            {"offset": 1},
            "table",
            "Keras' indices into the embedding table are 1 higher",
            "indices = indices + 1  # torch: before table",
        ),
        (
            {"zero": True},
            "gru",
            "row 0 of the embedding table is zero in Keras, as a padding row",
            "x = x * (indices != 0).unsqueeze(-1)  # torch: after table",
        ),
        (
            {"factor": 1},
            "gru",
            "torch multiplies by 2.44949 before gru, Keras does not",
            "x = keras.ops.multiply(x, 2.449489742783178)  # Keras: before gru",
        ),
    ],
)
def test_a_mistake_in_a_recurrent_network_is_named(plant: dict[str, Any], layer: str, cause: str, fix: str) -> None:
    problem = first_problem(Words(), words(**plant), sentences())
    assert problem.torch == layer
    assert cause in problem.fact
    assert any(fix in line for line in problem.fixes)


@pytest.mark.parametrize(
    ("module", "model", "inputs"),
    [(ResNet, resnet, images), (ViT, vit, images), (Words, words, sentences)],
)
def test_the_networks_agree_without_a_mistake(
    module: Callable[[], nn.Module], model: Callable[[], keras.Model], inputs: Callable[[], torch.Tensor]
) -> None:
    source, target = randomize(module()), model()
    plan = k3c.align(source, target, inputs=inputs()).check()
    k3c.transfer(source, target, plan)
    k3c.validate(source, target, inputs=inputs(), alignment=plan).raise_if_failed()


def noisy(array: Array) -> Array:
    return array + np.random.default_rng(1).standard_normal(array.shape).astype(array.dtype) * 0.01


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tamper", "layer"),
    [
        (with_values(stem__kernel=noisy), "stem"),
        (with_values(norm__gamma=noisy), "norm"),
        (with_values(last__bias=noisy), "last"),
    ],
)
def test_an_unknown_mistake_has_no_cause(tamper: Tamper, layer: str) -> None:
    problem = first_problem(ResNet(), resnet(), images(), tamper)
    assert problem.torch == layer
    assert problem.fixes == ()


@pytest.mark.slow
def test_a_cause_that_explains_only_a_part_is_not_named() -> None:
    def both(model: keras.Model) -> None:
        swapped((("norm1", "gamma"), ("norm1", "beta")))(model)
        with_values(norm1__beta=lambda beta: beta + 0.001)(model)

    problem = first_problem(ResNet(), resnet(), images(), both)
    assert problem.torch == "block.norm1"
    assert problem.fixes == ()


def gradients_in_training(momentum: float) -> k3c.Section:
    """Return the gradients section of a network whose first normalisation has this momentum in Keras."""
    module, model = randomize(ResNet()), resnet(momentum=momentum)
    plan = k3c.align(module, model, inputs=images(), probe=False).check()
    report = k3c.validate(module, model, inputs=images(), alignment=plan, proofs=("gradients",), training=True)
    return report.section("gradients")


@pytest.mark.parametrize(
    ("momentum", "cause"),
    [
        (0.1, "torch takes 0.1 of the new statistics, Keras keeps 0.1 of the old ones: the momentum was copied"),
        (0.99, "torch takes 0.1 of the new statistics, Keras keeps 0.99 of the old ones"),
    ],
)
def test_a_copied_or_default_momentum_is_named(momentum: float, cause: str) -> None:
    problem = gradients_in_training(momentum).problems[0]
    assert problem.torch == "norm"
    assert cause in problem.fact
    assert problem.fixes == ("momentum=0.9  # Keras: of the BatchNormalization",)


@pytest.mark.slow
def test_an_unusual_momentum_has_no_cause() -> None:
    assert gradients_in_training(0.7).problems[0].fixes == ()
    assert gradients_in_training(0.9).status == "passed"
