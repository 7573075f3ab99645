"""Torch does not train the row of `padding_idx`: a difference in training only."""

import keras
import pytest
import torch
from keras import layers, ops
from torch import nn

import keras3conv as k3c
from keras3conv.report.values import Section
from tests.support.models import randomize


class Tokens(nn.Module):
    """A language model whose output layer may be tied to the embedding table."""

    def __init__(self, padding_idx: int | None, tied: bool) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(11, 6, padding_idx=padding_idx), nn.Linear(6, 11, bias=False)
        if tied:
            self.head.weight = self.table.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.table(tokens)))


def gradients(module: nn.Module, *, training: bool, detached: bool = False) -> Section:
    inputs = keras.Input((7,), dtype="int32")
    x = ops.tanh(layers.Embedding(11, 6, name="table")(inputs))
    model = keras.Model(inputs, layers.Dense(11, use_bias=False, name="head")(ops.stop_gradient(x) if detached else x))
    plan = k3c.align(randomize(module), model, probe=False).check()
    report = k3c.validate(module, model, alignment=plan, proofs=("gradients",), training=training)
    return report.section("gradients")


@pytest.mark.parametrize("tied", [False, True])
def test_a_padding_row_is_a_difference_in_training_only(tied: bool) -> None:
    section = gradients(Tokens(0, tied), training=False)
    assert section.status == "passed", section.problems
    assert "row 0 of table.weight" in section.facts["not compared, as torch does not train it (padding_idx)"]
    assert gradients(Tokens(0, tied), training=True).status == "failed"


def test_the_other_rows_are_compared() -> None:
    assert gradients(Tokens(0, tied=False), training=False, detached=True).status == "failed"
    assert gradients(Tokens(None, tied=False), training=True).status == "passed"
