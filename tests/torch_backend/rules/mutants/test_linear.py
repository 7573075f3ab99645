"""Planted mistakes in the rules of matrix products, tables and parameters: each breaks the law named with it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from keras3conv.rules.rule import Config, Example, LayerSpecs, Rule, WeightMapping
from keras3conv.transforms import Axes, Chain, Same, Take, Transform
from tests.support.laws import (
    law_float64,
    law_gradients,
    law_names,
    law_shapes,
    law_way_back,
)
from tests.torch_backend.rules.mutants.test_common import (
    Mutant,
    Mutation,
    assert_caught,
    assert_lawful,
    configured,
    forgotten,
    layered,
    mapped,
)

pytestmark = pytest.mark.slow

CONV1D = "transformers.pytorch_utils.Conv1D <-> keras.layers.Dense"
CONV1D_PACKED = "transformers.pytorch_utils.Conv1D <-> 3 x keras.layers.Dense"
DENSE_PACKED = "torch.nn.Linear <-> 3 x keras.layers.Dense"
EINSUM = "torch.nn.Linear <-> keras.layers.EinsumDense"
EINSUM_PACKED = "torch.nn.Linear <-> 3 x keras.layers.EinsumDense"
BILINEAR = "torch.nn.Bilinear <-> keras.layers.EinsumDense"
POINTWISE = "torch.nn.Conv2d <-> keras.layers.Dense"
PIXEL = "torch.nn.Linear <-> keras.layers.Conv2D"
EMBEDDING = "torch.nn.Embedding <-> keras.layers.Embedding"
BAG = "torch.nn.EmbeddingBag <-> keras.layers.Embedding"
REVERSIBLE = "torch.nn.Embedding <-> keras.layers.ReversibleEmbedding"
PRELU = "torch.nn.PReLU <-> keras.layers.PReLU"
LAYER_SCALE = "timm.layers.layer_scale.LayerScale <-> keras.layers.EinsumDense"


def first(role: str, before: Callable[[Config], Transform]) -> Mutation:
    """Return a mutation: another transform is applied to one torch tensor before the right one."""

    def mutate(rule: Rule) -> Rule:
        def changed(mapping: WeightMapping, config: Config) -> WeightMapping:
            return replace(mapping, transform=Chain(before(config), mapping.transform))

        def weights(config: Config) -> tuple[WeightMapping, ...]:
            return tuple(
                changed(mapping, config) if mapping.torch == (role,) else mapping for mapping in rule.weights(config)
            )

        return replace(rule, weights=weights)

    return mutate


def taken(role: str, size: str, *, axis: int = 0) -> Mutation:
    """Return a mutation: the elements along an axis are rolled by one position."""
    return first(role, lambda config: Take(axis, (config[size] - 1, *range(config[size] - 1))))


def thirds(*order: int, axis: int = 0) -> Mutation:
    """Return a mutation: query, key and value of a packed weight are permuted."""
    return first("weight", lambda config: Take(axis, order))


def interleaved(pattern: str) -> Mutation:
    """Return a mutation: the rows of query, key and value in a packed weight alternate."""
    return first("weight", lambda config: Axes(pattern, q=3))


def weight(pattern: str) -> Mutation:
    return mapped("weight", lambda config: Axes(pattern))


def with_example(place: int, **changes: Any) -> Mutation:
    """Return a mutation: one example of a rule is changed."""

    def mutate(rule: Rule) -> Rule:
        examples: list[Example] = [*rule.examples]
        examples[place] = replace(examples[place], **changes)
        return replace(rule, examples=tuple(examples))

    return mutate


def other_reduction(specs: LayerSpecs) -> LayerSpecs:
    table, reduction = specs
    return table, replace(reduction, kind="keras.ops.sum")


def other_axis(specs: LayerSpecs) -> LayerSpecs:
    table, reduction = specs
    return table, replace(reduction, config={"axis": -1})


def arguments_swapped(rule: Rule) -> Rule:
    return replace(rule, keras_arguments=lambda given: rule.keras_arguments((given[1], given[0])))


MUTANTS: dict[str, Mutant] = {
    # One product
    "GPT-2 weight transposed": Mutant(rule=CONV1D, law=law_float64, mutation=weight("i o -> o i"), example=1),
    "untransposed square EinsumDense": Mutant(rule=EINSUM, law=law_float64, mutation=weight("o i -> o i"), example=1),
    "EinsumDense without its bias": Mutant(
        rule=EINSUM, law=law_names, mutation=configured(lambda keras, config: {"bias_axes": None})
    ),
    "forgotten bias of an EinsumDense": Mutant(rule=EINSUM, law=law_names, mutation=forgotten("bias")),
    "EinsumDense with an activation": Mutant(
        rule=EINSUM, law=law_float64, mutation=configured(lambda keras, config: {"activation": "relu"})
    ),
    "untransposed square convolution": Mutant(
        rule=POINTWISE, law=law_float64, mutation=weight("o i 1 1 -> o i"), example=1
    ),
    "image in torch's layout": Mutant(
        rule=POINTWISE, law=law_shapes, mutation=lambda rule: replace(rule, layout="same")
    ),
    "untransposed square pixel": Mutant(rule=PIXEL, law=law_float64, mutation=weight("o i -> 1 1 o i"), example=1),
    "pixel with a stride": Mutant(
        rule=PIXEL, law=law_float64, mutation=configured(lambda keras, config: {"strides": 2})
    ),
    # Two inputs
    "swapped inputs of a square product": Mutant(
        rule=BILINEAR, law=law_float64, mutation=weight("o i j -> j i o"), example=1
    ),
    "swapped arguments of a square product": Mutant(
        rule=BILINEAR, law=law_float64, mutation=arguments_swapped, example=1
    ),
    "outputs of a square product before its inputs": Mutant(
        rule=BILINEAR, law=law_float64, mutation=weight("o i j -> o i j"), example=1
    ),
    # Query, key and value
    "swapped query and key": Mutant(rule=DENSE_PACKED, law=law_float64, mutation=thirds(1, 0, 2)),
    "swapped key and value": Mutant(rule=EINSUM_PACKED, law=law_float64, mutation=thirds(0, 2, 1)),
    "alternating query, key and value": Mutant(
        rule=DENSE_PACKED, law=law_float64, mutation=interleaved("(o q) i -> (q o) i")
    ),
    "alternating columns of GPT-2": Mutant(
        rule=CONV1D_PACKED, law=law_float64, mutation=interleaved("i (o q) -> i (q o)")
    ),
    "value first in GPT-2": Mutant(rule=CONV1D_PACKED, law=law_float64, mutation=thirds(2, 0, 1, axis=1)),
    "forgotten packed bias": Mutant(rule=DENSE_PACKED, law=law_names, mutation=forgotten("bias")),
    "a bias without its weight": Mutant(rule=EINSUM_PACKED, law=law_names, mutation=forgotten("weight")),
    # Tables
    "rows shifted by one": Mutant(rule=EMBEDDING, law=law_float64, mutation=taken("weight", "num_embeddings")),
    "transposed square table": Mutant(rule=EMBEDDING, law=law_float64, mutation=weight("v d -> d v"), example=1),
    "columns shifted by one": Mutant(
        rule=REVERSIBLE, law=law_float64, mutation=taken("weight", "embedding_dim", axis=1)
    ),
    "a head of its own": Mutant(
        rule=REVERSIBLE, law=law_names, mutation=configured(lambda keras, config: {"tie_weights": False})
    ),
    "a padding row that is trained": Mutant(
        rule=EMBEDDING, law=law_gradients, mutation=with_example(2, integers=8), example=2
    ),
    "a padding row that is kept": Mutant(
        rule=EMBEDDING, law=law_way_back, mutation=with_example(2, canonical=True), example=2
    ),
    "sum for mean": Mutant(rule=BAG, law=law_float64, mutation=layered(other_reduction), example=1),
    "a bag summed over its columns": Mutant(rule=BAG, law=law_float64, mutation=layered(other_axis)),
    "mode lost on the way back": Mutant(rule=BAG, law=law_way_back, mutation=layered(other_reduction), example=2),
    # Slopes and factors
    "slopes of the neighbouring channels": Mutant(
        rule=PRELU, law=law_float64, mutation=taken("weight", "num_parameters"), example=1
    ),
    "slopes shared along another axis": Mutant(
        rule=PRELU, law=law_shapes, mutation=configured(lambda keras, config: {"shared_axes": [2, 3]}), example=1
    ),
    "a slope for every channel, not one for all": Mutant(
        rule=PRELU, law=law_shapes, mutation=configured(lambda keras, config: {"shared_axes": [1, 2]})
    ),
    "slopes without their axes": Mutant(
        rule=PRELU, law=law_shapes, mutation=mapped("weight", lambda config: Same()), example=1
    ),
    "factors of another order": Mutant(
        rule=LAYER_SCALE, law=law_float64, mutation=first("gamma", lambda config: Take(0, (4, 3, 2, 1, 0)))
    ),
    "a factor for each place": Mutant(
        rule=LAYER_SCALE,
        law=law_shapes,
        mutation=configured(lambda keras, config: {"equation": "abc,bc->abc", "output_shape": (3, 5)}),
    ),
}

CASES = pytest.mark.parametrize("mistake", MUTANTS)


@CASES
def test_a_planted_mistake_is_caught_by_its_law(mistake: str) -> None:
    assert_caught(MUTANTS[mistake])


@CASES
def test_the_same_rule_without_the_mistake_obeys_every_law(mistake: str) -> None:
    assert_lawful(MUTANTS[mistake])
