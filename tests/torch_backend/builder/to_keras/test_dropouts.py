"""Dropouts of a torch module act in the training of the Keras model, those inside an attention too."""

import warnings
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.support.to_keras import converted

RATE = 0.25


class Fused(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = x.view(-1, 6, 2, 2).transpose(1, 2)
        rate = RATE if self.training else 0.0
        mask = torch.ones(6, 6).tril().bool()
        made = functional.scaled_dot_product_attention(heads, heads, heads, attn_mask=mask, dropout_p=rate)
        return made.transpose(1, 2).flatten(2)


class Grouped(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = x.view(-1, 6, 2, 2).transpose(1, 2)
        rate, keys = RATE if self.training else 0.0, heads[:, :1]
        made = functional.scaled_dot_product_attention(
            heads, keys, keys, dropout_p=rate, is_causal=True, scale=0.3, enable_gqa=True
        )
        return made.transpose(1, 2).flatten(2)


class WrittenOut(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = functional.softmax(x @ x.transpose(1, 2), dim=-1)
        return functional.dropout(weights, RATE if self.training else 0.0, self.training) @ x


class OnlyInTraining(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = torch.softmax(x @ x.transpose(1, 2), -1)
        if self.training:
            weights = functional.dropout(weights, RATE)
        return weights @ x


class Attends(nn.Module):
    def __init__(self, *, need_weights: bool) -> None:
        super().__init__()
        self.attention, self.need_weights = nn.MultiheadAttention(4, 2, dropout=RATE, batch_first=True), need_weights

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made, _ = self.attention(x, x, x, need_weights=self.need_weights)
        return made


MODULES = {
    "fused": Fused(),
    "grouped": Grouped(),
    "written out": WrittenOut(),
    "only in training": OnlyInTraining(),
    "multi-head": Attends(need_weights=False),
    "multi-head with weights": Attends(need_weights=True),
}


def dropouts(model: Any) -> list[float]:
    return [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]


@pytest.mark.parametrize("name", MODULES)
def test_a_dropout_of_the_weights_of_an_attention_acts_in_training_only(name: str) -> None:
    torch.manual_seed(0)
    built = converted(MODULES[name], torch.randn(2, 6, 4))  # which compares both in evaluation mode
    assert dropouts(built.model) == [RATE]
    x = torch.ones(2, 6, 4)
    first, second = (np.asarray(built.model(x, training=False).detach()) for _ in range(2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, np.asarray(built.model(x, training=True).detach()))


def test_the_mean_of_many_runs_in_training_is_the_output_in_evaluation() -> None:
    torch.manual_seed(0)
    built = converted(Fused(), torch.randn(2, 6, 4))
    x = torch.randn(4000, 6, 4)[:1].expand(4000, 6, 4)
    dropped = np.asarray(built.model(x, training=True).detach())
    kept = np.asarray(built.model(x[:1], training=False).detach())
    assert 0.2 < np.mean(dropped[:, 0] == 0) < 0.3  # the first query attends to itself alone
    assert np.max(np.abs(dropped.mean(0) - kept[0])) < 0.1


def test_a_module_is_left_as_it_was() -> None:
    norm = nn.BatchNorm1d(6)
    module = nn.Sequential(norm, Fused()).eval()
    before = norm.state_dict()["running_mean"].clone()
    converted(module, torch.randn(2, 6, 4))
    assert torch.equal(norm.state_dict()["running_mean"], before)
    assert not module.training


class Elsewhere(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = torch.softmax(x * 2, -1)
        return made + functional.dropout(x, 0.5) if self.training else made + x


def test_a_dropout_that_cannot_be_placed_is_named() -> None:
    with pytest.warns(UserWarning, match=r"Sequential\.1: a dropout that is called in training only"):
        converted(nn.Sequential(nn.ReLU(), Elsewhere()), torch.randn(2, 6, 4))


def test_a_module_without_such_dropouts_raises_no_warning() -> None:
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        built = converted(nn.Sequential(nn.Linear(4, 4), nn.Softmax(-1), nn.Dropout(0.1)), torch.randn(2, 6, 4))
    assert dropouts(built.model) == [0.1]
    assert not any("a dropout" in str(warning.message) for warning in raised)


class Rewritten(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = functional.dropout(x, RATE, self.training)
        made[:, 0] = 0.0  # writes into a part of a tensor
        return torch.addcmul(made, made, made)  # which Keras computes with other operators


@pytest.mark.slow
def test_a_module_whose_graph_is_rewritten_keeps_its_dropouts() -> None:
    assert dropouts(converted(Rewritten(), torch.randn(2, 6, 4)).model) == [RATE]
