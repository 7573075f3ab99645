"""Planted mistakes in the rules of recurrent layers and attention: each breaks the law named with it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from keras3conv.rules.library import find
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Rule, WeightMapping
from keras3conv.transforms import Array, Arrays, Axes, Chain, Each, Same, Shape, Stack, Take, Transform
from tests.support.laws import LAWS, law_float64, law_gradients, law_names, law_shapes, law_way_back
from tests.torch_backend.rules.mutants.test_common import (
    Mutant,
    Mutation,
    assert_caught,
    configured,
    forgotten,
    layered,
    mapped,
    on,
    swapped,
    trial_of,
)

pytestmark = pytest.mark.slow

LSTM = "torch.nn.LSTM <-> keras.layers.LSTM"
LSTM_BOTH = "torch.nn.LSTM <-> keras.layers.Bidirectional"
LSTM_STACK = "torch.nn.LSTM <-> n x keras.layers.LSTM"
GRU = "torch.nn.GRU <-> keras.layers.GRU"
GRU_STACK_BOTH = "torch.nn.GRU <-> n x keras.layers.Bidirectional"
RNN = "torch.nn.RNN <-> keras.layers.SimpleRNN"
LSTM_CELL = "torch.nn.LSTMCell <-> keras.layers.LSTMCell"
GRU_CELL = "torch.nn.GRUCell <-> keras.layers.GRUCell"
DISTRIBUTED = "torch.nn.Linear <-> keras.layers.TimeDistributed"
ATTENTION = "torch.nn.MultiheadAttention <-> keras.layers.MultiHeadAttention"

SQUARE = Example(
    config={"input_size": 4, "hidden_size": 4, "num_layers": 1, "batch_first": True, "bidirectional": False},
    inputs=((2, 3, 4),),
)


def before(role: str, transform: Callable[[Config], Transform]) -> Mutation:
    """Return a mutation: another transform is applied to one torch tensor before the right one."""

    def mutate(rule: Rule) -> Rule:
        def weights(config: Config) -> tuple[WeightMapping, ...]:
            return tuple(
                replace(mapping, transform=Chain(transform(config), mapping.transform))
                if mapping.torch == (role,)
                else mapping
                for mapping in rule.weights(config)
            )

        return replace(rule, weights=weights)

    return mutate


def biases(transform: Transform) -> Mutation:
    """Return a mutation: another transform maps the two biases to Keras' bias."""

    def mutate(rule: Rule) -> Rule:
        def weights(config: Config) -> tuple[WeightMapping, ...]:
            return tuple(
                replace(mapping, transform=transform) if len(mapping.torch) == 2 else mapping
                for mapping in rule.weights(config)
            )

        return replace(rule, weights=weights)

    return mutate


def only_the_first_bias(rule: Rule) -> Rule:
    def weights(config: Config) -> tuple[WeightMapping, ...]:
        return tuple(
            replace(mapping, torch=mapping.torch[:1], transform=Same()) if len(mapping.torch) == 2 else mapping
            for mapping in rule.weights(config)
        )

    return replace(rule, weights=weights)


def directions_exchanged(rule: Rule) -> Rule:
    def exchanged(role: str) -> str:
        first, _, rest = role.partition("/")
        return f"{ {'forward_layer': 'backward_layer', 'backward_layer': 'forward_layer'}[first] }/{rest}"

    def weights(config: Config) -> tuple[WeightMapping, ...]:
        return tuple(
            replace(mapping, keras=tuple(map(exchanged, mapping.keras))) for mapping in reversed(rule.weights(config))
        )

    return replace(rule, weights=weights)


def only_the_last_step(specs: LayerSpecs) -> LayerSpecs:
    (spec,) = specs
    layer = dict(spec.config["layer"])
    layer["config"] = {**layer["config"], "return_sequences": False}
    return (LayerSpec(kind=spec.kind, config={**spec.config, "layer": layer}),)


def last_place_of_both_directions(outputs: Arrays, torch: Config, keras: Config, shape: Shape) -> Array:
    return outputs[0][:, -1]


def without_dropout(specs: LayerSpecs) -> LayerSpecs:
    return tuple(spec for spec in specs if spec.kind != "keras.layers.Dropout")


def in_torchs_order(rule: Rule) -> Rule:
    return replace(rule, keras_arguments=tuple)


def states_exchanged(rule: Rule) -> Rule:
    def arguments(arrays: tuple[Any, ...]) -> tuple[Any, ...]:
        inputs, hidden, cell = arrays
        return inputs, [cell, hidden]

    return replace(rule, keras_arguments=arguments)


