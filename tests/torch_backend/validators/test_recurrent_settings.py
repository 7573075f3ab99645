"""The arguments of a recurrent Keras layer that torch lacks are compared, and each is named for what it does."""

from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers
from torch import nn

import keras3conv as k3c
from keras3conv.errors import ProofError
from keras3conv.report.report import Report
from keras3conv.report.values import Section
from tests.support.models import randomize

RATES: dict[str, Any] = {"dropout": 0.5, "recurrent_dropout": 0.3}


class Recurrent(nn.Module):
    """A recurrent layer, of which only the last output is used."""

    def __init__(self, kind: str, *, both: bool = False) -> None:
        super().__init__()
        self.rnn = getattr(nn, kind)(5, 6, batch_first=True, bidirectional=both)
        self.head = nn.Linear(12 if both else 6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.rnn(x)[0]
        last = torch.cat([out[:, -1, :6], out[:, 0, 6:]], -1) if self.rnn.bidirectional else out[:, -1]
        return self.head(last)


Pair = tuple[nn.Module, keras.Model, k3c.Alignment]


def pair(kind: str, *, both: bool = False, **settings: Any) -> Pair:
    layer = getattr(layers, {"RNN": "SimpleRNN"}.get(kind, kind))(6, name="rnn", **settings)
    given = layers.Bidirectional(layer, name="rnn") if both else layer
    model = keras.Sequential([keras.Input(batch_shape=(2, 7, 5)), given, layers.Dense(3, name="head")])
    module = randomize(Recurrent(kind, both=both))
    plan = k3c.align(module, model)
    k3c.transfer(module, model, plan, accept_difference=True)
    return module, model, plan.accepting_difference()


def validated(pair: Pair, **options: Any) -> Report:
    module, model, plan = pair
    return k3c.validate(module, model, alignment=plan, **({"proofs": ("hyperparameters", "float64")} | options))


def report(kind: str, *, both: bool = False, options: dict[str, Any] | None = None, **settings: Any) -> Report:
    return validated(pair(kind, both=both, **settings), **(options or {}))


def row(section: Section, field: str) -> tuple[Any, ...]:
    (found,) = [row for row in section.tables[0].rows if row[4] == field]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["GRU", "LSTM", "RNN"])
@pytest.mark.parametrize("both", [False, True])
def test_the_rates_of_dropout_are_compared_and_fail_with_training(kind: str, both: bool) -> None:
    made = pair(kind, both=both, **RATES)
    section = validated(made).section("hyperparameters")
    assert section.status == "passed"
    fact = section.facts["differs in training only"]
    assert "dropout: none in torch, 0.5 in Keras" in fact
    assert "recurrent_dropout: none in torch, 0.3 in Keras" in fact
    strict = validated(made, training=True).section("hyperparameters")
    assert strict.status == "failed"
    inner = "layer of " if both else ""
    assert f"dropout=0.0  # Keras: {inner}rnn" in [fix for problem in strict.problems for fix in problem.fixes]


@pytest.mark.parametrize("kind", ["GRU", "LSTM", "RNN"])
@pytest.mark.parametrize("both", [False, True])
def test_equal_layers_have_no_difference(kind: str, both: bool) -> None:
    found = report(kind, both=both, options={"training": True})
    found.raise_if_failed()
    section = found.section("hyperparameters")
    prefix = "layer." if both else ""
    assert row(section, f"{prefix}go_backwards")[-1] == "equal"
    if kind == "GRU":
        assert row(section, f"{prefix}reset_after")[-1] == "equal"
    if kind != "RNN":
        found_row = row(section, f"{prefix}activation")
        assert (found_row[2], *found_row[5:]) == ("tanh (built in)", "tanh", "tanh in Keras", "equal")


@pytest.mark.parametrize(
    ("settings", "fix"),
    [
        ({"recurrent_activation": "hard_sigmoid"}, 'recurrent_activation="sigmoid"  # Keras: rnn'),
        ({"go_backwards": True}, "go_backwards=False  # Keras: rnn"),
        ({"activation": "softsign"}, 'activation="tanh"  # Keras: rnn'),
    ],
)
def test_the_setting_that_differs_is_blamed_and_not_return_sequences(settings: dict[str, Any], fix: str) -> None:
    found = report("GRU", **settings)
    section = found.section("hyperparameters")
    (problem,) = section.problems
    assert problem.fixes == (fix,)
    assert "not proven: float64 failed" in row(section, "return_sequences")[-1]
    with pytest.raises(ProofError) as raised:
        found.raise_if_failed()
    text = str(raised.value)
    assert "return_sequences" not in text
    assert text.index("the first layer that differs") < text.index(problem.fact), "the cause of float64 leads"


def test_float64_advises_only_what_differs() -> None:
    (problem, *_) = report("GRU", recurrent_activation="hard_sigmoid").section("float64").problems
    assert any(fix.startswith('recurrent_activation="sigmoid"') for fix in problem.fixes)
    assert not any("tanh" in fix for fix in problem.fixes)


