"""Planted mistakes in the rules for values that only one side has: each breaks the law named with it."""

from dataclasses import replace

import pytest

from keras3conv.rules.rule import Config, Example
from keras3conv.transforms import Axes, Chain, Diagonal, Dilate, Same, Shift, Skip, Take, Transform
from tests.support.laws import law_float64, law_names, law_shapes, law_training, law_way_back
from tests.torch_backend.rules.mutants.test_common import (
    Mutant,
    assert_caught,
    assert_lawful,
    configured,
    forgotten,
    layered,
    mapped,
    swapped,
)

pytestmark = pytest.mark.slow

FEATURE_DROPOUT = "torch.nn.FeatureAlphaDropout <-> keras.layers.AlphaDropout"
MANY_CHANNELS = Example(config={"p": 0.3}, inputs=((20, 100, 3),))
NORMALIZATION = "keras3conv.frameworks.torch.layers.Normalization <-> keras.layers.Normalization"
MASKED = "keras3conv.frameworks.torch.layers.MaskedBatchNorm <-> keras.layers.BatchNormalization"
PLACES = "torch.nn.Embedding <-> keras.layers.Embedding (places from padding_idx + 1 on)"
PATCHES = "torch.nn.Conv2d <-> keras.layers.Dense (patches)"
TRANSPOSED = "torch.nn.ConvTranspose2d <-> keras.layers.Conv2DTranspose"
CENTRED = "keras3conv.frameworks.torch.centred.CentredRMSNorm <-> keras.layers.RMSNormalization"
CENTRED_LAYER = "keras3conv.frameworks.torch.centred.CentredLayerNorm <-> keras.layers.LayerNormalization"


def patches(pattern: str) -> Transform:
    return Axes(pattern, h=4, w=2)


def groups_interleaved(config: Config) -> Transform:
    return Chain(Axes("(i g) o h w -> (g i) o h w", g=2), Diagonal(0, 1, 2), Axes("i o h w -> h w o i"))


def groups_exchanged(config: Config) -> Transform:
    return Chain(Diagonal(0, 1, 2), Take(0, (1, 0)), Axes("i o h w -> h w o i"))


def dilated_along_the_other_axis(config: Config) -> Transform:
    return Chain(Diagonal(0, 1, 2), Dilate(3, 3), Axes("i o h w -> h w o i"))


def dilated_kernel_flipped(config: Config) -> Transform:
    return Chain(Diagonal(0, 1, 2), Dilate(2, 3), Axes("i o h w -> h w o i"), Take(0, (6, 5, 4, 3, 2, 1, 0)))