def heads_interleaved(config: Config) -> Transform:
    return Axes("(n d h) e -> (n h d) e", n=3, h=config["num_heads"], d=config["embed_dim"] // config["num_heads"])


UPDATE_FIRST = Each(Take(0, (1, 0, 2)))

MUTANTS: dict[str, Mutant] = {
    # Layers
    "LSTM gates in the order of a GRU": Mutant(
        rule=LSTM, law=law_float64, mutation=before("weight_ih_l0", lambda config: Take(0, (0, 2, 1, 3)))
    ),
    "only the first bias": Mutant(rule=LSTM, law=law_names, mutation=only_the_first_bias),
    "recurrent kernel for kernel": Mutant(
        rule=LSTM, law=law_float64, mutation=on(SQUARE, swapped("weight_ih_l0", "weight_hh_l0"))
    ),
    "recurrent kernel for kernel, of other sizes": Mutant(
        rule=LSTM, law=law_shapes, mutation=swapped("weight_ih_l0", "weight_hh_l0")
    ),
    "untransposed recurrent kernel": Mutant(
        rule=RNN, law=law_float64, mutation=mapped("weight_hh_l0", lambda config: Axes("o i -> o i"))
    ),
    "GRU gates of the kernel in torch's order": Mutant(
        rule=GRU, law=law_float64, mutation=mapped("weight_ih_l0", lambda config: Axes("g i -> i g"))
    ),
    "GRU gates of the recurrent kernel in torch's order": Mutant(
        rule=GRU, law=law_float64, mutation=mapped("weight_hh_l0", lambda config: Axes("g i -> i g"))
    ),
    "GRU gates of the biases in torch's order": Mutant(rule=GRU, law=law_float64, mutation=biases(Stack(0, 2))),
    "GRU biases exchanged": Mutant(
        rule=GRU, law=law_float64, mutation=biases(Chain(UPDATE_FIRST, Stack(0, 2), Take(0, (1, 0))))
    ),
    "reset before the product": Mutant(
        rule=GRU, law=law_shapes, mutation=configured(lambda keras, config: {"reset_after": False})
    ),
    "reset before the product, without biases": Mutant(
        rule=GRU, law=law_float64, mutation=configured(lambda keras, config: {"reset_after": False}), example=1
    ),
    "tanh for relu": Mutant(
        rule=RNN, law=law_float64, mutation=configured(lambda keras, config: {"activation": "tanh"}), example=1
    ),
    "time taken for the batch": Mutant(
        rule=LSTM, law=law_float64, mutation=lambda rule: replace(rule, layout="same"), example=1
    ),
    "directions exchanged": Mutant(rule=LSTM_BOTH, law=law_float64, mutation=directions_exchanged),
    "directions added": Mutant(
        rule=LSTM_BOTH, law=law_float64, mutation=configured(lambda keras, config: {"merge_mode": "sum"})
    ),
    "both directions end at the last place": Mutant(
        rule=LSTM_BOTH,
        law=law_float64,
        mutation=lambda rule: replace(layered(only_the_last_step)(rule), output=last_place_of_both_directions),
    ),
    "layers exchanged": Mutant(rule=LSTM_STACK, law=law_shapes, mutation=swapped("weight_ih_l0", "weight_ih_l1")),
    "layers of one size exchanged": Mutant(
        rule=LSTM_STACK, law=law_float64, mutation=swapped("weight_hh_l0", "weight_hh_l1")
    ),
    "dropout between layers lost": Mutant(rule=LSTM_STACK, law=law_way_back, mutation=layered(without_dropout)),
    "forgotten bias of the second layer": Mutant(
        rule=GRU_STACK_BOTH, law=law_names, mutation=forgotten("bias_ih_l1_reverse")
    ),
    # Cells
    "hidden and cell state exchanged": Mutant(rule=LSTM_CELL, law=law_float64, mutation=states_exchanged),
    "GRU cell in torch's order": Mutant(
        rule=GRU_CELL, law=law_float64, mutation=mapped("weight_hh", lambda config: Axes("g i -> i g"))
    ),
    # Over time
    "untransposed, over time": Mutant(
        rule=DISTRIBUTED, law=law_float64, mutation=mapped("weight", lambda config: Axes("o i -> o i")), example=1
    ),
    # Attention
    "query and key exchanged": Mutant(
        rule=ATTENTION, law=law_float64, mutation=before("in_proj_weight", lambda config: Take(0, (1, 0, 2)))
    ),
    "biases of query and key exchanged": Mutant(
        rule=ATTENTION, law=law_float64, mutation=before("in_proj_bias", lambda config: Take(0, (1, 0, 2)))
    ),
    "heads interleaved": Mutant(rule=ATTENTION, law=law_float64, mutation=before("in_proj_weight", heads_interleaved)),
    "untransposed output": Mutant(
        rule=ATTENTION,
        law=law_float64,
        mutation=mapped("out_proj.weight", lambda config: Axes("(h d) o -> h d o", h=config["num_heads"])),
    ),
    "called in torch's order": Mutant(rule=ATTENTION, law=law_float64, mutation=in_torchs_order),
    "gradients of key and value exchanged": Mutant(rule=ATTENTION, law=law_gradients, mutation=in_torchs_order),
    "scaled by another size of the heads": Mutant(
        rule=ATTENTION, law=law_shapes, mutation=configured(lambda keras, config: {"key_dim": config["embed_dim"]})
    ),
    "bias of the output forgotten": Mutant(rule=ATTENTION, law=law_names, mutation=forgotten("out_proj.bias")),
    "dropout of the scores lost": Mutant(
        rule=ATTENTION, law=law_way_back, mutation=configured(lambda keras, config: {"dropout": 0.0}), example=1
    ),
}

CASES = pytest.mark.parametrize("mistake", MUTANTS)


@CASES
def test_a_planted_mistake_is_caught_by_its_law(mistake: str) -> None:
    assert_caught(MUTANTS[mistake])


@pytest.mark.parametrize("name", sorted({mutant.rule for mutant in MUTANTS.values()}))
def test_the_same_rule_without_a_mistake_obeys_every_law(name: str) -> None:
    places = {mutant.example for mutant in MUTANTS.values() if mutant.rule == name}
    for place in places:
        trial = trial_of(Mutant(rule=name, law=law_names, mutation=lambda rule: rule, example=place), find(name))
        for law in LAWS:
            law(trial)
