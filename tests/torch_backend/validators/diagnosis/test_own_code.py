"""Mistakes beside attention that a model writes out itself, norms in training, what is flattened; and no patience."""

from typing import Any

import keras
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody gives it
from keras import layers, ops
from torch import nn

from keras3conv.errors import Problem
from keras3conv.validators.diagnosis import causes
from keras3conv.validators.diagnosis.suspects import SUSPECTS
from tests.support.planted.networks import ResNet, first_problem, images, resnet


class WrittenOut(nn.Module):
    """Attention of one head, as people write it out; the last two steps are masked."""

    def __init__(self, masked: str) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(8, 8) for _ in range(4))
        self.masked = masked

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.query(x) @ self.key(x).transpose(-1, -2) * 0.5
        hidden = torch.arange(6) > 3
        if self.masked == "fill":
            scores = scores.masked_fill(hidden, -1e30)
        elif self.masked == "where":
            scores = torch.where(hidden, torch.tensor(-1e30, dtype=scores.dtype), scores)
        return self.out(scores.softmax(-1) @ self.value(x))


def written_out(masked: str, *, roles: tuple[str, str] = ("query", "key"), inverted: bool = False) -> keras.Model:
    """The twin of `WrittenOut`; every argument but its default is a mistake."""
    inputs = keras.Input((6, 8))
    parts = {name: layers.Dense(8, name=name)(inputs) for name in ("query", "key", "value")}
    scores = ops.matmul(parts[roles[0]], ops.transpose(parts[roles[1]], (0, 2, 1))) * 0.5
    if masked:
        hidden = np.arange(6) > 3
        scores = ops.where(~hidden if inverted else hidden, -1e30, scores)
    x = ops.matmul(ops.softmax(scores), parts["value"])
    return keras.Model(inputs, layers.Dense(8, name="out")(x))


def steps() -> torch.Tensor:
    return torch.randn(3, 6, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("masked", "plant", "cause"),
    [
        ("", {"roles": ("key", "query")}, "what query and key return is used the other way round in Keras"),
        ("fill", {"inverted": True}, "the mask is inverted: what is left out in torch is kept in Keras"),
        ("where", {"inverted": True}, "the mask is inverted: what is left out in torch is kept in Keras"),
    ],
)
def test_a_mistake_in_attention_that_is_written_out_is_named(masked: str, plant: dict[str, Any], cause: str) -> None:
    problem = first_problem(WrittenOut(masked), written_out(masked, **plant), steps())
    assert (problem.torch, cause in problem.fact) == ("out", True), problem.fact


class ByTheBatch(nn.BatchNorm2d):
    """Normalises by the batch whatever the mode is, and forgets it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, True, 0.0, self.eps)


def test_a_norm_of_torch_that_goes_on_training_is_named() -> None:
    module = ResNet()
    module.norm = ByTheBatch(6)
    problem = first_problem(module, resnet(), images())
    assert problem.torch == "norm"
    assert "torch normalises by the statistics of the batch, as in training, Keras by the moving ones" in problem.fact


class Features(nn.Module):
    """Maps, returned as one row of numbers for each image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).flatten(1)


def test_an_output_that_was_flattened_in_another_order_is_named() -> None:
    inputs = keras.Input((16, 20, 3))
    model = keras.Model(inputs, layers.Flatten()(layers.Conv2D(6, 3, name="conv")(inputs)))
    problem = first_problem(Features(), model, images())
    assert problem.torch == "output 0"
    assert "the same values in another order: torch flattens (c, h, w), Keras (h, w, c)" in problem.fact


class Rotated(nn.Module):
    """Steps, each scaled by the cosines and sines of its angles."""

    inv_freq: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("inv_freq", 1 / 10000 ** (torch.arange(4) / 4))
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        angles = torch.arange(6)[:, None] * self.inv_freq
        return self.head(x * torch.cat([angles.cos(), angles.sin()], -1))


def test_frequencies_that_were_rounded_in_torch_alone_are_named() -> None:
    class Scaled(layers.Layer):
        def call(self, x: Any) -> Any:
            angles = np.arange(6)[:, None] / 10000.0 ** (np.arange(4) / 4)
            return x * ops.convert_to_tensor(np.concatenate([np.cos(angles), np.sin(angles)], -1), dtype=x.dtype)

    inputs = keras.Input((6, 8))
    problem = first_problem(
        Rotated(), keras.Model(inputs, layers.Dense(5, name="head")(Scaled()(inputs))), steps(), None, keep
    )
    assert "the frequencies of the rotation are of single precision in torch, and exact in Keras" in problem.fact


def keep(module: nn.Module) -> None:
    """The frequencies as they are made: the weights of planted networks are random."""
    assert isinstance(module, Rotated)
    module.inv_freq.copy_(Rotated().inv_freq)


def unexplained() -> Problem:
    def tamper(model: keras.Model) -> None:
        kernel = model.get_layer("stem").kernel
        kernel.assign(kernel.value.detach() + 0.01 * torch.randn(kernel.shape))

    return first_problem(ResNet(), resnet(), images(), tamper)


def test_a_search_that_runs_out_of_time_says_how_far_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "stopped" not in unexplained().fact
    monkeypatch.setattr(causes, "PATIENCE", -1.0)
    problem = unexplained()
    assert "the search for the cause stopped after -1 s: " in problem.fact
    assert f" of {len(SUSPECTS)} usual suspects had been tried" in problem.fact
    assert problem.fixes == ()
