"""Common converter mistakes, planted into rules: each must break the law that is named with it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from keras3conv.rules.library import find
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Rule, WeightMapping
from keras3conv.transforms import Axes, Chain, Take, Transform
from tests.support.laws import (
    LAWS,
    Law,
    law_float64,
    law_moving_statistics,
    law_names,
    law_shapes,
    law_training,
    law_transforms,
    law_way_back,
)
from tests.support.trials import Trial, make_trial

pytestmark = pytest.mark.slow

CONV = "torch.nn.Conv2d <-> keras.layers.Conv2D"
DEPTHWISE = "torch.nn.Conv2d <-> keras.layers.DepthwiseConv2D"
DENSE = "torch.nn.Linear <-> keras.layers.Dense"
BATCH_NORM = "torch.nn.BatchNorm2d <-> keras.layers.BatchNormalization"
LEAKY_RELU = "torch.nn.LeakyReLU <-> keras.layers.LeakyReLU"
GELU = "torch.nn.GELU <-> keras.activations.gelu"
SILU = "torch.nn.SiLU <-> keras.activations.silu"
RELU6 = "torch.nn.ReLU6 <-> keras.layers.ReLU"
SOFTMAX = "torch.nn.Softmax <-> keras.layers.Softmax"
ZERO_PAD = "torch.nn.ZeroPad2d <-> keras.layers.ZeroPadding2D"
MAX_POOL = "torch.nn.MaxPool2d <-> keras.layers.MaxPooling2D"
AVERAGE_POOL = "torch.nn.AvgPool2d <-> keras.layers.AveragePooling2D"
UPSAMPLE = "torch.nn.Upsample <-> keras.layers.UpSampling2D"
DROPOUT = "torch.nn.Dropout <-> keras.layers.Dropout"

Mutation = Callable[[Rule], Rule]


def mapped(role: str, transform: Callable[[Config], Transform]) -> Mutation:
    """Return a mutation: the mapping of one torch tensor has another transform."""

    def mutate(rule: Rule) -> Rule:
        def weights(config: Config) -> tuple[WeightMapping, ...]:
            return tuple(
                replace(mapping, transform=transform(config)) if mapping.torch == (role,) else mapping
                for mapping in rule.weights(config)
            )

        return replace(rule, weights=weights)

    return mutate


def swapped(first: str, second: str) -> Mutation:
    """Return a mutation: two torch tensors are swapped."""
    places = {first: second, second: first}

    def mutate(rule: Rule) -> Rule:
        def weights(config: Config) -> tuple[WeightMapping, ...]:
            return tuple(
                replace(mapping, torch=tuple(places.get(name, name) for name in mapping.torch))
                for mapping in rule.weights(config)
            )

        return replace(rule, weights=weights)

    return mutate


def forgotten(role: str) -> Mutation:
    """Return a mutation: one torch tensor is not mapped."""
    return lambda rule: replace(
        rule, weights=lambda config: tuple(entry for entry in rule.weights(config) if role not in entry.torch)
    )


def configured(change: Callable[[Mapping[str, Any], Config], Config]) -> Mutation:
    """Return a mutation: `change` edits the Keras arguments, given the Keras and the torch configuration."""

    def mutate(rule: Rule) -> Rule:
        def to_keras(config: Config) -> LayerSpecs:
            *before, last = rule.to_keras(config)
            return (*before, replace(last, config={**last.config, **change(last.config, config)}))

        return replace(rule, to_keras=to_keras)

    return mutate


def layered(change: Callable[[LayerSpecs], LayerSpecs]) -> Mutation:
    """Return a mutation: `change` edits the Keras layers that the rule creates."""
    return lambda rule: replace(rule, to_keras=lambda config: change(rule.to_keras(config)))


def same_for_the_padding_layer(specs: LayerSpecs) -> LayerSpecs:
    last = specs[-1]
    return (LayerSpec(kind=last.kind, config={**last.config, "padding": "same"}),)


def maximum_for_average(specs: LayerSpecs) -> LayerSpecs:
    return (replace(specs[-1], kind="keras.layers.MaxPooling2D"),)


def reordered(rule: Rule) -> Rule:
    return replace(rule, weights=lambda config: tuple(reversed(rule.weights(config))))


def padding_shifted_by_one(specs: LayerSpecs) -> LayerSpecs:
    first, last = specs
    padding = tuple((start - 1, end + 1) for start, end in first.config["padding"])
    return (LayerSpec(kind=first.kind, config={"padding": padding}), last)


def kernel_flipped(config: Config) -> Transform:
    return Chain(Axes("o i h w -> h w i o"), Take(0, tuple(reversed(range(config["kernel_size"][0])))))


def on(example: Example, mutation: Mutation) -> Mutation:
    """Return a mutation that also makes this example the first example of the rule."""
    return lambda rule: mutation(replace(rule, examples=(example, *rule.examples)))


def erf_for_every_gelu(rule: Rule) -> Rule:
    return replace(rule, to_keras=lambda config: rule.to_keras({"approximate": "none"}))


def channels_interleaved(config: Config) -> Transform:
    return Axes("(m c) 1 h w -> h w c m", m=config["out_channels"] // config["groups"])


def groups_interleaved(config: Config) -> Transform:
    return Axes("(o g) i h w -> h w i (g o)", g=config["groups"])


SQUARE = Example(config={"in_channels": 4, "out_channels": 4, "kernel_size": 3, "padding": 1}, inputs=((2, 4, 7, 6),))
TANH_GELU = Example(config={"approximate": "tanh"}, inputs=((3, 5),))


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A planted mistake.

    Attributes:
        rule: The rule that it is planted in.
        law: The law that must catch it.
        mutation: What is changed.
        example: On which example of the changed rule it shows.
    """

    rule: str
    law: Law
    mutation: Mutation
    example: int = 0


