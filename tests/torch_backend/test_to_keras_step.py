"""The table of converted architectures: the step of SGD that it compares, and the rows that it keeps."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from benchmarks._to_keras_rows import Row, rows_in_table, table
from benchmarks._to_keras_step import STEP, relative_difference, step_difference


class TwoOutputs(nn.Module):
    """Returns a dict whose names are not in the order of the alphabet, in which Keras returns them."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = self.inner(x)
        return {"logits": self.outer(torch.tanh(hidden)), "hidden": hidden}


class Attention(nn.Module):
    """An attention whose keys have a bias; adding a number to all scores of a softmax changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = torch.softmax(self.query(x) @ self.key(x).transpose(1, 2), -1)
        return weights @ self.value(x)


class Half(nn.Module):
    """Returns what a Linear returns; only half of it has a gradient if `is_cut`."""

    def __init__(self, *, is_cut: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.is_cut = nn.Linear(4, 4), is_cut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = self.linear(x) * 0.5
        return made + (made.detach() if self.is_cut else made)


def step_of(module: nn.Module, inputs: Any) -> float:
    return step_difference(module.eval(), inputs, k3c.convert(module, inputs=inputs, validate=False))


def test_outputs_are_weighted_by_name() -> None:
    assert step_of(TwoOutputs(), torch.randn(2, 4)) < STEP


def test_a_weight_whose_gradient_is_zero_is_compared_up_to_rounding() -> None:
    assert step_of(Attention(), torch.randn(2, 5, 4)) < STEP


def test_the_gradient_of_what_is_detached_is_left_out_on_both_sides() -> None:
    assert step_of(Half(is_cut=True), torch.randn(2, 4)) < STEP


def test_another_gradient_of_the_same_function_is_found() -> None:
    inputs = torch.randn(2, 4)
    whole = k3c.convert(Half(is_cut=False), inputs=inputs, validate=False)
    assert step_difference(Half(is_cut=True).eval(), inputs, whole) > 0.1


@pytest.mark.parametrize(("error", "is_rounding"), [(1e-16, True), (1e-12, False)])
def test_a_weight_that_should_not_move_may_move_by_rounding_only(error: float, is_rounding: bool) -> None:
    moved, kept = np.zeros(3), np.full(3, 0.5)
    weights = {"moved": (moved, moved + 1.0, moved + 1.0), "kept": (kept, kept + error, kept)}
    assert (relative_difference(weights) <= STEP) == is_rounding


def test_a_tensor_that_moves_little_is_compared_relative_to_itself() -> None:
    start = np.zeros(3)
    weights = {"moved": (start, start + 1.0, start + 1.0), "little": (start, start + 1.1e-6, start + 1e-6)}
    assert relative_difference(weights) > 0.05


def test_rows_that_are_not_measured_keep_their_place_in_the_table(tmp_path: Path) -> None:
    measured = Row(name="a", kind="own", float64=2e-15, float32=True, trainable=True, step=3e-13, lines=38, layers=9)
    refused = Row(name="c", kind="own", problems={"conversion": "RuleError: a | b: no rule"})
    path = tmp_path / "table.md"
    path.write_text(table([replace(measured, jax=True, tensorflow=False, converted=True), refused]), encoding="utf-8")
    rows = rows_in_table(path)
    assert list(rows) == ["a", "c"]
    assert table(rows.values()) == path.read_text(encoding="utf-8")
