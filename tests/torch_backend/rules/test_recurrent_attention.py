"""Rules of recurrent layers and attention: refusals, and properties beyond the laws (last steps, masks, row orders)."""

import json
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
import torch

from keras3conv.errors import RuleError
from keras3conv.numerics.difference import compare
from keras3conv.rules.library import find, list_rules
from keras3conv.rules.rule import Example, LayerSpec
from keras3conv.transforms import Array, Axes, Chain, from_json
from tests.support.laws import law_float64, law_transforms
from tests.support.trials import Trial, config_of, keras_outputs, make_trial, spec_of_layer
from tests.torch_backend.rules.mutants.test_common import layered
from tests.torch_backend.rules.mutants.test_recurrent import ATTENTION, LSTM, LSTM_BOTH, only_the_last_step

KINDS = {"LSTM": "LSTM", "GRU": "GRU", "RNN": "SimpleRNN"}


def name_of(torch_name: str, keras_name: str) -> str:
    return f"torch.nn.{torch_name} <-> keras.layers.{keras_name}"


@pytest.mark.parametrize("place", [0, 1])
def test_a_layer_that_returns_only_its_last_step_is_compared_with_the_last_step(place: int) -> None:
    rule = find(LSTM)
    changed = layered(
        lambda specs: (LayerSpec(kind=specs[0].kind, config={**specs[0].config, "return_sequences": False}),)
    )(rule)
    trial = make_trial(changed, rule.examples[place])
    assert len(keras_outputs(trial, float64=True)[0].shape) == 2
    law_float64(trial)


@pytest.mark.parametrize("place", [0, 1])
def test_the_last_output_of_a_bidirectional_lstm_is_the_last_step_of_each_direction(place: int) -> None:
    rule = find(LSTM_BOTH)
    trial = make_trial(layered(only_the_last_step)(rule), rule.examples[place])
    assert len(keras_outputs(trial, float64=True)[0].shape) == 2
    law_float64(trial)


REFUSED_BY_KERAS: list[tuple[str, torch.nn.Module, str]] = [
    (LSTM, torch.nn.LSTM(3, 5, proj_size=2), "proj_size=2"),
    (ATTENTION, torch.nn.MultiheadAttention(6, 2, add_bias_kv=True), "add_bias_kv"),
    (ATTENTION, torch.nn.MultiheadAttention(6, 2, add_zero_attn=True), "add_zero_attn"),
]


@pytest.mark.parametrize(("name", "module", "reason"), REFUSED_BY_KERAS, ids=[case[2] for case in REFUSED_BY_KERAS])
def test_torch_options_that_keras_lacks_are_refused_with_the_reason(
    name: str, module: torch.nn.Module, reason: str
) -> None:
    rule = find(name)
    with pytest.raises(RuleError, match=reason):
        rule.to_keras(config_of(rule, module))


def lstm(**settings: Any) -> keras.layers.Layer:
    return keras.layers.LSTM(5, return_sequences=True, **settings)


def both(**settings: Any) -> keras.layers.Layer:
    return keras.layers.Bidirectional(lstm(), **settings)


def attention(**settings: Any) -> keras.layers.Layer:
    return keras.layers.MultiHeadAttention(2, 3, **settings)


REFUSED_BY_TORCH: list[tuple[str, keras.layers.Layer, str]] = [
    ("LSTM", lstm(activation="relu"), "activation='relu'"),
    ("LSTM", lstm(recurrent_activation="hard_sigmoid"), "recurrent_activation='hard_sigmoid'"),
    ("LSTM", lstm(go_backwards=True), "go_backwards=True"),
    ("LSTM", lstm(stateful=True), "stateful=True"),
    ("GRU", keras.layers.GRU(5, reset_after=False), "reset_after=False"),
    ("RNN", keras.layers.SimpleRNN(5, activation="sigmoid"), "activation='sigmoid'"),
    ("LSTM", both(merge_mode="sum"), "merge_mode='sum'"),
    ("GRU", both(), "layer='LSTM'"),
    (
        "LSTM",
        both(backward_layer=lstm(go_backwards=True, use_bias=False)),
        "two layers of a Bidirectional have different configurations",
    ),
    ("Linear", keras.layers.TimeDistributed(keras.layers.BatchNormalization()), "layer='BatchNormalization'"),
]


@pytest.mark.parametrize(("kind", "layer", "reason"), REFUSED_BY_TORCH, ids=[case[2] for case in REFUSED_BY_TORCH])
def test_keras_options_that_torch_lacks_are_refused_with_the_reason(
    kind: str, layer: keras.layers.Layer, reason: str
) -> None:
    layer(np.ones((2, 4, 3), "float32"))
    with pytest.raises(RuleError, match=reason):
        find(name_of(kind, type(layer).__name__)).to_torch((spec_of_layer(layer, ()),))


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (attention(), "must be equal"),
        (attention(value_dim=2), "value_dim=2"),
        (attention(output_shape=5), "5 outputs"),
    ],
    ids=["narrow", "values", "output"],
)
def test_attention_of_other_widths_is_refused(layer: keras.layers.Layer, reason: str) -> None:
    width = 7 if reason == "must be equal" else 6
    layer(np.ones((2, 4, width), "float32"), np.ones((2, 5, width), "float32"))
    with pytest.raises(RuleError, match=reason):
        find(ATTENTION).to_torch((spec_of_layer(layer, ()),))