MUTANTS: dict[str, Mutant] = {
    "momentum of masked statistics off": Mutant(
        rule=MASKED,
        law=law_training,
        mutation=configured(lambda keras, config: {"momentum": config["momentum"]}),
    ),
    "masked statistics exchanged": Mutant(
        rule=MASKED, law=law_float64, mutation=swapped("running_mean", "running_var")
    ),
    "places from the padding row on": Mutant(
        rule=PLACES, law=law_shapes, mutation=mapped("weight", lambda config: Skip(0, 1))
    ),
    "places shifted by one": Mutant(
        rule=PLACES,
        law=law_float64,
        mutation=mapped("weight", lambda config: Chain(Take(0, (8, *range(8))), Skip(0, 2))),
    ),
    "columns of the places shifted": Mutant(
        rule=PLACES,
        law=law_float64,
        mutation=mapped("weight", lambda config: Chain(Take(1, (4, 0, 1, 2, 3)), Skip(0, 2))),
    ),
    "channels before pixels": Mutant(
        rule=PATCHES, law=law_float64, mutation=mapped("weight", lambda config: patches("o i h w -> (i h w) o"))
    ),
    "columns before rows": Mutant(
        rule=PATCHES, law=law_float64, mutation=mapped("weight", lambda config: patches("o i h w -> (w h i) o"))
    ),
    "patches of the other shape": Mutant(
        rule=PATCHES,
        law=law_float64,
        mutation=layered(lambda specs: (type(specs[0])(kind=specs[0].kind, config={"size": (2, 4)}), specs[1])),
    ),
    "groups that alternate": Mutant(
        rule=TRANSPOSED, law=law_float64, mutation=mapped("weight", groups_interleaved), example=5
    ),
    "groups that meet each other only": Mutant(
        rule=TRANSPOSED, law=law_float64, mutation=mapped("weight", groups_exchanged), example=5
    ),
    "groups forgotten": Mutant(
        rule=TRANSPOSED, law=law_shapes, mutation=mapped("weight", lambda config: Axes("i o h w -> h w o i")), example=5
    ),
    "dilated along the other axis": Mutant(
        rule=TRANSPOSED, law=law_shapes, mutation=mapped("weight", dilated_along_the_other_axis), example=6
    ),
    "dilated and flipped": Mutant(
        rule=TRANSPOSED, law=law_float64, mutation=mapped("weight", dilated_kernel_flipped), example=6
    ),
    "a distance from one taken for the scale": Mutant(
        rule=CENTRED, law=law_float64, mutation=mapped("weight", lambda config: Same())
    ),
    "one subtracted": Mutant(rule=CENTRED, law=law_float64, mutation=mapped("weight", lambda config: Shift(-1))),
    "another epsilon of a centred norm": Mutant(
        rule=CENTRED, law=law_float64, mutation=configured(lambda keras, config: {"epsilon": 1e-6})
    ),
    "a centred LayerNorm taken for its parent": Mutant(
        rule=CENTRED_LAYER, law=law_float64, mutation=mapped("weight", lambda config: Same())
    ),
    "the bias of a centred LayerNorm centred too": Mutant(
        rule=CENTRED_LAYER, law=law_float64, mutation=mapped("bias", lambda config: Shift(1))
    ),
    "mean and variance exchanged": Mutant(
        rule=NORMALIZATION, law=law_float64, mutation=swapped("running_mean", "running_var")
    ),
    "mean and variance of two axes exchanged": Mutant(
        rule=NORMALIZATION, law=law_float64, mutation=swapped("running_mean", "running_var"), example=2
    ),
    "a normalisation that is not inverted": Mutant(
        rule=NORMALIZATION, law=law_float64, mutation=configured(lambda keras, config: {"invert": False}), example=1
    ),
    "inverted constants lost on the way back": Mutant(
        rule=NORMALIZATION, law=law_way_back, mutation=configured(lambda keras, config: {"invert": False}), example=5
    ),
    "deviation for variance": Mutant(
        rule=NORMALIZATION,
        law=law_float64,
        mutation=configured(lambda keras, config: {"variance": [value**0.5 for value in keras["variance"]]}),
        example=4,
    ),
    "a forgotten count": Mutant(rule=NORMALIZATION, law=law_names, mutation=forgotten("count")),
    "what is kept for what is dropped": Mutant(
        rule=FEATURE_DROPOUT, law=law_way_back, mutation=configured(lambda keras, config: {"rate": 1 - config["p"]})
    ),
    # The input has so many channels that two random masks are never equal by chance.
    "channels that claim to be dropped alike": Mutant(
        rule=FEATURE_DROPOUT,
        law=law_training,
        mutation=lambda rule: replace(rule, train=True, examples=(MANY_CHANNELS,)),
    ),
    "forgotten weight of a centred norm": Mutant(rule=CENTRED, law=law_names, mutation=forgotten("weight")),
}

CASES = pytest.mark.parametrize("mistake", MUTANTS)


@CASES
def test_a_planted_mistake_is_caught_by_its_law(mistake: str) -> None:
    assert_caught(MUTANTS[mistake])


@CASES
def test_the_same_rule_without_the_mistake_obeys_every_law(mistake: str) -> None:
    assert_lawful(MUTANTS[mistake])
