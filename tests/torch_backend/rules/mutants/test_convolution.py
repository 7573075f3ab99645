"""Planted mistakes in the rules of convolutions and normalisations: each breaks the law that is named with it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from keras3conv.errors import RuleError
from keras3conv.rules.families.normalization.layer import FLOAT32_EPSILON
from keras3conv.rules.library import find
from keras3conv.rules.rule import Config, LayerSpec, LayerSpecs, Rule
from keras3conv.transforms import Axes, Same, Transform
from tests.support.laws import (
    law_float32,
    law_float64,
    law_names,
    law_shapes,
    law_training,
    law_way_back,
)
from tests.support.trials import config_of
from tests.torch_backend.rules.mutants.test_common import (
    Mutant,
    Mutation,
    assert_caught,
    assert_lawful,
    configured,
    layered,
    mapped,
    swapped,
    trial_of,
    weight,
)

pytestmark = pytest.mark.slow

CONV = "torch.nn.Conv2d <-> keras.layers.Conv2D"
TRANSPOSE = "torch.nn.ConvTranspose2d <-> keras.layers.Conv2DTranspose"
SEPARABLE = "2 x torch.nn.Conv2d <-> keras.layers.SeparableConv2D"
FROZEN = "torchvision.ops.misc.FrozenBatchNorm2d <-> keras.layers.BatchNormalization"
SYNC = "torch.nn.SyncBatchNorm <-> keras.layers.BatchNormalization"
LAYER_NORM = "torch.nn.LayerNorm <-> keras.layers.LayerNormalization"
LAYER_NORM_2D = "torchvision.models.convnext.LayerNorm2d <-> keras.layers.LayerNormalization"
GROUP_NORM = "torch.nn.GroupNorm <-> keras.layers.GroupNormalization"
INSTANCE_NORM = "torch.nn.InstanceNorm2d <-> keras.layers.GroupNormalization"
RMS_NORM = "torch.nn.RMSNorm <-> keras.layers.RMSNormalization"


def first_layer(**change: Any) -> Mutation:
    """Return a mutation: the first Keras layer gets other arguments."""
    return layered(lambda specs: (replace(specs[0], config={**specs[0].config, **change}), *specs[1:]))


def constant(**change: Any) -> Mutation:
    """Return a mutation: the last Keras layer gets other arguments."""
    return configured(lambda keras, config: change)


def cropped_at_the_end(specs: LayerSpecs) -> LayerSpecs:
    cropping = tuple((0, start + end) for start, end in specs[-1].config["cropping"])
    return (*specs[:-1], replace(specs[-1], config={"cropping": cropping}))


def transposed_as_same(specs: LayerSpecs) -> LayerSpecs:
    return (replace(specs[0], config={**specs[0].config, "padding": "same", "output_padding": None}),)


def padded_with_zeros(specs: LayerSpecs) -> LayerSpecs:
    padding = specs[0].config["pad_width"][1:-1]
    return (LayerSpec(kind="keras.layers.ZeroPadding2D", config={"padding": padding}), *specs[1:])


def multiplier_first(config: Config) -> Transform:
    return Axes("(m c) 1 h w -> h w c m", m=config["0"]["out_channels"] // config["0"]["groups"])


def in_torchs_layout(rule: Rule) -> Rule:
    return replace(rule, layout="same")


MUTANTS: dict[str, Mutant] = {
    "transposed kernel read as a plain one": Mutant(
        rule=TRANSPOSE, law=law_shapes, mutation=weight("i o h w -> h w i o")
    ),
    "transposed kernel with swapped axes": Mutant(
        rule=TRANSPOSE, law=law_shapes, mutation=weight("i o h w -> w h o i")
    ),
    "forgotten crop": Mutant(rule=TRANSPOSE, law=law_float64, mutation=layered(lambda specs: specs[:1]), example=1),
    "crop at the end only": Mutant(rule=TRANSPOSE, law=law_float64, mutation=layered(cropped_at_the_end), example=1),
    "output padding of Keras": Mutant(
        rule=TRANSPOSE, law=law_float64, mutation=first_layer(output_padding=None), example=3
    ),
    "output padding ignored": Mutant(
        rule=TRANSPOSE, law=law_float64, mutation=first_layer(output_padding=0), example=1
    ),
    "transposed as same": Mutant(rule=TRANSPOSE, law=law_float64, mutation=layered(transposed_as_same), example=1),
    "mirrored with the border": Mutant(rule=CONV, law=law_float64, mutation=first_layer(mode="symmetric"), example=8),
    "mirrored with zeros": Mutant(rule=CONV, law=law_float64, mutation=layered(padded_with_zeros), example=8),
    "wrapped for repeated": Mutant(rule=CONV, law=law_float64, mutation=first_layer(mode="wrap"), example=9),
    "wrapped comes back as wrapped": Mutant(rule=CONV, law=law_way_back, mutation=first_layer(mode="wrap"), example=9),
    "separable multiplier first": Mutant(
        rule=SEPARABLE, law=law_float64, mutation=mapped("0.weight", multiplier_first)
    ),
    "separable without stride": Mutant(rule=SEPARABLE, law=law_float64, mutation=constant(strides=1)),
    "separable without bias": Mutant(rule=SEPARABLE, law=law_names, mutation=constant(use_bias=False)),
    "frozen and trained all the same": Mutant(rule=FROZEN, law=law_training, mutation=constant(trainable=True)),
    "swapped statistics of a frozen layer": Mutant(
        rule=FROZEN, law=law_float64, mutation=swapped("running_mean", "running_var")
    ),
    "synchronised epsilon": Mutant(rule=SYNC, law=law_float64, mutation=constant(epsilon=1e-3)),
    "layer norm with the epsilon of Keras": Mutant(rule=LAYER_NORM, law=law_float64, mutation=constant(epsilon=1e-3)),
    "swapped gamma and beta": Mutant(rule=LAYER_NORM, law=law_float64, mutation=swapped("weight", "bias")),
    "layer norm without its bias": Mutant(rule=LAYER_NORM, law=law_names, mutation=constant(center=False)),
    "table of an image in torch's order": Mutant(
        rule=LAYER_NORM, law=law_shapes, mutation=mapped("weight", lambda config: Same()), example=4
    ),
    "table of an image with swapped axes": Mutant(
        rule=LAYER_NORM, law=law_shapes, mutation=weight("c h w -> w h c"), example=4
    ),
    "channels of an image taken for a sequence": Mutant(rule=LAYER_NORM_2D, law=law_shapes, mutation=in_torchs_layout),
    "one group for two": Mutant(rule=GROUP_NORM, law=law_float64, mutation=constant(groups=1)),
    "group norm without gamma": Mutant(rule=GROUP_NORM, law=law_names, mutation=constant(scale=False)),
    "groups lost on the way back": Mutant(rule=GROUP_NORM, law=law_way_back, mutation=constant(groups=3)),
    "instance norm as one group": Mutant(rule=INSTANCE_NORM, law=law_float64, mutation=constant(groups=1)),
    "instance norm with the epsilon of Keras": Mutant(
        rule=INSTANCE_NORM, law=law_float64, mutation=constant(epsilon=1e-3)
    ),
    "mean square with another epsilon": Mutant(rule=RMS_NORM, law=law_float64, mutation=constant(epsilon=1e-6)),
    "mean square of one axis for two": Mutant(rule=RMS_NORM, law=law_shapes, mutation=constant(axis=-1), example=1),
}

CASES = pytest.mark.parametrize("mistake", MUTANTS)


@CASES
def test_a_planted_mistake_is_caught_by_its_law(mistake: str) -> None:
    assert_caught(MUTANTS[mistake])


@CASES
def test_the_same_rule_without_the_mistake_obeys_every_law(mistake: str) -> None:
    assert_lawful(MUTANTS[mistake])


def refused(name: str, *modules: torch.nn.Module) -> Callable[[], LayerSpecs]:
    rule = find(name)
    config = config_of(rule, modules[0] if len(modules) == 1 else torch.nn.Sequential(*modules))
    return lambda: rule.to_keras(config)


def test_a_bias_between_two_convolutions_is_refused() -> None:
    to_keras = refused(SEPARABLE, torch.nn.Conv2d(3, 6, 3, groups=3), torch.nn.Conv2d(6, 4, 1))
    with pytest.raises(RuleError, match="without a bias"):
        to_keras()


def test_running_statistics_of_an_instance_are_refused() -> None:
    to_keras = refused(INSTANCE_NORM, torch.nn.InstanceNorm2d(3, track_running_stats=True))
    with pytest.raises(RuleError, match="track_running_stats=True"):
        to_keras()


@pytest.mark.parametrize(
    ("name", "config"),
    [
        (LAYER_NORM, {"axis": [1, 2], "scale": True, "center": True}),
        (LAYER_NORM, {"axis": -1, "rms_scaling": True}),
        (GROUP_NORM, {"groups": 2, "axis": 1}),
        (INSTANCE_NORM, {"groups": 2}),
    ],
)
def test_keras_options_that_torch_lacks_are_refused(name: str, config: Config) -> None:
    rule = find(name)
    spec = LayerSpec(kind=rule.keras, config=config, shapes={"gamma": (4,)}, inputs=((2, 5, 6, 4),))
    with pytest.raises(RuleError, match=rule.keras.rpartition(".")[2]):
        rule.to_torch((spec,))


def test_a_positive_axis_is_the_last_unless_the_input_has_more_axes() -> None:
    rule = find(LAYER_NORM)
    spec = LayerSpec(kind=rule.keras, config={"axis": [2]}, shapes={"gamma": (4,)})
    assert rule.to_torch((spec,))[0].config["normalized_shape"] == (4,)
    with pytest.raises(RuleError, match="last axes"):
        rule.to_torch((replace(spec, inputs=((2, 5, 4, 6),)),))


def test_an_rms_norm_without_epsilon_gets_the_float32_epsilon() -> None:
    assert torch.finfo(torch.float32).eps == FLOAT32_EPSILON
    rule = find(RMS_NORM)
    example = replace(rule.examples[0], config={"normalized_shape": (5,)})
    trial = trial_of(
        Mutant(rule=RMS_NORM, law=law_float32, mutation=lambda rule: rule), replace(rule, examples=(example,))
    )
    assert trial.specs[0].config["epsilon"] == FLOAT32_EPSILON
    law_float32(trial)