@pytest.mark.parametrize(
    "layer", [lstm(activation="relu"), lstm(), keras.layers.ConvLSTM1D(3, 2)], ids=["relu", "LSTM", "convolution"]
)
def test_the_rule_of_a_generic_rnn_refuses_layers_with_a_fixed_cell(layer: keras.layers.Layer) -> None:
    layer(np.ones((2, 4, 6, 3) if isinstance(layer, keras.layers.ConvLSTM1D) else (2, 4, 3), "float32"))
    spec = spec_of_layer(layer, ())
    with pytest.raises(RuleError, match=r"the cell of keras\.layers\.\w+ is unknown"):
        find("torch.nn.LSTM <-> keras.layers.RNN").to_torch((spec,))


def test_cells_without_configuration_are_recognized_by_their_shapes() -> None:
    rule = find("torch.nn.GRU <-> keras.layers.RNN")
    layer = keras.layers.RNN([keras.layers.GRUCell(5), keras.layers.GRUCell(5)])
    layer(np.ones((2, 4, 3), "float32"))
    spec = spec_of_layer(layer, ())
    assert rule.to_torch((replace(spec, config={}),)) == rule.to_torch((spec,))
    with pytest.raises(RuleError, match="cell='GRUCell'"):
        find("torch.nn.LSTM <-> keras.layers.RNN").to_torch((replace(spec, config={}),))
    image = replace(spec, config={}, shapes={"cell/recurrent_kernel": (2, 2, 5, 20)})
    with pytest.raises(RuleError, match="no known cell of 2 units"):
        rule.to_torch((image,))


def test_rules_for_attention_projections_declare_the_code_between_them() -> None:
    attentions = [rule for rule in list_rules() if rule.torch_count != 1 and "Attention" in rule.keras]
    assert len(attentions) == 5
    assert all(rule.between for rule in attentions)


STACKS: list[tuple[str, list[Any], dict[str, Any], str]] = [
    ("LSTM", [5, 4], {}, "cell 1 of the StackedRNNCells differs from the first"),
    ("GRU", [5], {}, "cell='LSTMCell'"),
    ("LSTM", [5], {"go_backwards": True}, "go_backwards=True"),
    ("LSTM", [5], {"stateful": True}, "stateful=True"),
]


@pytest.mark.parametrize(("kind", "units", "settings", "reason"), STACKS, ids=[case[3] for case in STACKS])
def test_cells_that_torch_nn_cannot_stack_are_refused(
    kind: str, units: list[int], settings: dict[str, Any], reason: str
) -> None:
    layer = keras.layers.RNN([keras.layers.LSTMCell(size) for size in units], **settings)
    layer(np.ones((2, 4, 3), "float32"))
    with pytest.raises(RuleError, match=reason):
        find(name_of(kind, "RNN")).to_torch((spec_of_layer(layer, ((2, 4, 3),)),))


def test_a_stack_of_different_layers_is_refused_as_one_torch_module() -> None:
    layers = [lstm(), keras.layers.LSTM(4, return_sequences=True)]
    value = np.ones((2, 4, 3), "float32")
    for layer in layers:
        value = layer(value)
    with pytest.raises(RuleError, match="differs from the first"):
        find("torch.nn.LSTM <-> n x keras.layers.LSTM").to_torch(tuple(spec_of_layer(layer, ()) for layer in layers))


def masked(trial: Trial, mask: Array, **torch_arguments: Any) -> tuple[Array, Array]:
    """Return the outputs of both sides under a Keras attention mask."""
    query, key, value = map(torch.from_numpy, trial.inputs)
    with torch.no_grad():
        expected, _ = trial.module(query, key, value, **torch_arguments)
    found = trial.layers[-1](query, value, key, attention_mask=torch.from_numpy(mask), training=False)
    return found.detach().numpy(), expected.numpy()


def test_a_boolean_mask_is_inverted_and_a_float_mask_is_added_to_the_scores() -> None:
    rule = find(ATTENTION)
    trial = make_trial(rule, rule.examples[0])
    attend = np.tril(np.ones((4, 5), bool), 1)
    added = torch.from_numpy(np.where(attend, 0.0, -np.inf).astype("float32"))
    opposite = masked(trial, attend[None], attn_mask=torch.from_numpy(~attend))
    numbers = masked(trial, attend[None], attn_mask=added)
    alike = masked(trial, attend[None], attn_mask=torch.from_numpy(attend))
    assert compare(*opposite).max_rel < 1e-6
    assert compare(*numbers).max_rel < 1e-6
    assert not compare(*alike).max_rel < 1e-2  # NaN where torch then masks everything


