"""The diagnosis names planted mistakes in handwritten attention, rotary embeddings, shared heads and gates."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import keras3conv as k3c
from tests.support.models import randomize
from tests.support.planted.decoder import STEPS, Decoder, Packed, decoder, packed
from tests.support.planted.networks import first_problem, sentences


def steps() -> torch.Tensor:
    return torch.randn(3, STEPS, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plant", "layer", "cause", "fix"),
    [
        (
            {"factor": 8**0.5},
            "query",
            "Keras multiplies the embedding table table by 2.82843 = sqrt(8)",
            "# torch: after table",
        ),
        ({"factor": 0.75}, "query", "Keras multiplies the embedding table table by 0.75", "x = x * 0.75"),
        (
            {"base": 500000.0},
            "out",
            "the base of the rotary embedding is 10000 in torch and 500000 in Keras",
            "rope_theta=500000",
        ),
        (
            {"rotation": "none"},
            "out",
            "torch applies a rotary embedding to query and key before out, Keras does",
            "rotary(query)",
        ),
        (
            {"rotation": "backwards"},
            "out",
            "Keras rotates query and key in the opposite direction",
            "sin = -sin  # Keras: before out",
        ),
        (
            {"rotation": "neighbours"},
            "out",
            "torch rotates pairs of halves, Keras pairs of neighbours",
            "x = x.unflatten(-1, (-1, 2)).transpose(-1, -2).flatten(-2)",
        ),
        (
            {"shared": "in turn"},
            "out",
            "torch repeats each head in a row (repeat), Keras repeats all heads",
            "ops.repeat",
        ),
        (
            {"mask": "none"},
            "out",
            "Keras does not add torch's mask or position bias to the attention scores",
            "scores = keras.ops.where(mask, ",
        ),
        (
            {"mask": "number"},
            "out",
            "Keras adds the mask itself to the scores: 1 where it attends",
            "scores = keras.ops.wh",
        ),
        (
            {"mask": "inverted"},
            "out",
            "the mask is inverted: Keras attends to the positions that torch",
            "mask = ~mask",
        ),
        (
            {"mask": "transposed"},
            "out",
            "the last two axes of the mask or bias that is added to the scores are trans",
            "x = keras.ops.swapaxes",
        ),
        ({"scale": 1.0}, "out", "torch multiplies by 0.5 before out, Keras does not", "x = keras.ops.multiply(x, 0.5)"),
        (
            {"scale": 0.25},
            "out",
            "the scores are 1 / sqrt(width of a head) = 0.5 times as large",
            "scores = scores * 0.5",
        ),
        ({"cut": ("value",)}, "out", "an axis is split in another order: torch has the parts (2, 4)", "x = x.reshape("),
        (
            {"joined": "width first"},
            "out",
            "axes are merged in another order: torch merges (4, 4)",
            "x = x.permute(0, 1, 3, 2)",
        ),
        (
            {"joined": "only reshaped"},
            "out",
            "torch permutes axes with transpose, from (3, 4, 7, 4) to",
            "keras.ops.transpose(",
        ),
        ({"gated": "exchanged"}, "down", "the results of gate and up are swapped", "gate, up = up, gate"),
        (
            {"gated": "added"},
            "down",
            "torch combines two tensors by mul before down, Keras by add",
            "x = torch.add(first, s",
        ),
        (
            {"place": -1},
            "pool",
            "torch selects position 0 along axis 1 before pool, Keras the last",
            "x = x.select(1, -1)",
        ),
        (
            {"place": "mean"},
            "pool",
            "torch selects position 0 along axis 1 before pool, Keras the mean",
            "x = x.mean(1)",
        ),
    ],
)
def test_a_mistake_in_a_decoder_is_named(plant: dict[str, Any], layer: str, cause: str, fix: str) -> None:
    problem = first_problem(Decoder(), decoder(**plant), sentences())
    assert (problem.torch, cause in problem.fact) == (layer, True), problem
    assert any(fix in line for line in problem.fixes)


@pytest.mark.parametrize(
    ("mask", "cause", "fix"),
    [
        ("causal", "attention is causal in Keras, but not in torch", "scores = scores.masked_fill("),
        ("padding", "Keras masks positions with index 0 as padding", "attention_mask = indices != 0"),
    ],
)
def test_a_mask_in_keras_only_is_named(mask: str, cause: str, fix: str) -> None:
    problem = first_problem(Decoder(causal=False), decoder(mask=mask), sentences())
    assert (problem.torch, cause in problem.fact) == ("out", True), problem
    assert any(fix in line for line in problem.fixes)


@pytest.mark.parametrize(
    ("plant", "cause", "fix"),
    [
        (
            {"width_first": True},
            "the heads are split in another order: torch has features as (heads, width), Keras as (width, heads)",
            "x = x.unflatten(-1, (-1, heads)).transpose(-1, -2)",
        ),
        ({"order": "kqv"}, "query and key are swapped", "query, key = key, query  # Keras: before out"),
        ({"order": "vqk"}, "the parts of a split are used in another order in Keras: torch's 2, 3, 1", "[1, 2, 0]"),
        (
            {"by_head": True},
            "torch splits all 2 heads into 3 at once, Keras splits head by head",
            "x.unflatten(-1, (2, 3, -1))",
        ),
    ],
)
def test_a_mistake_in_a_packed_projection_is_named(plant: dict[str, Any], cause: str, fix: str) -> None:
    problem = first_problem(Packed(), packed(**plant), steps())
    assert (problem.torch, cause in problem.fact) == ("out", True), problem
    assert any(fix in line for line in problem.fixes)


@pytest.mark.parametrize(
    ("module", "model", "inputs"),
    [
        (Decoder, decoder, sentences),
        (lambda: Decoder(causal=False), lambda: decoder(mask="none"), sentences),
        (Packed, packed, steps),
    ],
)
def test_the_networks_agree_without_a_mistake(
    module: Callable[[], nn.Module], model: Callable[[], Any], inputs: Callable[[], torch.Tensor]
) -> None:
    source, target = randomize(module()), model()
    plan = k3c.align(source, target, inputs=inputs(), probe=False).check()
    k3c.transfer(source, target, plan)
    k3c.validate(source, target, inputs=inputs(), alignment=plan).raise_if_failed()
