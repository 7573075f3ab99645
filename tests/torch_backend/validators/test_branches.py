"""The certificate covers the branches of both models: bounds, masks, dynamic sizes, both ends of integer inputs."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody gives it
from keras import layers, ops
from torch import nn

import keras3conv as k3c
from keras3conv.report.values import Section
from keras3conv.transforms import Array
from tests.support.models import ModuleType, randomize

TorchFunction = Callable[[torch.Tensor], torch.Tensor]
KerasFunction = Callable[[Any], Any]


class Between(nn.Module):
    """Two linear layers with a function between them."""

    def __init__(self, function: TorchFunction) -> None:
        super().__init__()
        self.function = function
        self.first, self.head = nn.Linear(6, 16), nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.function(self.first(x)))


def between(function: KerasFunction) -> keras.Model:
    inputs = keras.Input((6,))
    return keras.Model(inputs, layers.Dense(3, name="head")(function(layers.Dense(16, name="first")(inputs))))


def proof(module: ModuleType, model: keras.Model, inputs: Any = None) -> Section:
    """Return the float64 proof of a pair that is aligned by names."""
    plan = k3c.align(randomize(module), model, inputs=inputs, probe=False).check()
    return k3c.validate(module, model, inputs=inputs, alignment=plan, proofs=("float64",)).section("float64")


GIVEN = np.random.default_rng(0).standard_normal((4, 6)).astype("float32")


@pytest.mark.usefixtures("without_causes")
@pytest.mark.parametrize("inputs", [None, GIVEN, np.abs(GIVEN)], ids=["made", "given", "given, positive"])
@pytest.mark.parametrize(
    ("torch_function", "keras_function"),
    [
        (F.relu6, ops.relu),
        (torch.relu, layers.ReLU(max_value=6.0)),
        (lambda x: x.clamp(-20.0, 2.0), lambda x: ops.minimum(x, 2.0)),
        (lambda x: x, lambda x: ops.clip(x, -300.0, 300.0)),
        (lambda x: x.clamp(-1e4, 1e4), lambda x: x),
        (F.hardsigmoid, lambda x: ops.maximum(x / 6.0 + 0.5, 0.0)),
        (lambda x: F.threshold(x, 20.0, 0.0), ops.relu),
        (lambda x: F.threshold(x, 20.0, 0.0), lambda x: ops.where(x > 18.0, x, 0.0)),
        (lambda x: 1e3 * torch.tanh(x / 1e3), lambda x: x),
    ],
    ids=[
        "relu6",
        "ReLU(6)",
        "lower limit",
        "clip at 300",
        "clamp at 1e4",
        "hard sigmoid",
        "threshold",
        "other threshold",
        "soft cap",
    ],
)
def test_a_clip_on_only_one_side_fails(
    torch_function: TorchFunction, keras_function: KerasFunction, inputs: Array | None
) -> None:
    assert proof(Between(torch_function), between(keras_function), inputs).status == "failed"


@pytest.mark.parametrize(
    ("torch_function", "keras_function"),
    [
        (F.relu6, ops.relu6),
        (lambda x: x.clamp(-300.0, 300.0), lambda x: ops.clip(x, -300.0, 300.0)),
        (F.hardsigmoid, ops.hard_sigmoid),
        (lambda x: F.threshold(x, 20.0, 0.0), lambda x: ops.where(x > 20.0, x, 0.0)),
        (F.softplus, ops.softplus),
        (lambda x: x.softmax(-1), ops.softmax),
    ],
)
def test_equal_clips_on_both_sides_pass(torch_function: TorchFunction, keras_function: KerasFunction) -> None:
    section = proof(Between(torch_function), between(keras_function))
    assert section.status == "passed", section.problems
    assert "not reached" not in section.facts
    assert "at values of 32" in section.facts["exercised"]


def test_the_report_counts_the_exceeded_bounds_of_both_sides() -> None:
    section = proof(Between(lambda x: x.clamp(-300.0, 6.0)), between(lambda x: ops.clip(x, -300.0, 6.0)))
    assert section.status == "passed", section.problems
    assert "values on both sides of 4 of 4 bounds" in section.facts["exercised"]


def test_a_bound_that_no_value_reaches_is_reported() -> None:
    section = proof(
        Between(lambda x: torch.tanh(x).clamp(-2.0, 2.0)), between(lambda x: ops.clip(ops.tanh(x), -2.0, 2.0))
    )
    assert section.status == "passed", section.problems
    assert "2 of clamp (values from -1 to 1)" in section.facts["not reached"]


def test_values_that_overflow_on_both_sides_pass() -> None:
    section = proof(Between(lambda x: torch.exp(torch.exp(x))), between(lambda x: ops.exp(ops.exp(x))))
    assert section.status == "passed", section.problems
    assert "some not finite on both sides" in section.summary
    assert "at values of 32, some not finite on both sides" in section.facts["exercised"]


def test_values_that_overflow_on_only_one_side_fail() -> None:
    section = proof(
        Between(lambda x: torch.exp(torch.exp(x))), between(lambda x: ops.exp(ops.minimum(ops.exp(x), 700.0)))
    )
    assert section.status == "failed"


@pytest.mark.parametrize("inputs", [None, GIVEN])
def test_a_relu_and_a_clamp_equal_one_relu_with_max_value(inputs: Array | None) -> None:
    class Clamped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.activation, self.head = nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.activation(self.first(x)).clamp(max=6.0))

    assert proof(Clamped(), between(layers.ReLU(max_value=6.0, name="activation")), inputs).status == "passed"


class Pooled(nn.Module):
    """The mean of embedded tokens, with or without the padding tokens."""

    def __init__(self, masks: bool) -> None:
        super().__init__()
        self.masks = masks
        self.table, self.head = nn.Embedding(11, 6), nn.Linear(6, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.table(tokens)
        if not self.masks:
            return self.head(x.mean(1))
        mask = (tokens != 0).unsqueeze(-1).to(x.dtype)
        return self.head((x * mask).sum(1) / mask.sum(1))


def pooled() -> keras.Model:
    inputs = keras.Input((7,), dtype="int32")
    x = layers.Embedding(11, 6, mask_zero=True, name="table")(inputs)
    return keras.Model(inputs, layers.Dense(3, name="head")(layers.GlobalAveragePooling1D()(x)))


@pytest.mark.parametrize("inputs", [None, np.arange(1, 8)[None], np.arange(1, 8)[None].repeat(3, 0)])
def test_a_torch_module_that_ignores_the_padding_mask_fails(inputs: Array | None) -> None:
    assert proof(Pooled(masks=False), pooled(), inputs).status == "failed"
    section = proof(Pooled(masks=True), pooled(), inputs)
    assert section.status == "passed", section.problems
    assert "padd" in section.facts["exercised"]


class Recurrent(nn.Module):
    """The last state of an LSTM after the last step that is not masked."""

    def __init__(self, masks: bool) -> None:
        super().__init__()
        self.masks = masks
        self.lstm, self.head = nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states = self.lstm(x)[0]
        lengths = (x != 0).any(-1).sum(1) if self.masks else torch.full((len(x),), x.shape[1])
        return self.head(states[torch.arange(len(x)), lengths - 1])


@pytest.mark.slow
def test_a_torch_lstm_that_ignores_the_masking_fails() -> None:
    inputs = keras.Input((6, 4))
    x = layers.LSTM(5, name="lstm")(layers.Masking()(inputs))
    model = keras.Model(inputs, layers.Dense(3, name="head")(x))
    assert proof(Recurrent(masks=False), model).status == "failed"
    section = proof(Recurrent(masks=True), model)
    assert section.status == "passed", section.problems


@pytest.mark.parametrize("row", [0, 10])
def test_generated_tokens_include_the_first_and_last_table_row(row: int) -> None:
    class Marked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(11, 6)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.table(tokens) * torch.where(tokens == row, 2.0, 1.0).unsqueeze(-1)

    inputs = keras.Input((3,), dtype="int32")
    assert proof(Marked(), keras.Model(inputs, layers.Embedding(11, 6, name="table")(inputs))).status == "failed"


class Strided(nn.Module):
    """A strided convolution with padding of one on all sides, or at the end of even sizes only."""

    def __init__(self, same: bool) -> None:
        super().__init__()
        self.same = same
        self.conv, self.head = nn.Conv2d(3, 4, 3, stride=2, padding=0), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        before = [1, 1] if not self.same else [size % 2 for size in x.shape[2:]]
        x = self.conv(F.pad(x, (before[1], 1, before[0], 1)))
        return self.head(x.mean((2, 3)))


def strided() -> keras.Model:
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="conv")(inputs)
    return keras.Model(inputs, layers.Dense(2, name="head")(layers.GlobalAveragePooling2D()(x)))


IMAGES = np.random.default_rng(0).standard_normal((2, 3, 33, 33)).astype("float32")


@pytest.mark.slow
@pytest.mark.parametrize("inputs", [None, IMAGES], ids=["made", "33 pixels"])
def test_a_padding_that_agrees_only_at_odd_sizes_fails(inputs: Array | None) -> None:
    assert proof(Strided(same=False), strided(), inputs).status == "failed"
    section = proof(Strided(same=True), strided(), inputs)
    assert section.status == "passed", section.problems
    sizes = ("32x32", "31x30", "64x64") if inputs is None else ("33x33", "32x31", "65x65")
    assert all(size in section.facts["exercised"] for size in sizes)


class Halved(nn.Module):
    """A module that accepts only image sizes that are multiples of 64."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[2] % 64 or x.shape[3] % 64:
            raise ValueError("not a multiple of 64")
        return self.conv(x)


def test_an_input_size_is_chosen_that_both_models_accept() -> None:
    inputs = keras.Input((None, None, 3))
    section = proof(Halved(), keras.Model(inputs, layers.Conv2D(2, 1, name="conv")(inputs)))
    assert section.status == "passed", section.problems
    assert section.facts["exercised"].startswith("the inputs of size 64x64")
    assert "at size 63x62" in section.facts["not reached"]
    assert "not a multiple of 64" in section.facts["not reached"]
