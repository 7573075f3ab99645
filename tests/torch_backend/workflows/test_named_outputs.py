"""What a report and the new code say about several outputs, a declared loss and a bound names what is meant."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import keras3conv as k3c
from keras3conv.alignment.text import declared_loss
from keras3conv.errors import InputError
from keras3conv.report.report import Report
from keras3conv.rules.rule import WeightMapping
from keras3conv.transforms import Axes, Chain, Each, ResizeGrid, Shift, Skip, Sum, Transform


def two_heads() -> keras.Model:
    given = keras.Input((4,), name="image")
    hidden = layers.Dense(5, activation="relu")(given)
    heads = [layers.Dense(3, activation="softmax", name="cls")(hidden), layers.Dense(1, name="reg")(hidden)]
    return keras.Model(given, heads, name="heads")


def test_the_summary_the_code_and_the_metadata_name_each_output(tmp_path: Path) -> None:
    conversion = k3c.convert(two_heads())
    assert conversion.report is not None
    first, second = conversion.report.section("outputs").summary.split("; ")
    assert first.startswith("cls: ")
    assert second.startswith("reg: ")
    assert "returns[0] (cls): (batch, 3), float32" in conversion.source
    assert "returns[1] (reg): (batch, 1), float32" in conversion.source
    conversion.save(tmp_path / "made")
    outputs = json.loads((tmp_path / "made" / "metadata.json").read_text())["outputs"]
    assert [output["keras_name"] for output in outputs] == ["cls", "reg"]


def test_an_output_of_a_function_has_no_name_because_keras_numbers_functions() -> None:
    given = keras.Input((4,))
    score = layers.Dense(3, name="score")(given)
    source = k3c.convert(keras.Model(given, [score, score * 2]), validate=False).source
    assert "returns[0] (score): (batch, 3), float32" in source
    assert "returns[1]: (batch, 3), float32" in source


def test_a_single_output_needs_no_name() -> None:
    conversion = k3c.convert(keras.Sequential([keras.Input((4,)), layers.Dense(3, name="only")]))
    assert "returns: (batch, 3)" in conversion.source
    assert conversion.report is not None
    assert "only" not in conversion.report.section("outputs").summary


def test_a_declared_loss_says_what_is_lost_and_where() -> None:
    model = keras.Sequential([keras.Input((6, 4)), layers.LSTM(3, name="lstm")])
    report = k3c.convert(model).report
    assert report is not None
    fact = report.section("roundtrip").facts["declared loss"]
    assert fact == (
        "only the sum of 2 tensors is kept, and no output depends on more: lstm.bias_ih_l0, lstm.bias_hh_l0 <-> "
        "lstm/lstm_cell/bias"
    )


@pytest.mark.parametrize(
    "transform",
    [Sum(2), Shift(1), Skip(0, 2), ResizeGrid(0, 1, (2, 2), (3, 3)), Chain(Sum(2), Shift(1)), Each(Shift(1))],
)
def test_every_transform_that_loses_something_says_what(transform: Transform) -> None:
    assert not transform.lossless
    assert transform.loss
    assert "restore every value" not in transform.loss, "the words of a transform that names no loss"
    assert not Axes("o i -> i o").loss


def test_repeated_losses_are_counted() -> None:
    mappings = [WeightMapping(torch=(f"l{n}.a", f"l{n}.b"), keras=(f"l{n}/b",), transform=Sum(2)) for n in range(7)]
    assert declared_loss(mappings).endswith("l4.a, l4.b <-> l4/b and 2 more")
    assert not declared_loss([])


def _judged(proofs: list[str], **options: Any) -> Report:
    model = two_heads()
    made = k3c.convert(model, validate=False)
    rows = np.random.default_rng(0).standard_normal((5, 4)).astype("float32")
    golden = {"reg": model(rows)[1].detach().numpy(), "cls": model(rows)[0].detach().numpy()}
    given: dict[str, Any] = {"inputs": rows, "labels": [0, 1, 2, 0, 1], "expected": golden} | options
    return k3c.validate(made.model, model, plan=made.alignment, proofs=proofs, **given)


def test_the_accuracy_and_golden_outputs_name_the_outputs() -> None:
    report = _judged(["accuracy", "expected"])
    assert report.section("accuracy").facts["output"] == "cls"
    (table,) = report.section("expected").tables
    assert [row[0] for row in table.rows] == ["cls", "cls", "reg", "reg"]
    assert report.ok, "golden outputs are found by name, in any order"
    worse = {"cls": np.ones((5, 3), "float32"), "reg": np.ones((5, 1), "float32")}
    named = {problem.keras for problem in _judged(["expected"], expected=worse).section("expected").problems}
    assert named == {"", "output cls", "output reg"}
    with pytest.raises(InputError, match=r"the models return 2, in Keras cls \(5, 3\), reg \(5, 1\)"):
        _judged(["expected"], expected=np.ones((5, 3), "float32"))


@pytest.mark.slow
def test_the_comparison_of_backends_names_the_outputs() -> None:
    (table,) = _judged(["backends"], backends="jax").section("backends").tables
    assert [row[2] for row in table.rows] == ["cls", "reg"]
