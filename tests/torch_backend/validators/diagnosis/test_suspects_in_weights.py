"""The diagnosis names a mistake in the weights of a small network, which the plan does not make."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from keras3conv.transforms import Array
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


def gates(order: tuple[int, ...]) -> Callable[[Array], Array]:
    return lambda array: np.concatenate([np.split(array, len(order), -1)[place] for place in order], -1)


def rows_in_torch_order(kernel: Array) -> Array:
    return kernel.reshape(7, 9, 6, -1).transpose(2, 0, 1, 3).reshape(kernel.shape)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tamper", "layer", "cause", "fix"),
    [
        (
            with_values(stem__kernel=lambda k: k[::-1, ::-1]),
            "stem",
            "the kernel is flipped along its spatial axes",
            'plan.pair("stem", "stem")',
        ),
        (
            with_values(stem__kernel=lambda k: k.swapaxes(0, 1)),
            "stem",
            "spatial axes are transposed: height and width",
            'plan.pair("stem", "stem")',
        ),
        (
            with_values(conv1__kernel=lambda k: k.swapaxes(2, 3)),
            "block.conv1",
            "the kernel's channels are transposed",
            'plan.pair("block.conv1", "conv1")',
        ),
        (
            with_values(conv1__bias=np.zeros_like),
            "block.conv1",
            "Keras adds no bias, torch does",
            "bias=False  # torch: block.conv1",
        ),
        (
            with_values(last__kernel=lambda k: k.T),
            "last",
            "the kernel is transposed: torch has (out, in)",
            'plan.pair("last", "last")',
        ),
        (
            with_values(head__kernel=rows_in_torch_order),
            "head",
            "the kernel's rows are in another order",
            "k3c.align(torch, keras, inputs=x)",
        ),
        (
            swapped((("norm1", "gamma"), ("norm1", "beta"))),
            "block.norm1",
            "gamma and beta are swapped",
            "k3c.align(torch, keras)  # the plan before pairs weight with beta in block.norm1",
        ),
        (
            swapped(*((("norm1", role), ("norm2", role)) for role in NORM)),
            "block.norm1",
            "Keras has the weights of block.norm2 here",
            'plan.pair("block.norm2", "norm1")',
        ),
    ],
)
def test_a_mistake_in_the_weights_of_a_residual_network_is_named(
    tamper: Tamper, layer: str, cause: str, fix: str
) -> None:
    problem = first_problem(ResNet(), resnet(), images(), tamper)
    assert problem.torch == layer
    assert cause in problem.fact
    assert any(fix in line for line in problem.fixes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tamper", "layer", "cause", "fix"),
    [
        (
            with_values(blocks_0_out__kernel=lambda k: k.T),
            "blocks.0.out",
            "the kernel is transposed",
            'plan.pair("blocks.0.out", "blocks_0_out")',
        ),
        (
            with_values(blocks_0_up__bias=np.zeros_like),
            "blocks.0.up",
            "Keras adds no bias, torch does",
            "bias=False  # torch: blocks.0.up",
        ),
        (
            swapped((("blocks_0_norm1", "gamma"), ("blocks_0_norm1", "beta"))),
            "blocks.0.norm1",
            "gamma and beta are swapped",
            "k3c.align(torch, keras)  # the plan before pairs weight with beta in blocks.0.norm1",
        ),
        (
            swapped(*((("blocks_0_query", role), ("blocks_0_key", role)) for role in ("kernel", "bias"))),
            "blocks.0.query",
            "Keras has the weights of blocks.0.key here",
            'plan.pair("blocks.0.key", "blocks_0_query")',
        ),
        (
            with_values(patches__kernel=lambda k: k[::-1, ::-1]),
            "patches",
            "the kernel is flipped",
            'plan.pair("patches", "patches")',
        ),
    ],
)
def test_a_mistake_in_the_weights_of_a_vision_transformer_is_named(
    tamper: Tamper, layer: str, cause: str, fix: str
) -> None:
    problem = first_problem(ViT(), vit(), images(), tamper)
    assert problem.torch == layer
    assert cause in problem.fact
    assert any(fix in line for line in problem.fixes)


def in_cell(name: str, change: Callable[[Array], Array], *roles: str) -> Tamper:
    def tamper(model: keras.Model) -> None:
        for variable in model.get_layer(name).weights:
            if variable.name in roles:
                variable.assign(np.ascontiguousarray(change(np.array(variable.value.detach()))))

    return tamper


def backwards(model: keras.Model) -> None:
    model.get_layer("gru").go_backwards = True


class BackwardsInOrder(keras.layers.GRU):
    """Processes the sequence backwards, and returns the outputs in the original order."""

    def call(self, x: Any, **options: Any) -> Any:
        return keras.ops.flip(super().call(keras.ops.flip(x, 1), **options), 1)


def backwards_in_order(model: keras.Model) -> None:
    model.get_layer("gru").__class__ = BackwardsInOrder


@pytest.mark.parametrize(
    ("tamper", "layer", "cause", "fix"),
    [
        (
            backwards,
            "gru",
            "Keras processes the sequence backwards, and returns the outputs reversed",
            "x = x.flip(1)  # torch: before gru",
        ),
        (
            in_cell("gru", gates((1, 0, 2)), *ALL),
            "gru",
            "z, r, n in Keras",
            'plan.pair("gru", "gru")  # the rule reorders the gates',
        ),
        (
            in_cell("lstm", gates((0, 1, 3, 2)), *ALL),
            "lstm",
            "i, f, o, g in Keras",
            'plan.pair("lstm", "lstm")  # the rule reorders the gates',
        ),
        (
            in_cell("gru", lambda b: b * [[1], [0]], "bias"),
            "gru",
            "bias_hh is missing: Keras has only torch's bias_ih",
            'plan.pair("gru", "gru")  # the rule maps both biases',
        ),
        (
            in_cell("gru", lambda b: b * [[0], [1]], "bias"),
            "gru",
            "bias_ih is missing: Keras has only torch's bias_hh",
            'plan.pair("gru", "gru")  # the rule maps both biases',
        ),
        (
            backwards_in_order,
            "gru",
            "Keras processes the sequence backwards, and returns the outputs in the original order",
            "x = x.flip(1)  # torch: before gru",
        ),
        (
            with_values(table__embeddings=lambda t: np.roll(t, -1, 0)),
            "table",
            "Keras' indices into the embedding table are 1 higher",
            "indices = indices + 1  # torch: before table",
        ),
        (
            with_values(table__embeddings=np.zeros_like),
            "table",
            "Keras does not add the embedding table table",
            "x = x + keras.layers.Embedding(",
        ),
        (
            with_values(table__embeddings=lambda t: t[::-1]),
            "table",
            "the rows of the embedding table are reversed in Keras",
            "weight.flip(0)  # torch: table",
        ),
    ],
)
def test_a_mistake_in_the_weights_of_a_recurrent_network_is_named(
    tamper: Tamper, layer: str, cause: str, fix: str
) -> None:
    problem = first_problem(Words(), words(), sentences(), tamper)
    assert problem.torch == layer
    assert cause in problem.fact
    assert any(fix in line for line in problem.fixes)