def half_split_rows(heads: int, pattern: str = "r i -> r i") -> Chain:
    """Return the permutation of the rows of a query or key weight between two conventions of the rotary embedding.

    The embedding rotates pairs of rows of a head. Before the permutation, a pair is two neighbours: (0, 1), (2, 3), ...
    After it, a pair has a row of each half: (0, d/2), (1, d/2 + 1), ... The inverse leads back to neighbours. Values
    are not rotated, so their rows are not permuted.

    Args:
        heads: The number of heads; for the key of a grouped-query attention, the number of key heads.
        pattern: The transform that follows the permutation, as a pattern in which "r" is the axis of the rows: "r i ->
            i r" for a Keras kernel, "r -> r" for a bias.
    """
    axes = pattern.partition("->")[0].split()
    before, after = (" ".join(rows if axis == "r" else axis for axis in axes) for rows in ("(n p t)", "(n t p)"))
    return Chain(Axes(f"{before} -> {after}", n=heads, t=2), Axes(pattern))


def rotated(rows: Array, angles: Array, *, halves: bool) -> Array:
    """Return heads with a rotary embedding along the last axis, over halves or over pairs."""
    pairs = (
        rows.reshape(*rows.shape[:-1], 2, -1) if halves else np.moveaxis(rows.reshape(*rows.shape[:-1], -1, 2), -1, -2)
    )
    first, second = pairs[..., 0, :], pairs[..., 1, :]
    turned = [first * np.cos(angles) - second * np.sin(angles), first * np.sin(angles) + second * np.cos(angles)]
    return np.concatenate(turned, -1) if halves else np.stack(turned, -1).reshape(rows.shape)


def test_permuted_rows_turn_pairs_of_neighbours_into_pairs_of_halves() -> None:
    random = np.random.default_rng(0)
    weights = [random.normal(size=(3 * 8, 5)) for _ in range(2)]
    inputs, angles = random.normal(size=(7, 5)), random.uniform(0, 6, (7, 1, 4))

    def scores(query: Array, key: Array, *, halves: bool) -> Array:
        rows = [rotated((inputs @ weight.T).reshape(7, 3, 8), angles, halves=halves) for weight in (query, key)]
        return np.asarray(np.einsum("qhd,khd->hqk", *rows))

    expected = scores(*weights, halves=False)
    permuted = [half_split_rows(3)((weight,))[0] for weight in weights]
    assert compare(scores(*permuted, halves=True), expected).max_rel < 1e-12
    assert compare(scores(*weights, halves=True), expected).max_rel > 0.1


@pytest.mark.parametrize("pattern", ["r i -> r i", "r i -> i r", "r -> r"])
def test_permuted_rows_obey_the_laws_of_transforms_and_can_be_written_down(pattern: str) -> None:
    transform = half_split_rows(3, pattern)
    weight = np.random.default_rng(0).normal(size=(3 * 8, 5)[: len(pattern.partition("->")[0].split())])
    assert transform.lossless
    assert transform.inverse.inverse == transform
    assert from_json(json.loads(json.dumps(transform.to_json()))) == transform
    assert transform.inverse(transform((weight,)))[0].tobytes() == weight.tobytes()
    assert transform.shapes((weight.shape,)) == (transform((weight,))[0].shape,)


def test_a_rule_of_a_user_may_permute_the_rows_of_a_query() -> None:
    dense = find("torch.nn.Linear <-> keras.layers.Dense")
    rotated_query = replace(
        dense,
        weights=lambda config: (
            replace(dense.weights(config)[0], transform=half_split_rows(3, "r i -> i r")),
            replace(dense.weights(config)[1], transform=half_split_rows(3, "r -> r")),
        ),
        output=lambda outputs, torch, keras, shape: half_split_rows(3, "r b -> r b")((outputs[0].T,))[0].T,
        examples=(Example(config={"in_features": 5, "out_features": 12}, inputs=((2, 5),)),),
    )
    trial = make_trial(rotated_query, rotated_query.examples[0])
    for law in (law_transforms, law_float64):
        law(trial)
    with pytest.raises(AssertionError):
        law_float64(make_trial(replace(rotated_query, output=None), rotated_query.examples[0]))


def test_permuted_rows_come_back_and_can_be_a_kernel_or_a_bias() -> None:
    weight = np.arange(24.0).reshape(12, 2)
    kernel, bias = half_split_rows(2, "r i -> i r"), half_split_rows(2, "r -> r")
    assert np.array_equal(kernel((weight,))[0], half_split_rows(2)((weight,))[0].T)
    assert np.array_equal(kernel.inverse(kernel((weight,)))[0], weight)
    assert bias((np.arange(12.0),))[0].tolist() == [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]