def weight(pattern: str) -> Mutation:
    return mapped("weight", lambda config: Axes(pattern))


MUTANTS: dict[str, Mutant] = {
    # Convolutions
    "swapped kernel axes": Mutant(rule=CONV, law=law_shapes, mutation=weight("o i h w -> w h i o")),
    "swapped axes of a square kernel": Mutant(
        rule=CONV, law=law_float64, mutation=on(SQUARE, weight("o i h w -> w h i o"))
    ),
    "swapped channels of a square kernel": Mutant(
        rule=CONV, law=law_float64, mutation=on(SQUARE, weight("o i h w -> h w o i"))
    ),
    "kernel in torch's order": Mutant(rule=CONV, law=law_shapes, mutation=weight("o i h w -> o i h w")),
    "flipped kernel": Mutant(rule=CONV, law=law_float64, mutation=mapped("weight", kernel_flipped)),
    "interleaved groups": Mutant(rule=CONV, law=law_float64, mutation=mapped("weight", groups_interleaved), example=5),
    "groups ignored": Mutant(
        rule=CONV, law=law_shapes, mutation=configured(lambda keras, config: {"groups": 1}), example=5
    ),
    "forgotten bias": Mutant(rule=CONV, law=law_names, mutation=forgotten("bias")),
    "dropped bias": Mutant(rule=CONV, law=law_names, mutation=configured(lambda keras, config: {"use_bias": False})),
    "dilation ignored": Mutant(
        rule=CONV, law=law_float64, mutation=configured(lambda keras, config: {"dilation_rate": 1}), example=5
    ),
    "swapped dilation": Mutant(
        rule=CONV,
        law=law_float64,
        mutation=configured(lambda keras, config: {"dilation_rate": keras["dilation_rate"][::-1]}),
        example=5,
    ),
    "swapped strides": Mutant(
        rule=CONV,
        law=law_float64,
        mutation=configured(lambda keras, config: {"strides": keras["strides"][::-1]}),
        example=6,
    ),
    "same padding with stride 2": Mutant(rule=CONV, law=law_float64, mutation=layered(same_for_the_padding_layer)),
    "padding shifted by one": Mutant(rule=CONV, law=law_float64, mutation=layered(padding_shifted_by_one)),
    "forgotten padding": Mutant(rule=CONV, law=law_float64, mutation=layered(lambda specs: specs[-1:])),
    "same padding lost on the way back": Mutant(
        rule=CONV, law=law_way_back, mutation=configured(lambda keras, config: {"padding": "valid"}), example=2
    ),
    "depth multiplier first": Mutant(rule=DEPTHWISE, law=law_float64, mutation=mapped("weight", channels_interleaved)),
    # One matrix product
    "untransposed square Dense": Mutant(rule=DENSE, law=law_float64, mutation=weight("o i -> o i"), example=2),
    "Dense with an activation": Mutant(
        rule=DENSE, law=law_float64, mutation=configured(lambda keras, config: {"activation": "relu"})
    ),
    # Normalisation
    "swapped gamma and beta": Mutant(rule=BATCH_NORM, law=law_float64, mutation=swapped("weight", "bias")),
    "swapped mean and variance": Mutant(
        rule=BATCH_NORM, law=law_float64, mutation=swapped("running_mean", "running_var")
    ),
    "gamma and beta in another order": Mutant(rule=BATCH_NORM, law=law_names, mutation=reordered),
    "forgotten mean": Mutant(rule=BATCH_NORM, law=law_names, mutation=forgotten("running_mean")),
    "epsilon of Keras": Mutant(
        rule=BATCH_NORM, law=law_float64, mutation=configured(lambda keras, config: {"epsilon": 1e-3})
    ),
    "epsilon off by 0.1 %": Mutant(
        rule=BATCH_NORM, law=law_float64, mutation=configured(lambda keras, config: {"epsilon": 1.001 * config["eps"]})
    ),
    "epsilon lost on the way back": Mutant(
        rule=BATCH_NORM, law=law_way_back, mutation=configured(lambda keras, config: {"epsilon": 1e-3})
    ),
    "momentum without complement": Mutant(
        rule=BATCH_NORM,
        law=law_moving_statistics,
        mutation=configured(lambda keras, config: {"momentum": config["momentum"]}),
    ),
    "momentum lost on the way back": Mutant(
        rule=BATCH_NORM, law=law_way_back, mutation=configured(lambda keras, config: {"momentum": config["momentum"]})
    ),
    "statistics of another axis": Mutant(
        rule=BATCH_NORM, law=law_shapes, mutation=configured(lambda keras, config: {"axis": 1})
    ),
    # Activations
    "wrong slope": Mutant(
        rule=LEAKY_RELU, law=law_float64, mutation=configured(lambda keras, config: {"negative_slope": 0.3})
    ),
    "erf GELU for tanh": Mutant(rule=GELU, law=law_float64, mutation=on(TANH_GELU, erf_for_every_gelu)),
    "hard swish for SiLU": Mutant(
        rule=SILU, law=law_float64, mutation=configured(lambda keras, config: {"activation": "hard_silu"})
    ),
    "ReLU without maximum": Mutant(
        rule=RELU6, law=law_float64, mutation=configured(lambda keras, config: {"max_value": None})
    ),
    "softmax of another axis": Mutant(
        rule=SOFTMAX, law=law_float64, mutation=configured(lambda keras, config: {"axis": -1}), example=1
    ),
    # Shapes, pooling, regularisation
    "swapped padding": Mutant(
        rule=ZERO_PAD, law=law_float64, mutation=configured(lambda keras, config: {"padding": keras["padding"][::-1]})
    ),
    "unpadded maximum": Mutant(
        rule=MAX_POOL, law=law_float64, mutation=configured(lambda keras, config: {"padding": "valid"}), example=2
    ),
    "maximum for average": Mutant(rule=AVERAGE_POOL, law=law_float64, mutation=layered(maximum_for_average)),
    "swapped scales": Mutant(
        rule=UPSAMPLE, law=law_float64, mutation=configured(lambda keras, config: {"size": keras["size"][::-1]})
    ),
    # The input is large enough that two random masks are never equal by chance.
    "dropout that claims to hold in training": Mutant(
        rule=DROPOUT,
        law=law_training,
        mutation=lambda rule: replace(rule, train=True, examples=(Example(config={"p": 0.3}, inputs=((50, 60),)),)),
    ),
}

