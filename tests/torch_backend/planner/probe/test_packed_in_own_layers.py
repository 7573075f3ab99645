"""A Keras layer that adds all weights itself is an attention of torch in any form: packed, or in separate layers."""

from collections.abc import Callable
from typing import Any

import keras
import pytest
import torch
from keras import layers, ops
from torch import nn

import keras3conv as k3c
from tests.support.models import randomize
from tests.support.registered import keep_rules

SIZE, HEADS, EACH = 8, 2, 4


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Return the attention of tensors of shape (batch, steps, SIZE), divided into heads and joined again."""
    parts = (one.unflatten(-1, (HEADS, EACH)).transpose(1, 2) for one in (q, k, v))
    return nn.functional.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)


class Separate(nn.Module):
    def __init__(self, *, bias: bool) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(SIZE, SIZE, bias=bias) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.o(attend(self.q(x), self.k(x), self.v(x)))
        return made


class Packed(nn.Module):
    def __init__(self, *, bias: bool) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(SIZE, 3 * SIZE, bias=bias), nn.Linear(SIZE, SIZE, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.proj(attend(*self.qkv(x).chunk(3, -1)))
        return made


class OfTorch(nn.MultiheadAttention):
    def __init__(self, *, bias: bool) -> None:
        super().__init__(SIZE, HEADS, bias=bias, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        made: torch.Tensor = super().forward(x, x, x, need_weights=False)[0]
        return made


class Net(nn.Module):
    """Two residual attentions, each in a module, between other layers."""

    def __init__(self, attention: Callable[..., nn.Module], *, bias: bool) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(SIZE) for _ in range(2))
        self.attentions = nn.ModuleList(attention(bias=bias) for _ in range(2))
        self.head = nn.Linear(SIZE, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for norm, attention in zip(self.norms, self.attentions, strict=True):
            x = x + attention(norm(x))
        made: torch.Tensor = self.head(x)
        return made


class Block(nn.Module):
    """A block that has the layers of its attention among its others, without a module for the attention."""

    def __init__(self, *, bias: bool) -> None:
        super().__init__()
        self.norm, self.out = nn.LayerNorm(SIZE), nn.Linear(SIZE, SIZE, bias=bias)
        self.q, self.k, self.v = (nn.Linear(SIZE, SIZE, bias=bias) for _ in range(3))
        self.up, self.down = nn.Linear(SIZE, 3 * SIZE), nn.Linear(3 * SIZE, SIZE)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        x = x + self.out(attend(self.q(y), self.k(y), self.v(y)))
        return x + torch.tanh(self.down(torch.relu(self.up(x))))


class Matrices(layers.Layer):
    """An attention with four matrices and four biases."""

    heads = HEADS

    def build(self, shape: Any) -> None:
        self.matrices = [self.add_weight(shape=(SIZE, SIZE), name=f"W{name}") for name in "qkvo"]
        self.biases = [self.add_weight(shape=(SIZE,), name=f"b{name}") for name in "qkvo"]

    def divided(self, x: Any) -> Any:
        return ops.transpose(ops.reshape(x, (-1, x.shape[1], self.heads, SIZE // self.heads)), (0, 2, 1, 3))

    def call(self, x: Any) -> Any:
        q, k, v = (self.divided(x @ one + bias) for one, bias in zip(self.matrices[:3], self.biases[:3], strict=True))
        scores = ops.softmax(q @ ops.transpose(k, (0, 1, 3, 2)) / (SIZE // self.heads) ** 0.5)
        joined = ops.reshape(ops.transpose(scores @ v, (0, 2, 1, 3)), (-1, x.shape[1], SIZE))
        return joined @ self.matrices[3] + self.biases[3]


class OtherHeads(Matrices):
    """The same with other heads."""

    heads = 4


class Kernels(layers.Layer):
    """An attention with a kernel for each of query, key and value, which has an axis of heads, and no biases."""

    def build(self, shape: Any) -> None:
        names = ("query", "key", "value")
        self.kernels = [self.add_weight(shape=(SIZE, HEADS, EACH), name=name) for name in names]
        self.out = self.add_weight(shape=(HEADS, EACH, SIZE), name="out")

    def call(self, x: Any) -> Any:
        q, k, v = (ops.einsum("btd,dhk->bhtk", x, kernel) for kernel in self.kernels)
        scores = ops.softmax(ops.einsum("bhtk,bhsk->bhts", q, k) / EACH**0.5)
        return ops.einsum("bhtk,hkd->btd", ops.einsum("bhts,bhsk->bhtk", scores, v), self.out)


class OnePacked(layers.Layer):
    """An attention with query, key and value in one matrix, and no biases."""

    def build(self, shape: Any) -> None:
        self.qkv = self.add_weight(shape=(SIZE, 3 * SIZE), name="qkv")
        self.out = self.add_weight(shape=(SIZE, SIZE), name="out")

    def call(self, x: Any) -> Any:
        parts = ops.reshape(x @ self.qkv, (-1, x.shape[1], 3, HEADS, EACH))
        q, k, v = (ops.transpose(parts[:, :, index], (0, 2, 1, 3)) for index in range(3))
        scores = ops.softmax(q @ ops.transpose(k, (0, 1, 3, 2)) / EACH**0.5)
        return ops.reshape(ops.transpose(scores @ v, (0, 2, 1, 3)), (-1, x.shape[1], SIZE)) @ self.out


def keras_net(attention: type[layers.Layer]) -> keras.Model:
    x = given = keras.Input((5, SIZE))
    for number in range(2):
        x = x + attention(name=f"attention_{number}")(layers.LayerNormalization(epsilon=1e-5)(x))
    return keras.Model(given, layers.Dense(3, name="head")(x))


def keras_block(attention: type[layers.Layer]) -> keras.Model:
    given = keras.Input((5, SIZE))
    x = given + attention(name="attention")(layers.LayerNormalization(epsilon=1e-5)(given))
    y = layers.Dense(SIZE, name="down")(layers.Dense(3 * SIZE, activation="relu", name="up")(x))
    return keras.Model(given, x + ops.tanh(y))


def require_certificate(module: nn.Module, model: keras.Model) -> None:
    x = torch.randn(2, 5, SIZE)
    plan = k3c.align(randomize(module), model, inputs=x).check()
    assert not plan.unconfirmed, plan
    k3c.transfer(module, model, plan)
    report = k3c.validate(module, model, inputs=x, alignment=plan)
    assert report.ok, str(report)


@pytest.mark.parametrize("attention", [Separate, Packed, OfTorch])
@pytest.mark.parametrize("own", [Matrices, Kernels, OnePacked])
def test_an_attention_with_weights_of_its_own_is_paired_with_each_form_in_torch(
    attention: Callable[..., nn.Module], own: type[layers.Layer]
) -> None:
    require_certificate(Net(attention, bias=own is Matrices), keras_net(own))


@pytest.mark.parametrize("own", [Matrices, Kernels, OnePacked])
def test_the_layers_of_the_attention_need_no_module(own: type[layers.Layer]) -> None:
    require_certificate(Block(bias=own is Matrices), keras_block(own))


@pytest.mark.parametrize("attention", [Separate, Packed, OfTorch])
def test_another_number_of_heads_is_not_confirmed(attention: Callable[..., nn.Module]) -> None:
    plan = k3c.align(Net(attention, bias=True), keras_net(OtherHeads), inputs=torch.randn(2, 5, SIZE))
    assert plan.difference
    assert plan.unconfirmed


class Gates(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gates, self.out = nn.Linear(SIZE, 4 * SIZE), nn.Linear(SIZE, SIZE)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second, third, fourth = self.gates(x).chunk(4, -1)
        made: torch.Tensor = self.out(torch.sigmoid(first) * torch.tanh(second) - torch.relu(third) * fourth)
        return made


class GateMatrices(layers.Layer):
    def build(self, shape: Any) -> None:
        self.matrices = [self.add_weight(shape=(SIZE, SIZE), name=f"gate_{number}") for number in range(4)]
        self.biases = [self.add_weight(shape=(SIZE,), name=f"bias_{number}") for number in range(4)]

    def call(self, x: Any) -> Any:
        parts = [x @ matrix + bias for matrix, bias in zip(self.matrices, self.biases, strict=True)]
        return ops.sigmoid(parts[0]) * ops.tanh(parts[1]) - ops.relu(parts[2]) * parts[3]


def test_gates_that_torch_packs_are_divided() -> None:
    given = keras.Input((5, SIZE))
    model = keras.Model(given, layers.Dense(SIZE, name="out")(GateMatrices(name="gates")(given)))
    require_certificate(Gates(), model)


class Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.value, self.gate = nn.Linear(SIZE, SIZE), nn.Linear(SIZE, SIZE)
        self.temperature = nn.Parameter(torch.tensor(1.3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.value(x) * torch.sigmoid(self.gate(x) * self.temperature)
        return made


class MixerLayer(layers.Layer):
    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(name="kernel", shape=(SIZE, 2 * SIZE))
        self.bias = self.add_weight(name="bias", shape=(2 * SIZE,))
        self.temperature = self.add_weight(name="temperature", shape=(1,), initializer="ones")

    def call(self, x: Any) -> Any:
        value, gate = ops.split(x @ self.kernel + self.bias, 2, axis=-1)
        return value * ops.sigmoid(gate * self.temperature)


def test_a_rule_with_a_misspelled_name_beside_a_scalar_raises_no_error() -> None:
    take_back = keep_rules()
    mapping = k3c.WeightMapping(torch=("temp",), keras=("temperature",), transform=k3c.transforms.Axes("-> 1"))
    torch_class, keras_class = (f"{cls.__module__}.{cls.__qualname__}" for cls in (Mixer, MixerLayer))
    rule = k3c.Rule(
        torch=torch_class,
        keras=keras_class,
        fields={},
        weights=lambda _: (mapping,),
        to_keras=lambda _: (k3c.LayerSpec(kind=keras_class, config={}),),
        to_torch=lambda _: (k3c.LayerSpec(kind=torch_class, config={}),),
        examples=(k3c.Example(config={}, inputs=((2, SIZE),)),),
    )
    module = nn.Sequential(nn.Linear(SIZE, SIZE), Mixer(), nn.Linear(SIZE, 3))
    given = keras.Input((5, SIZE))
    x = MixerLayer(name="mixer")(layers.Dense(SIZE, name="first")(given))
    try:
        k3c.register(rule)
        plan = k3c.align(module, keras.Model(given, layers.Dense(3, name="last")(x)), inputs=torch.randn(2, 5, SIZE))
    finally:
        take_back()
    assert any("was not used" in note for note in plan.notes)
