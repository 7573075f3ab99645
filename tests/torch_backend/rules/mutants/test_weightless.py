"""Planted mistakes in the rules of layers without tensors: each breaks the law that is named with it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from keras3conv.rules.rule import LayerSpec, LayerSpecs, Rule
from tests.support.laws import law_applies, law_float64, law_gradients, law_training, law_way_back
from tests.torch_backend.rules.mutants.test_common import Mutant, assert_caught, assert_lawful, configured, layered

pytestmark = pytest.mark.slow

LAYERS = "keras3conv.frameworks.keras.layers"


def setting(**values: Any) -> Callable[[Rule], Rule]:
    """Return a mutation: the last Keras layer gets these arguments."""
    return configured(lambda keras, config: values)


def first_with(**values: Any) -> Callable[[Rule], Rule]:
    """Return a mutation: the first Keras layer gets these arguments."""

    def change(specs: LayerSpecs) -> LayerSpecs:
        return (replace(specs[0], config={**specs[0].config, **values}), *specs[1:])

    return layered(change)


def without(place: int) -> Callable[[Rule], Rule]:
    """Return a mutation: one of the Keras layers is missing."""
    return layered(lambda specs: tuple(spec for number, spec in enumerate(specs) if number != place))


def instead(kind: str, **config: Any) -> Callable[[Rule], Rule]:
    """Return a mutation: another class of Keras layer is created."""
    return layered(lambda specs: (LayerSpec(kind=kind, config=config),))


def returning(**values: Any) -> Callable[[Rule], Rule]:
    """Return a mutation: the translation back to torch returns these arguments."""

    def mutate(rule: Rule) -> Rule:
        def to_torch(layers: LayerSpecs) -> LayerSpecs:
            *before, last = rule.to_torch(layers)
            return (*before, replace(last, config={**last.config, **values}))

        return replace(rule, to_torch=to_torch)

    return mutate


MAX_POOL = "torch.nn.MaxPool2d <-> keras.layers.MaxPooling2D"
AVERAGE_POOL = "torch.nn.AvgPool2d <-> keras.layers.AveragePooling2D"
WINDOW_MAXIMUM = f"torch.nn.MaxPool2d <-> {LAYERS}.WindowMaximum"
WINDOW_AVERAGE = f"torch.nn.AvgPool2d <-> {LAYERS}.WindowAverage"
RESAMPLE = f"torch.nn.Upsample <-> {LAYERS}.Resample"
CONSTANT_PAD = "torch.nn.ConstantPad2d <-> keras.ops.pad"
REFLECTION_PAD = "torch.nn.ReflectionPad2d <-> keras.ops.pad"
REPLICATION_PAD = f"torch.nn.ReplicationPad2d <-> {LAYERS}.Pad"
CROPPING = "torch.nn.ZeroPad2d <-> keras.layers.Cropping2D"

MUTANTS: dict[str, Mutant] = {
    # Activations
    "tanh GELU for erf": Mutant(
        rule="torch.nn.GELU <-> keras.ops.gelu", law=law_float64, mutation=setting(approximate=True), example=1
    ),
    "softmin without its sign": Mutant(
        rule="torch.nn.Softmin <-> keras.layers.Softmax", law=law_float64, mutation=without(0)
    ),
    "softplus without its beta": Mutant(
        rule=f"torch.nn.Softplus <-> {LAYERS}.Softplus", law=law_float64, mutation=setting(beta=1.0)
    ),
    "softplus with another threshold": Mutant(
        rule=f"torch.nn.Softplus <-> {LAYERS}.Softplus", law=law_float64, mutation=setting(threshold=20.0)
    ),
    "gate over another axis": Mutant(
        rule="torch.nn.GLU <-> keras.ops.glu", law=law_float64, mutation=setting(axis=0), example=1
    ),
    "threshold that gives zero": Mutant(
        rule="torch.nn.Threshold <-> keras.ops.threshold", law=law_float64, mutation=setting(default_value=0)
    ),
    "random slope in training": Mutant(
        rule="torch.nn.RReLU <-> keras.ops.leaky_relu",
        law=law_training,
        mutation=lambda rule: replace(rule, train=True),
    ),
    # Pooling
    "maximum padded with zeros": Mutant(
        rule=MAX_POOL, law=law_float64, mutation=first_with(constant_values=0.0), example=1
    ),
    "gradient of a maximum that is padding": Mutant(
        rule=MAX_POOL, law=law_gradients, mutation=first_with(constant_values=1e3), example=1
    ),
    "ceil_mode forgotten": Mutant(
        rule=MAX_POOL,
        law=law_float64,
        mutation=first_with(pad_width=((0, 0), (1, 1), (0, 0), (0, 0))),
        example=3,
    ),
    "ceil_mode lost on the way back": Mutant(
        rule=MAX_POOL, law=law_way_back, mutation=returning(ceil_mode=False), example=3
    ),
    "dilation of a maximum forgotten": Mutant(rule=WINDOW_MAXIMUM, law=law_float64, mutation=setting(dilation_rate=1)),
    "last window of a maximum forgotten": Mutant(
        rule=WINDOW_MAXIMUM, law=law_float64, mutation=setting(ceil_mode=False), example=1
    ),
    "maximum of another class": Mutant(
        rule=WINDOW_MAXIMUM, law=law_applies, mutation=instead("keras.layers.MaxPooling2D", pool_size=2)
    ),
    "average that counts the border": Mutant(
        rule=WINDOW_AVERAGE, law=law_float64, mutation=setting(count_include_pad=True)
    ),
    "average that does not count the border": Mutant(
        rule=AVERAGE_POOL,
        law=law_float64,
        mutation=instead("keras.layers.AveragePooling2D", pool_size=(3, 5), strides=1, padding="same"),
        example=1,
    ),
    "divisor forgotten": Mutant(rule=AVERAGE_POOL, law=law_float64, mutation=without(2), example=4),
    "adaptive sizes swapped": Mutant(
        rule="torch.nn.AdaptiveAvgPool2d <-> keras.layers.AdaptiveAveragePooling2D",
        law=law_float64,
        mutation=configured(lambda keras, config: {"output_size": keras["output_size"][::-1]}),
    ),
    # Padding
    "padded with zeros": Mutant(rule=CONSTANT_PAD, law=law_float64, mutation=setting(constant_values=0)),
    "reflection with the border twice": Mutant(
        rule=REFLECTION_PAD, law=law_float64, mutation=setting(mode="symmetric")
    ),
    "replication that wraps": Mutant(rule=REPLICATION_PAD, law=law_float64, mutation=setting(mode="wrap")),
    "axes of a padding swapped": Mutant(
        rule=REPLICATION_PAD,
        law=law_float64,
        mutation=configured(lambda keras, config: {"padding": keras["padding"][::-1]}),
    ),
    "ends of a cropping swapped": Mutant(
        rule=CROPPING,
        law=law_float64,
        mutation=configured(lambda keras, config: {"cropping": tuple(axis[::-1] for axis in keras["cropping"])}),
    ),
    "padding before a cropping forgotten": Mutant(rule=CROPPING, law=law_float64, mutation=without(0), example=1),
    # Resizing
    "nearest for nearest-exact": Mutant(rule=RESAMPLE, law=law_float64, mutation=setting(mode="nearest"), example=2),
    "corners not aligned": Mutant(rule=RESAMPLE, law=law_float64, mutation=setting(align_corners=False), example=6),
    "scale of the rounded sizes": Mutant(
        rule=RESAMPLE, law=law_float64, mutation=setting(recompute_scale_factor=True), example=5
    ),
    "linear for cubic": Mutant(rule=RESAMPLE, law=law_float64, mutation=setting(mode="bilinear"), example=8),
    "pixels shuffled back": Mutant(
        rule=f"torch.nn.PixelShuffle <-> {LAYERS}.PixelShuffle",
        law=law_float64,
        mutation=instead("keras.ops.reshape", newshape=(2, 8, 10, 3)),
    ),
    "groups of channels transposed": Mutant(
        rule=f"torch.nn.ChannelShuffle <-> {LAYERS}.ChannelShuffle", law=law_float64, mutation=setting(groups=3)
    ),
    # Axes and several inputs
    "joined in another order": Mutant(
        rule="torch.cat <-> keras.layers.Concatenate",
        law=law_float64,
        mutation=lambda rule: replace(rule, keras_arguments=lambda arrays: (list(arrays[::-1]),)),
    ),
    "stacked along another axis": Mutant(
        rule="torch.stack <-> keras.ops.stack", law=law_float64, mutation=setting(axis=2)
    ),
    "axes of a permutation inverted": Mutant(
        rule="torch.permute <-> keras.layers.Permute", law=law_float64, mutation=setting(dims=(2, 3, 1)), example=1
    ),
    "sum for difference": Mutant(
        rule="torch.sub <-> keras.layers.Subtract", law=law_float64, mutation=instead("keras.layers.Add")
    ),
    "offset for scale": Mutant(
        rule="torch.mul <-> keras.layers.Rescaling", law=law_float64, mutation=setting(scale=1.0, offset=-0.75)
    ),
}

CASES = pytest.mark.parametrize("mistake", MUTANTS)


@CASES
def test_a_planted_mistake_is_caught_by_its_law(mistake: str) -> None:
    assert_caught(MUTANTS[mistake])


@CASES
def test_the_same_rule_without_the_mistake_obeys_every_law(mistake: str) -> None:
    assert_lawful(MUTANTS[mistake])