CASES = pytest.mark.parametrize("mistake", MUTANTS)


def trial_of(mutant: Mutant, rule: Rule) -> Trial:
    return make_trial(rule, rule.examples[mutant.example])


def assert_caught(mutant: Mutant) -> None:
    """Assert that the planted mistake breaks its law."""
    trial = trial_of(mutant, mutant.mutation(find(mutant.rule)))
    with pytest.raises(AssertionError):
        mutant.law(trial)


def assert_lawful(mutant: Mutant) -> None:
    """Assert that the same rule with the same example, without the mistake, obeys every law."""
    trial = trial_of(mutant, find(mutant.rule))
    for law in LAWS:
        law(trial)


@CASES
def test_a_planted_mistake_is_caught_by_its_law(mistake: str) -> None:
    assert_caught(MUTANTS[mistake])


@CASES
def test_the_same_rule_without_the_mistake_obeys_every_law(mistake: str) -> None:
    assert_lawful(MUTANTS[mistake])


def test_only_the_forward_pass_detects_swapped_axes_of_a_square_kernel() -> None:
    mutant = MUTANTS["swapped axes of a square kernel"]
    trial = trial_of(mutant, mutant.mutation(find(mutant.rule)))
    for law in (law_names, law_shapes, law_transforms, law_way_back):
        law(trial)
