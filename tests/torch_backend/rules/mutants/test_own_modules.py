"""Planted mistakes in the rules of keras3conv's modules, and of attention projections: each breaks its law."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from keras3conv.rules.library import find
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Rule, WeightMapping
from keras3conv.transforms import Axes, Chain, Each, Same, Split, Take, Transform
from tests.support.laws import law_float64, law_gradients, law_names, law_shapes, law_transforms, law_way_back
from tests.torch_backend.rules.mutants.test_common import (
    Mutant,
    Mutation,
    assert_caught,
    configured,
    forgotten,
    mapped,
    on,
    swapped,
    trial_of,
)
from tests.torch_backend.rules.mutants.test_recurrent import before

pytestmark = pytest.mark.slow

OWN = "keras3conv.frameworks.torch.layers"
CONV_LSTM = f"{OWN}.ConvLSTM <-> keras.layers.ConvLSTM2D"
STEPS = f"{OWN}.Recurrent <-> keras.layers.RNN"
STEPS_GRU = f"{OWN}.Recurrent <-> keras.layers.GRU"
STEPS_LSTM = f"{OWN}.Recurrent <-> keras.layers.LSTM"
STACK = "torch.nn.LSTM <-> keras.layers.RNN"
STACK_GRU = "torch.nn.GRU <-> keras.layers.RNN"
PLAIN = f"{OWN}.Attention <-> keras.layers.Attention"
ADDITIVE = f"{OWN}.AdditiveAttention <-> keras.layers.AdditiveAttention"
GROUPED = f"{OWN}.GroupedQueryAttention <-> keras.layers.GroupQueryAttention"
MULTI_HEAD = f"{OWN}.GroupedQueryAttention <-> keras.layers.MultiHeadAttention"
FOUR = "4 x torch.nn.Linear <-> keras.layers.MultiHeadAttention"
FOUR_GROUPED = "4 x torch.nn.Linear <-> keras.layers.GroupQueryAttention"
TWO = "2 x torch.nn.Linear <-> keras.layers.MultiHeadAttention"
TWO_GROUPED = "2 x torch.nn.Linear <-> keras.layers.GroupQueryAttention"
TWO_GPT2 = "2 x transformers.pytorch_utils.Conv1D <-> keras.layers.MultiHeadAttention"


# Key and value of one shape, so that one can be taken for the other.
ALIKE = Example(config={"use_scale": True}, inputs=((2, 4, 5), (2, 3, 5), (2, 3, 5)))
ALIKE_HEADS = Example(
    config={"embed_dim": 5, "num_heads": 2, "num_key_value_heads": 2, "head_dim": 3}, inputs=ALIKE.inputs
)


def setting(**changes: Any) -> Mutation:
    """Return a mutation: the Keras layer gets other arguments."""
    return configured(lambda keras, config: changes)


def arguments(change: Callable[[tuple[Any, ...]], tuple[Any, ...]]) -> Mutation:
    """Return a mutation: `change` edits the arguments of the Keras call."""
    return lambda rule: replace(rule, keras_arguments=change)


def in_order_of_torch_nn(arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    query, value, key = arrays
    return query, key, value


def cells(change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Mutation:
    """Return a mutation: `change` edits the cells of the stack."""

    def mutate(rule: Rule) -> Rule:
        def to_keras(config: Config) -> LayerSpecs:
            (spec,) = rule.to_keras(config)
            stack = spec.config["cell"]
            made = {**stack, "config": {"cells": change(stack["config"]["cells"])}}
            return (LayerSpec(kind=spec.kind, config={**spec.config, "cell": made}),)

        return replace(rule, to_keras=to_keras)

    return mutate


def with_setting(**changes: Any) -> Mutation:
    """Return a mutation: every cell of the stack gets other arguments."""
    return cells(lambda found: [{**cell, "config": {**cell["config"], **changes}} for cell in found])


def roles(change: Callable[[str], str]) -> Mutation:
    """Return a mutation: `change` renames the Keras tensors."""

    def mutate(rule: Rule) -> Rule:
        def weights(config: Config) -> tuple[WeightMapping, ...]:
            return tuple(replace(mapping, keras=tuple(map(change, mapping.keras))) for mapping in rule.weights(config))

        return replace(rule, weights=weights)

    return mutate


def exchanged(first: str, second: str) -> Mutation:
    return roles(lambda role: role.replace(first, "?").replace(second, first).replace("?", second))


def plain(pattern: str, **sizes: int) -> Callable[[Config], Transform]:
    return lambda config: Axes(pattern, **sizes)


def thirds(*sizes: int, size: int) -> Callable[[Config], Transform]:
    return lambda config: Chain(Split(0, sizes), Each(Axes("(h d) e -> e h d", d=size)))


MUTANTS: dict[str, Mutant] = {
    # Convolutions over time
    "axes of the kernels exchanged": Mutant(
        rule=CONV_LSTM, law=law_shapes, mutation=mapped("weight_ih", plain("o i h w -> w h i o"))
    ),
    "gates of a GRU's order": Mutant(
        rule=CONV_LSTM, law=law_float64, mutation=before("weight_ih", lambda config: Take(0, (1, 0, 2, 3)))
    ),
    "recurrent kernel flipped": Mutant(
        rule=CONV_LSTM,
        law=law_float64,
        mutation=mapped("weight_hh", lambda config: Chain(Axes("o i h w -> h w i o"), Take(0, (2, 1, 0)))),
    ),
    "bias of the forget gate for that of the input gate": Mutant(
        rule=CONV_LSTM, law=law_float64, mutation=mapped("bias", lambda config: Take(0, (1, 0, 2, 3)))
    ),
    "stride forgotten": Mutant(rule=CONV_LSTM, law=law_float64, mutation=setting(strides=(1, 1)), example=1),
    "dilation forgotten": Mutant(rule=CONV_LSTM, law=law_float64, mutation=setting(dilation_rate=1), example=2),
    "activation of the gates lost on the way back": Mutant(
        rule=CONV_LSTM, law=law_way_back, mutation=setting(recurrent_activation="tanh"), example=3
    ),
    "the first step first": Mutant(rule=CONV_LSTM, law=law_float64, mutation=setting(go_backwards=False), example=2),
    "tangent for softsign": Mutant(rule=CONV_LSTM, law=law_float64, mutation=setting(activation="tanh"), example=1),
    "bias of the steps forgotten": Mutant(rule=CONV_LSTM, law=law_names, mutation=forgotten("bias")),
    # Cells
    "cells exchanged": Mutant(rule=STEPS, law=law_shapes, mutation=exchanged("cells.0", "cells.1")),
    "cells in another order": Mutant(rule=STEPS, law=law_shapes, mutation=cells(lambda found: found[::-1])),
    "cell without a bias": Mutant(rule=STEPS, law=law_names, mutation=with_setting(use_bias=False)),
    "tangent for relu": Mutant(rule=STEPS_LSTM, law=law_float64, mutation=setting(activation="tanh")),
    "sigmoid for elu": Mutant(
        rule=STEPS_LSTM, law=law_float64, mutation=setting(recurrent_activation="sigmoid"), example=1
    ),
    "steps forwards": Mutant(rule=STEPS_LSTM, law=law_float64, mutation=setting(go_backwards=False), example=1),
    "reset after the product": Mutant(rule=STEPS_GRU, law=law_shapes, mutation=setting(reset_after=True)),
    "reset after the product, without biases": Mutant(
        rule=STEPS_GRU, law=law_float64, mutation=setting(reset_after=True), example=2
    ),
    "gates of torch.nn for our own": Mutant(
        rule=STEPS_GRU, law=law_float64, mutation=before("weight_ih_l0", lambda config: Take(0, (1, 0, 2)))
    ),
    "layers of one size exchanged": Mutant(
        rule=STACK, law=law_float64, mutation=swapped("weight_hh_l0", "weight_hh_l1"), example=1
    ),
    "roles of one cell for a stack": Mutant(
        rule=STACK, law=law_names, mutation=roles(lambda role: role.replace("cells.", "")), example=1
    ),
    "relu in the cells": Mutant(rule=STACK, law=law_float64, mutation=with_setting(activation="relu"), example=1),
    "gates of the second cell in torch's order": Mutant(
        rule=STACK_GRU, law=law_float64, mutation=mapped("weight_ih_l1", plain("g i -> i g")), example=1
    ),
    # Attention
    "scale and weight of the sum exchanged": Mutant(
        rule=PLAIN, law=law_float64, mutation=exchanged("concat_score_weight", "scale"), example=2
    ),
    "scores added for multiplied": Mutant(rule=PLAIN, law=law_names, mutation=setting(score_mode="concat")),
    "scale forgotten": Mutant(rule=PLAIN, law=law_names, mutation=setting(use_scale=False)),
    "dropout lost": Mutant(rule=PLAIN, law=law_way_back, mutation=setting(dropout=0.0)),
    "key for value": Mutant(
        rule=PLAIN,
        law=law_float64,
        mutation=on(ALIKE, arguments(lambda arrays: ([arrays[0], arrays[2], arrays[1]],))),
    ),
    "scale backwards": Mutant(
        rule=ADDITIVE, law=law_float64, mutation=mapped("scale", lambda config: Take(0, (4, 3, 2, 1, 0)))
    ),
    "additive scale forgotten": Mutant(rule=ADDITIVE, law=law_names, mutation=setting(use_scale=False)),
    "heads and sizes exchanged": Mutant(
        rule=GROUPED, law=law_shapes, mutation=mapped("query.weight", plain("(d h) e -> e h d", h=3))
    ),
    "heads interleaved": Mutant(
        rule=GROUPED, law=law_float64, mutation=mapped("query.weight", plain("(d h) e -> e h d", h=4))
    ),
    "heads of keys interleaved": Mutant(
        rule=GROUPED, law=law_float64, mutation=mapped("key.weight", plain("(d h) e -> e h d", h=2))
    ),
    "keys for values": Mutant(rule=GROUPED, law=law_float64, mutation=exchanged("key_dense", "value_dense"), example=2),
    "window one wider": Mutant(rule=GROUPED, law=law_float64, mutation=setting(sliding_window=3), example=1),
    "gate forgotten": Mutant(rule=GROUPED, law=law_names, mutation=setting(use_gate=False), example=1),
    "gate for query": Mutant(rule=GROUPED, law=law_float64, mutation=exchanged("gate_dense", "query_dense"), example=1),
    "keys before values": Mutant(
        rule=MULTI_HEAD, law=law_gradients, mutation=on(ALIKE_HEADS, arguments(in_order_of_torch_nn))
    ),
    "untransposed output": Mutant(
        rule=MULTI_HEAD, law=law_shapes, mutation=mapped("output.weight", plain("o (d h) -> h d o", h=3))
    ),
    "width of the output forgotten": Mutant(rule=MULTI_HEAD, law=law_shapes, mutation=setting(output_shape=5)),
    # Projections
    "projections of query and key exchanged": Mutant(
        rule=FOUR, law=law_float64, mutation=swapped("0.weight", "1.weight"), example=1
    ),
    "heads of the query interleaved": Mutant(
        rule=FOUR, law=law_float64, mutation=mapped("0.weight", plain("(d h) e -> e h d", d=3))
    ),
    "heads of the output interleaved": Mutant(
        rule=FOUR, law=law_float64, mutation=mapped("3.weight", plain("o (d h) -> h d o", d=3))
    ),
    "bias of the value for that of the key": Mutant(
        rule=FOUR_GROUPED, law=law_float64, mutation=swapped("1.bias", "2.bias")
    ),
    "bias of the output forgotten": Mutant(rule=FOUR_GROUPED, law=law_names, mutation=forgotten("3.bias")),
    "an output that is not read": Mutant(
        rule=FOUR_GROUPED, law=law_transforms, mutation=mapped("3.bias", lambda config: Lossy())
    ),
    "packed as key, query, value": Mutant(
        rule=TWO, law=law_float64, mutation=before("0.weight", lambda config: Take(0, (1, 0, 2)))
    ),
    "packed head by head": Mutant(
        rule=TWO,
        law=law_float64,
        mutation=before("0.weight", lambda config: Axes("(h n d) e -> (n h d) e", h=3, n=3)),
    ),
    "packed biases not cut alike": Mutant(
        rule=TWO, law=law_float64, mutation=before("0.bias", lambda config: Take(0, (2, 1, 0)))
    ),
    "shared heads cut into thirds": Mutant(
        rule=TWO_GROUPED, law=law_shapes, mutation=mapped("0.weight", thirds(8, 8, 8, size=2))
    ),
    "transposed as a Linear is": Mutant(
        rule=TWO_GPT2,
        law=law_float64,
        mutation=mapped("1.weight", lambda config: Chain(Axes("i o -> o i"), Axes("(h d) o -> h d o", d=2))),
    ),
}


class Lossy(Same):
    """A transform that declares a wrong inverse."""

    def __call__(self, arrays: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(array + array.dtype.type(1) for array in arrays)


CASES = pytest.mark.parametrize("mistake", MUTANTS)


@CASES
def test_a_planted_mistake_is_caught_by_its_law(mistake: str) -> None:
    assert_caught(MUTANTS[mistake])


@pytest.mark.parametrize("name", sorted({mutant.rule for mutant in MUTANTS.values()}))
def test_the_same_rule_without_a_mistake_obeys_these_laws(name: str) -> None:
    mutants = [mutant for mutant in MUTANTS.values() if mutant.rule == name]
    trials = {mutant.example: trial_of(mutant, find(name)) for mutant in mutants}
    for law, place in {(mutant.law, mutant.example) for mutant in mutants}:
        law(trials[place])


def test_every_rule_of_these_families_has_a_planted_mistake() -> None:
    planted = {mutant.rule for mutant in MUTANTS.values()}
    assert all(find(name) for name in planted)
    assert len(planted) == 15
