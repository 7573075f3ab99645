"""The diagnosis names planted mistakes in handwritten attention, batch statistics and flattening, with a time limit."""

from typing import Any

import keras
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody gives it
from keras import layers, ops
from torch import nn

from keras3conv.errors import Problem
from keras3conv.validators.diagnosis import divergence
from keras3conv.validators.diagnosis.suspects import SUSPECTS
from tests.support.planted.networks import ResNet, first_problem, images, resnet


class WrittenOut(nn.Module):
    """Single-head attention in elementary operations; the last two steps are masked."""

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
    """Return the Keras counterpart of `WrittenOut`; every argument other than its default plants a mistake."""
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
        ("", {"roles": ("key", "query")}, "the results of query and key are swapped in Keras"),
        ("fill", {"inverted": True}, "the mask is inverted: Keras attends to the positions that torch masks"),
        ("where", {"inverted": True}, "the mask is inverted: Keras attends to the positions that torch masks"),
    ],
)
def test_a_mistake_in_own_attention_code_is_named(masked: str, plant: dict[str, Any], cause: str) -> None:
    problem = first_problem(WrittenOut(masked), written_out(masked, **plant), steps())
    assert (problem.torch, cause in problem.fact) == ("out", True), problem.fact


class ByTheBatch(nn.BatchNorm2d):
    """Normalises with batch statistics in every mode."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, True, 0.0, self.eps)


def test_a_torch_normalisation_with_batch_statistics_is_named() -> None:
    module = ResNet()
    module.norm = ByTheBatch(6)
    problem = first_problem(module, resnet(), images())
    assert problem.torch == "norm"
    assert "torch normalises with batch statistics, as in training, Keras with moving statistics" in problem.fact


class Features(nn.Module):
    """Feature maps, flattened."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).flatten(1)


def test_an_output_flattened_in_another_order_is_named() -> None:
    inputs = keras.Input((16, 20, 3))
    model = keras.Model(inputs, layers.Flatten()(layers.Conv2D(6, 3, name="conv")(inputs)))
    problem = first_problem(Features(), model, images())
    assert problem.torch == "output 0"
    assert "the same values in another order: torch flattens (c, h, w), Keras (h, w, c)" in problem.fact


class Rotated(nn.Module):
    """Scales every step by the cosines and sines of its angles."""

    inv_freq: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("inv_freq", 1 / 10000 ** (torch.arange(4) / 4))
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        angles = 400 * torch.arange(6)[:, None] * self.inv_freq
        return self.head(x * torch.cat([angles.cos(), angles.sin()], -1))


def test_frequencies_rounded_in_torch_only_are_named() -> None:
    class Scaled(layers.Layer):
        def call(self, x: Any) -> Any:
            angles = 400 * np.arange(6)[:, None] / 10000.0 ** (np.arange(4) / 4)
            return x * ops.convert_to_tensor(np.concatenate([np.cos(angles), np.sin(angles)], -1), dtype=x.dtype)

    inputs = keras.Input((6, 8))
    problem = first_problem(
        Rotated(),
        keras.Model(inputs, layers.Dense(5, name="head")(Scaled()(inputs))),
        steps(),
        None,
        with_own_frequencies,
    )
    assert "the frequencies of the rotary embedding are rounded to float32 in torch, and exact in Keras" in problem.fact


def with_own_frequencies(module: nn.Module) -> None:
    """Restore the rotary frequencies, which `first_problem` randomises."""
    assert isinstance(module, Rotated)
    module.inv_freq.copy_(Rotated().inv_freq)


def unknown_mistake() -> Problem:
    def tamper(model: keras.Model) -> None:
        kernel = model.get_layer("stem").kernel
        kernel.assign(kernel.value.detach() + 0.01 * torch.randn(kernel.shape))

    return first_problem(ResNet(), resnet(), images(), tamper)


@pytest.mark.slow
def test_a_search_that_reaches_its_limit_says_how_many_suspects_it_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "stopped" not in unknown_mistake().fact
    monkeypatch.setattr(divergence, "SEARCH_VALUES", 1)
    problem = unknown_mistake()
    assert "the search for the cause stopped after 1 run of the module, with " in problem.fact
    assert f" of {len(SUSPECTS)} suspects tried" in problem.fact
    assert problem.fixes == ()


class OfAnArray(nn.Module):
    """Multiplies by an array of NumPy, which `torch.tensor` gets as it is."""

    def __init__(self, factors: np.ndarray) -> None:
        super().__init__()
        self.factors, self.inner, self.out = factors, nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.inner(x) * torch.tensor(self.factors))


@pytest.mark.slow
def test_a_function_of_a_numpy_array_does_not_stop_the_search() -> None:
    inputs, factors = keras.Input((6, 8)), np.linspace(1.0, 2.0, 8, dtype="float32")
    x = layers.Dense(8, name="inner")(inputs) * factors[::-1].copy()
    problem = first_problem(OfAnArray(factors), keras.Model(inputs, layers.Dense(3, name="out")(x)), steps())
    assert problem.torch == "out"