def test_a_field_is_proven_by_float64_only_if_float64_passed() -> None:
    passed = report("LSTM").section("hyperparameters")
    assert "1 proven by float64" in passed.summary
    alone = report("LSTM", options={"proofs": ("hyperparameters",)}).section("hyperparameters")
    assert "1 not proven: float64 did not run (return_sequences)" in alone.summary
    assert "proven by" not in str(alone.tables[0].rows)


def test_a_kept_state_is_named() -> None:
    section = report("GRU", stateful=True).section("hyperparameters")
    assert section.facts["differs between calls"] == "Keras keeps the state for the next call: rnn"
    assert row(section, "stateful")[-1].startswith("not judged")


def test_the_arguments_that_are_not_compared_are_named() -> None:
    listed = report("GRU").section("hyperparameters").facts["not compared"]
    assert listed.startswith("GRU: return_state, unroll, zero_output_for_mask; torch has no argument for these")


@pytest.mark.parametrize("kind", ["GRU", "LSTM", "SimpleRNN"])
def test_a_conversion_names_the_dropout_that_is_lost(kind: str) -> None:
    layer = getattr(layers, kind)(6, name="rnn", **RATES)
    model = keras.Sequential([keras.Input((7, 5)), layer, layers.Dense(3)])
    made = k3c.convert(model)
    assert made.report is not None
    (note,) = [note for note in made.report.notes if "recurrent_dropout=0.3" in note]
    assert "(dropout=0.5, recurrent_dropout=0.3) is not converted" in note
    assert note.partition(": ")[2] in " ".join(made.source.split())
    without = k3c.convert(keras.Sequential([keras.Input((7, 5)), getattr(layers, kind)(6)]))
    assert without.report is not None
    assert not [note for note in without.report.notes if "dropout" in note]


def clipped(x: Any) -> Any:
    return keras.ops.clip(0.2 * x + 0.5, 0, 1)


keras.saving.register_keras_serializable("tests")(clipped)


@pytest.mark.slow
def test_an_activation_is_compared_by_its_registered_name() -> None:
    from keras3conv.frameworks.keras.keras2.classes import hard_sigmoid_of_keras_2

    layer = layers.LSTM(6, name="rnn", recurrent_activation=hard_sigmoid_of_keras_2)
    model = keras.Sequential([keras.Input((7, 5)), layer, layers.Dense(3, name="head")])
    made = k3c.convert(model)
    found = k3c.validate(made.model, model, alignment=made.alignment, training=True)
    found.raise_if_failed()
    assert row(found.section("hyperparameters"), "recurrent_activation")[-1] == "equal"
    other = keras.Sequential(
        [
            keras.Input((7, 5)),
            layers.LSTM(6, name="rnn", recurrent_activation=clipped),
            layers.Dense(3, name="head"),
        ]
    )
    proofs = ("hyperparameters", "float64")
    report = k3c.validate(made.model, other, alignment=made.alignment, training=True, proofs=proofs)
    section = report.section("hyperparameters")
    assert "tests>clipped" in str(section.tables[0].rows)
    fixes = [fix for problem in section.problems for fix in problem.fixes]
    assert not any("tests>clipped" in fix for fix in fixes), "a fix never sets the present value"


def test_a_batch_normalisation_with_another_momentum_does_not_train_alike() -> None:
    module = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5))
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(5, name="fc"), layers.BatchNormalization(epsilon=1e-5, name="norm")]
    )
    given = np.random.default_rng(0).standard_normal((8, 4)).astype("float32")
    plan = k3c.align(module.eval(), model, inputs=given)
    k3c.transfer(module, model, plan)
    section = k3c.validate(module, model, inputs=given, alignment=plan).section("gradients")
    assert section.status == "passed"
    assert "in training the models differ: the momentum of 1," in section.summary
    assert "--training" in section.summary
    assert section.facts["moving statistics not compared"] == "the momentum differs. Fix: momentum=0.9  # Keras: norm"


class Stacked(nn.Module):
    """Two recurrent layers in one module, with dropout between them."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(5, 6, 2, batch_first=True, dropout=0.4), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(x)[0][:, -1])


def test_the_layers_of_a_stack_are_compared_also_with_dropout_between_them() -> None:
    first = layers.LSTM(6, return_sequences=True, name="a", dropout=0.2)
    model = keras.Sequential([keras.Input((7, 5)), first, layers.LSTM(6, name="b"), layers.Dense(3, name="head")])
    module = randomize(Stacked())
    plan = k3c.align(module, model)
    k3c.transfer(module, model, plan)
    section = k3c.validate(module, model, alignment=plan, proofs=("hyperparameters",)).section("hyperparameters")
    assert row(section, "1.units")[-1] == "equal"
    assert "0.dropout: none in torch, 0.2 in Keras" in section.facts["differs in training only"]
    (between,) = [found for found in section.tables[0].rows if found[1] == "dropout"]
    assert str(between[-1]).startswith("training only")
