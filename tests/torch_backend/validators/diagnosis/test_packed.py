"""The diagnosis names planted mistakes in a packed attention: one tensor in torch, three variables in Keras."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers
from torch import nn

from tests.support.planted.networks import Tamper, first_problem


class Attends(nn.Module):
    """Attention, optionally with the last two steps masked."""

    def __init__(self, masked: bool = False) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 5)
        self.masked = masked

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = (torch.arange(6) > 3).expand(6, 6) if self.masked else None
        return self.head(self.attention(x, x, x, attn_mask=mask, need_weights=False)[0])


def twin(attended: Any = None) -> keras.Model:
    inputs = keras.Input((6, 8))
    mask = None if attended is None else np.broadcast_to(attended, (1, 6, 6))
    x = layers.MultiHeadAttention(2, 4, name="attention")(inputs, inputs, attention_mask=mask)
    return keras.Model(inputs, layers.Dense(5, name="head")(x))


def steps() -> torch.Tensor:
    return torch.randn(3, 6, 8, generator=torch.Generator().manual_seed(1))


def exchanged(first: str, second: str) -> Tamper:
    def tamper(model: keras.Model) -> None:
        attention = model.get_layer("attention")
        one, other = (getattr(attention, f"_{role}_dense") for role in (first, second))
        for here, there in zip(one.weights, other.weights, strict=True):
            values = np.array(here.value.detach()), np.array(there.value.detach())
            here.assign(values[1])
            there.assign(values[0])

    return tamper


def changed(role: str, name: str, change: Callable[[Any], Any]) -> Tamper:
    def tamper(model: keras.Model) -> None:
        layer = getattr(model.get_layer("attention"), f"_{role}_dense")
        variable = getattr(layer, name)
        variable.assign(np.ascontiguousarray(change(np.array(variable.value.detach()))))

    return tamper


def width_first(model: keras.Model) -> None:
    """Split the heads as (width, heads): element h * 4 + d of torch becomes d * 2 + h."""
    for role in ("query", "key", "value"):
        changed(role, "kernel", lambda kernel: kernel.reshape(8, 4, 2).swapaxes(1, 2))(model)
        changed(role, "bias", lambda bias: bias.reshape(4, 2).T)(model)
    changed("output", "kernel", lambda kernel: kernel.reshape(4, 2, 8).swapaxes(0, 1))(model)


def without_biases(model: keras.Model) -> None:
    for role in ("query", "key", "value"):
        changed(role, "bias", np.zeros_like)(model)


@pytest.mark.parametrize(
    ("tamper", "cause"),
    [
        (exchanged("query", "key"), "query and key are swapped"),
        (exchanged("key", "value"), "key and value are swapped"),
        (width_first, "the heads are split in another order: torch has features as (heads, width)"),
        (without_biases, "Keras adds no bias to query, key and value, torch does"),
    ],
)
def test_a_mistake_in_a_packed_attention_is_named(tamper: Tamper, cause: str) -> None:
    problem = first_problem(Attends(), twin(), steps(), tamper)
    assert problem.torch == "attention"
    assert cause in problem.fact
    assert problem.fixes, "a cause comes with the line to paste"


@pytest.mark.parametrize(
    ("attended", "cause"),
    [
        (np.arange(6) > 3, "the mask is inverted: True means mask out in torch, and the opposite in Keras"),
        (None, "Keras ignores the attention mask"),
    ],
)
def test_a_mistake_in_the_mask_of_a_packed_attention_is_named(attended: Any, cause: str) -> None:
    problem = first_problem(Attends(masked=True), twin(attended), steps())
    assert problem.torch == "attention"
    assert cause in problem.fact
    assert problem.fixes, "a cause comes with the line to paste"


class Queries(nn.Module):
    """A linear layer whose Keras counterpart has a heads axis."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.head = nn.Linear(8, 8), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.query(x)))


def queries() -> keras.Model:
    inputs = keras.Input((6, 8))
    x = layers.EinsumDense("abc,cde->abde", output_shape=(None, 2, 4), bias_axes="de", name="query")(inputs)
    x = layers.Activation("tanh")(layers.Reshape((6, 8))(x))
    return keras.Model(inputs, layers.Dense(5, name="head")(x))


@pytest.mark.parametrize(
    ("name", "change", "cause"),
    [
        ("kernel", lambda kernel: kernel.reshape(8, 8).T.reshape(kernel.shape), "the kernel is transposed"),
        ("bias", np.zeros_like, "Keras adds no bias"),
        ("kernel", lambda kernel: kernel[:, ::-1], ""),
    ],
)
def test_a_linear_layer_is_compared_with_an_einsum_dense_that_has_a_heads_axis(
    name: str, change: Callable[[Any], Any], cause: str
) -> None:
    def tamper(model: keras.Model) -> None:
        variable = getattr(model.get_layer("query"), name)
        variable.assign(np.ascontiguousarray(change(np.array(variable.value.detach()))))

    problem = first_problem(Queries(), queries(), steps(), tamper)
    assert (problem.torch, problem.keras) == ("query", "query")
    assert cause in problem.fact
    assert bool(problem.fixes) == bool(cause), "a cause comes with the line to paste"
