"""Layers whose rows have another order in Keras are compared, and a mistake in such a layer is still found."""

from typing import Any

import keras
import pytest
import torch
from keras import layers, ops
from torch import nn

import keras3conv as k3c
from keras3conv.report.report import Report
from tests.support.models import randomize

pytestmark = pytest.mark.slow

WIDTH, HEADS, SIDE, WINDOW = 6, 2, 8, 4
WINDOWS = SIDE // WINDOW
STEPS = 4
PROOFS = ("hyperparameters", "float64", "activations", "outputs")


class Windowed(nn.Module):
    """Attention inside the windows of an image, which are part of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.packed, self.out = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = image.view(-1, WINDOWS, WINDOW, WINDOWS, WINDOW, WIDTH).permute(0, 1, 3, 2, 4, 5)
        x = self.packed(self.norm(x.reshape(-1, WINDOW * WINDOW, WIDTH)))
        query, key, value = x.view(-1, WINDOW * WINDOW, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        x = nn.functional.scaled_dot_product_attention(query, key, value)
        x = self.out(x.transpose(1, 2).reshape(-1, WINDOW * WINDOW, WIDTH))
        x = x.view(-1, WINDOWS, WINDOWS, WINDOW, WINDOW, WIDTH).permute(0, 1, 3, 2, 4, 5)
        return image + x.reshape(-1, SIDE, SIDE, WIDTH)


def windowed(epsilon: float = 1e-5, windows: tuple[int, ...] = (0, 1, 3, 2, 4, 5), heads_first: bool = True) -> Any:
    """Return the Keras model, whose layers are called before the windows become part of the batch."""
    image = keras.Input((SIDE, SIDE, WIDTH))
    x = ops.reshape(image, (-1, WINDOWS, WINDOW, WINDOWS, WINDOW, WIDTH))
    x = layers.Dense(3 * WIDTH, name="packed")(layers.LayerNormalization(epsilon=epsilon, name="norm")(x))
    x = ops.reshape(ops.transpose(x, windows), (-1, WINDOW * WINDOW, 3 * WIDTH))
    each = (HEADS, WIDTH // HEADS) if heads_first else (WIDTH // HEADS, HEADS)
    parts = [ops.reshape(part, (-1, WINDOW * WINDOW, *each)) for part in ops.split(x, 3, axis=-1)]
    parts = [ops.transpose(part, (0, 2, 1, 3) if heads_first else (0, 3, 1, 2)) for part in parts]
    scores = ops.softmax(ops.matmul(parts[0], ops.transpose(parts[1], (0, 1, 3, 2))) * (WIDTH // HEADS) ** -0.5)
    x = ops.reshape(ops.transpose(ops.matmul(scores, parts[2]), (0, 2, 1, 3)), (-1, WINDOW * WINDOW, WIDTH))
    x = ops.transpose(ops.reshape(x, (-1, WINDOWS, WINDOWS, WINDOW, WINDOW, WIDTH)), (0, 1, 3, 2, 4, 5))
    x = layers.Dense(WIDTH, name="out")(x)
    return keras.Model(image, image + ops.reshape(x, (-1, SIDE, SIDE, WIDTH)))


class Interleaved(nn.Module):
    """Three kinds of embeddings, interleaved over time: returns, states, actions, returns, ..."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList([nn.Linear(3, WIDTH) for _ in range(3)])
        self.first, self.norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.inner, self.outer = nn.Linear(WIDTH, 9), nn.Linear(9, WIDTH)
        self.memory = nn.GRU(WIDTH, WIDTH, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stacked = torch.stack([part(x) for part in self.parts], 1).permute(0, 2, 1, 3)
        x = self.first(stacked.reshape(-1, 3 * STEPS, WIDTH))
        x = x + self.outer(torch.relu(self.inner(self.norm(x))))
        return self.memory(x)[0][:, 1::3]


def interleaved(epsilon: float = 1e-5, late: bool = False) -> keras.Model:
    """Return the Keras model, which interleaves the embeddings after the layers."""
    steps = keras.Input((STEPS, 3))
    x = ops.stack([layers.Dense(WIDTH, name=f"part{index}")(steps) for index in range(3)], axis=1)
    x = layers.LayerNormalization(epsilon=1e-5, name="first")(x)
    inner = layers.Dense(9, activation="relu", name="inner")
    x = x + layers.Dense(WIDTH, name="outer")(inner(layers.LayerNormalization(epsilon=epsilon, name="norm")(x)))
    x = x if late else ops.transpose(x, (0, 2, 1, 3))
    x = layers.GRU(WIDTH, return_sequences=True, name="memory")(ops.reshape(x, (-1, 3 * STEPS, WIDTH)))
    return keras.Model(steps, x[:, 1::3])


def certificate(module: nn.Module, model: keras.Model, given: torch.Tensor) -> Report:
    plan = k3c.align(randomize(module), model, inputs=given)
    k3c.transfer(module, model, plan, accept_difference=True)
    return k3c.validate(module, model, inputs=given, plan=plan, proofs=PROOFS)


IMAGE, SEQUENCE = torch.randn(2, SIDE, SIDE, WIDTH), torch.randn(2, STEPS, 3)


@pytest.mark.parametrize("kind", ["windows", "interleaved"])
def test_layers_with_their_rows_in_another_order_agree(kind: str) -> None:
    if kind == "windows":
        report = certificate(Windowed(), windowed(), IMAGE)
    else:
        report = certificate(Interleaved(), interleaved(), SEQUENCE)
    assert report.ok, report


@pytest.mark.parametrize("kind", ["windows", "interleaved"])
def test_a_converted_model_with_another_order_of_rows_passes(kind: str) -> None:
    module, given = (Windowed(), IMAGE) if kind == "windows" else (Interleaved(), SEQUENCE)
    report = k3c.convert(randomize(module), inputs=given).report
    assert report is not None
    assert report.ok


def test_a_wrong_epsilon_is_found_in_a_layer_with_another_order_of_rows() -> None:
    section = certificate(Windowed(), windowed(epsilon=1e-3), IMAGE).section("float64")
    assert (section.problems[0].torch, section.problems[0].keras) == ("norm", "norm")
    assert "epsilon is 1e-05 in torch and 0.001 in Keras" in section.problems[0].fact


def test_the_layer_with_a_mistake_is_blamed_and_not_one_with_another_order_of_rows() -> None:
    section = certificate(Interleaved(), interleaved(epsilon=1e-3), SEQUENCE).section("float64")
    assert section.problems[0].torch == "norm"
    assert "epsilon is 1e-05 in torch and 0.001 in Keras" in section.problems[0].fact


@pytest.mark.usefixtures("without_causes")
@pytest.mark.parametrize(
    "mistake", [{"windows": (0, 3, 1, 2, 4, 5)}, {"windows": (0, 1, 3, 4, 2, 5)}, {"heads_first": False}]
)
def test_another_order_that_changes_the_outputs_fails(mistake: dict[str, Any]) -> None:
    report = certificate(Windowed(), windowed(**mistake), IMAGE)
    assert report.section("float64").status == report.section("outputs").status == "failed"


def test_an_order_that_is_never_restored_fails() -> None:
    (problem, *_) = certificate(Interleaved(), interleaved(late=True), SEQUENCE).section("float64").problems
    assert "axes are merged in another order: torch merges (4, 3)" in problem.fact


def test_the_layer_with_a_large_mistake_is_named_beside_the_order_of_rows_before_it() -> None:
    (problem, *_) = certificate(Windowed(), windowed(heads_first=False), IMAGE).section("float64").problems
    assert ": the same rows in another order; the first with other rows is out" in problem.fact
