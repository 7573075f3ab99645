"""Mistakes in ports from torch to Keras: the cause is named, and the last line is for the Keras model."""

from collections.abc import Callable
from typing import Any

import keras
import pytest
import torch
from keras import layers
from torch import nn

import keras3conv as k3c
from keras3conv.errors import Problem
from tests.support.models import randomize


def problem_of(module: nn.Module, model: keras.Model, given: Any) -> Problem:
    """Return the first problem of the port of a torch module."""
    plan = k3c.align(randomize(module), model, inputs=given)
    k3c.transfer(module, model, plan, accept_difference=True)
    report = k3c.validate(module, model, inputs=given, plan=plan, proofs=("float64",))
    return report.section("float64").problems[0]


class Pooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.AvgPool2d(3, 2, 1), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.head(self.pool(self.conv(x)).amax((2, 3)))
        return made


def pooled() -> keras.Model:
    image = keras.Input((10, 10, 3))
    x = layers.AveragePooling2D(3, 2, padding="same")(layers.Conv2D(4, 3, padding="same", name="conv")(image))
    return keras.Model(image, layers.Dense(2, name="head")(layers.GlobalMaxPooling2D()(x)))


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(8, 8) for _ in range(4))
        self.norm = nn.LayerNorm(8, eps=1e-3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = (one(x).unflatten(2, (2, 4)).transpose(1, 2) for one in (self.query, self.key, self.value))
        found = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        made: torch.Tensor = self.norm(x + self.out(found.transpose(1, 2).flatten(2)))
        return made


def attending() -> keras.Model:
    steps = keras.Input((6, 8))
    found = layers.MultiHeadAttention(2, 4, name="attention")(steps, steps)
    return keras.Model(steps, layers.LayerNormalization(name="norm")(layers.Add()([steps, found])))


def test_an_average_with_a_repeated_border_is_named() -> None:
    problem = problem_of(Pooled(), pooled(), torch.randn(2, 3, 10, 10))
    assert 'pads an average pooling by (0, 1), (0, 1), as "same" does, and repeats the last value' in problem.fact
    padded = "keras.layers.ZeroPadding2D(((1, 1), (1, 1)))(x)"
    code = f"x = keras.layers.AveragePooling2D((3, 3), strides=(2, 2))({padded})"
    assert problem.fixes[-1] == f"{code}  # Keras: before head, in place of the pooling"


@pytest.mark.slow
def test_the_line_for_a_causal_mask_names_the_attention() -> None:
    problem = problem_of(Attending(), attending(), torch.randn(2, 6, 8))
    assert "attention is causal in torch, but not in Keras" in problem.fact
    assert problem.fixes[-1] in (
        "use_causal_mask=True  # Keras: the attention before norm",
        "use_causal_mask=True  # Keras: attention",
    )


class Twins(nn.Module):
    def __init__(self, distance: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.first, self.out, self.distance = nn.Linear(6, 4), nn.Linear(4, 1), distance

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.out(self.distance(self.first(left) - self.first(right)))
        return made


def twins(distance: Callable[[Any], Any]) -> keras.Model:
    left, right = keras.Input((6,), name="left"), keras.Input((6,), name="right")
    first = layers.Dense(4, name="first")
    made = layers.Dense(1, name="out")(distance(first(left) - first(right)))
    return keras.Model({"left": left, "right": right}, made)


@pytest.mark.parametrize(
    ("in_torch", "in_keras", "cause", "line"),
    [
        (torch.abs, keras.ops.square, "torch computes abs before out, Keras square", "x = keras.ops.abs(x)"),
        (lambda x: x**2, keras.ops.abs, "torch computes square before out, Keras abs", "x = keras.ops.square(x)"),
    ],
    ids=["abs", "square"],
)
def test_another_function_of_single_values_is_named(
    in_torch: Callable[[torch.Tensor], torch.Tensor], in_keras: Callable[[Any], Any], cause: str, line: str
) -> None:
    given = {"left": torch.randn(3, 6), "right": torch.randn(3, 6)}
    problem = problem_of(Twins(in_torch), twins(in_keras), given)
    assert cause in problem.fact
    assert problem.fixes[-1].startswith(f"{line}  # Keras: before out, in place of ")


@pytest.mark.slow
def test_a_function_of_a_difference_that_only_keras_takes_is_named() -> None:
    given = {"left": torch.randn(3, 6), "right": torch.randn(3, 6)}
    problem = problem_of(Twins(lambda x: x), twins(keras.ops.abs), given)
    assert "Keras takes abs of the result of sub before out, torch does not" in problem.fact
    assert problem.fixes[-1] == "# Keras: before out: without abs after sub, which torch does not have"


class Counted(nn.Module):
    """The mean over the steps that are not zero."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(9, 4), nn.Linear(4, 2)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        x, counted = self.words(words), (words != 0).unsqueeze(-1)
        made: torch.Tensor = self.head((x * counted).sum(1) / counted.sum(1).clamp(min=1))
        return made


@pytest.mark.slow
def test_a_divisor_that_keras_lacks_is_named() -> None:
    given = torch.tensor([[1, 2, 3, 0, 0, 0], [4, 5, 6, 7, 8, 0]])
    words = keras.Input((6,), dtype="int32")
    counted = keras.ops.expand_dims(keras.ops.cast(keras.ops.not_equal(words, 0), "float32"), -1)
    x = keras.ops.sum(keras.ops.multiply(layers.Embedding(9, 4, name="words")(words), counted), axis=1)
    problem = problem_of(Counted(), keras.Model(words, layers.Dense(2, name="head")(x)), given)
    assert "torch divides by a tensor of shape (2, 1) before head, Keras does not" in problem.fact
    assert problem.fixes[-1].startswith("x = keras.ops.divide(x, divisor)  # Keras: before head, the divisor of ")


class Remembering(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.memory, self.head = nn.LSTM(5, 6, batch_first=True), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.head(self.memory(x)[1][1][-1])
        return made


def test_the_state_that_torch_uses_is_the_one_to_take() -> None:
    model = keras.Sequential([keras.Input((7, 5)), layers.LSTM(6, name="memory"), layers.Dense(2, name="head")])
    problem = problem_of(Remembering(), model, torch.randn(3, 7, 5))
    assert "torch uses the cell state of the LSTM, Keras the hidden state" in problem.fact
    assert problem.fixes == ("_, hidden, cell = lstm(x)  # Keras: before head: take cell",)


class Classifying(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(5, 6), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.head(torch.relu(self.first(x))[:, 0])
        return made


def test_the_line_for_a_position_selects_it_in_keras() -> None:
    steps = keras.Input((7, 5))
    x = layers.GlobalAveragePooling1D()(layers.Dense(6, activation="relu", name="first")(steps))
    model = keras.Model(steps, layers.Dense(2, name="head")(x))
    problem = problem_of(Classifying(), model, torch.randn(3, 7, 5))
    assert problem.fixes[-1] == "x = x[:, 0]  # Keras: before head, where torch selects along axis 1"


class Normalized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.inner, self.head = nn.LayerNorm(4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.head(x * 2 + self.inner(self.norm(x * 2)))
        return made


@pytest.mark.slow
def test_a_shortcut_that_begins_after_the_normalisation_is_named() -> None:
    given = keras.Input((4,))
    x = layers.LayerNormalization(epsilon=1e-5, name="norm")(given * 2)
    model = keras.Model(given, layers.Dense(2, name="head")(x + layers.Dense(4, name="inner")(x)))
    problem = problem_of(Normalized(), model, torch.randn(3, 4))
    cause = "torch adds two tensors before head; the first of them is the result of layer_norm"
    assert f"{cause} in norm in Keras" in problem.fact
    assert problem.fixes[-1].startswith("# Keras: before head: add what torch adds instead of the result of layer_norm")


class Causal(nn.Module):
    """Two convolutions that see the past only: torch pads before the layer, Keras inside it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(3, 4, 3), nn.Conv1d(4, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(nn.functional.pad(x, (2, 0))))
        made: torch.Tensor = self.second(nn.functional.pad(x, (2, 0)))
        return made


@pytest.mark.slow
def test_a_mistake_before_a_layer_that_pads_inside_is_named() -> None:
    steps = keras.Input((9, 3))
    x = layers.Conv1D(4, 3, padding="causal", name="first")(steps)
    model = keras.Model(steps, layers.Conv1D(2, 3, padding="causal", name="second")(x))
    problem = problem_of(Causal(), model, torch.randn(2, 3, 9))
    assert (problem.torch, problem.keras) == ("second", "second")
    assert "Keras lacks an activation" in problem.fact
    assert "relu" in problem.fact
