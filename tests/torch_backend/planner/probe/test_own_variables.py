"""A Keras layer with variables of its own is filled with single torch parameters, not with a layer of the same size."""

from typing import Any

import keras
import torch
from keras import layers, ops
from torch import nn

import keras3conv as k3c
from tests.support.models import randomize


class Scaled(nn.Module):
    """A scale and a bias of the module itself, and a normalisation with tensors of the same shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.factor, self.shift = nn.Parameter(torch.ones(8)), nn.Parameter(torch.zeros(8))
        self.inner, self.outer, self.norm = nn.Linear(8, 8), nn.Linear(8, 8), nn.LayerNorm(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x + self.outer(torch.relu(self.inner(x * self.factor + self.shift))))


class ScaleAndShift(layers.Layer):
    def build(self, shape: Any) -> None:
        self.factor = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")
        self.shift = self.add_weight(shape=(shape[-1],), initializer="zeros", name="bias")

    def call(self, x: Any) -> Any:
        return x * self.factor + self.shift


def test_the_variables_of_a_layer_without_a_rule_are_found_one_by_one() -> None:
    given = keras.Input((5, 8))
    x = layers.Dense(8, activation="relu", name="inner")(ScaleAndShift(name="adapted")(given))
    x = layers.LayerNormalization(epsilon=1e-5, name="norm")(given + layers.Dense(8, name="outer")(x))
    plan = k3c.align(randomize(Scaled()), keras.Model(given, x), inputs=torch.randn(2, 5, 8)).check()
    pairs = {(pair.torch, pair.keras) for pair in plan.pairs}
    assert {("factor", "adapted/scale"), ("shift", "adapted/bias"), ("norm", "norm"), ("inner", "inner")} <= pairs


class Mixing(nn.Module):
    """Mixes the channels by a matrix in parts, of which three are buffers, as in an invertible convolution."""

    w_p: torch.Tensor
    mask: torch.Tensor
    sign: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("w_p", torch.eye(4)[[2, 0, 3, 1]])
        self.register_buffer("mask", torch.tril(torch.ones(4, 4), -1))
        self.register_buffer("sign", torch.tensor([1.0, -1.0, -1.0, 1.0]))
        self.lower, self.size = nn.Parameter(torch.rand(4, 4)), nn.Parameter(torch.rand(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = x @ (self.w_p @ (self.lower * self.mask + torch.diag(self.sign * self.size.exp()))).T
        return made


class MixingLayer(layers.Layer):
    def build(self, shape: Any) -> None:
        self.triangle = self.add_weight(shape=(4, 4), name="triangle")
        self.order = self.add_weight(shape=(4, 4), trainable=False, initializer="identity", name="order")
        self.factors = self.add_weight(shape=(4,), name="factors")
        self.signs = self.add_weight(shape=(4,), trainable=False, initializer="ones", name="signs")

    def call(self, x: Any) -> Any:
        lower = ops.tril(ops.convert_to_tensor(self.triangle), -1)
        return x @ ops.transpose(
            ops.convert_to_tensor(self.order) @ (lower + ops.diag(self.signs * ops.exp(self.factors)))
        )


def test_variables_that_are_buffers_in_torch_get_their_values() -> None:
    module = nn.Sequential(Mixing(), nn.Linear(4, 4), Mixing(), nn.Linear(4, 3))
    given = keras.Input((4,))
    x = layers.Dense(4)(MixingLayer(name="first")(given))
    model = keras.Model(given, layers.Dense(3)(MixingLayer(name="second")(x)))
    inputs = torch.randn(3, 4)
    plan = k3c.align(module.eval(), model, inputs=inputs).check()
    assert not any(pair.unconfirmed for pair in plan.pairs)
    pairs = {(pair.torch, pair.keras) for pair in plan.pairs}
    assert {("0.w_p", "first/order"), ("2.w_p", "second/order"), ("2.sign", "second/signs")} <= pairs
    k3c.transfer(module, model, plan)
    k3c.validate(module, model, inputs=inputs, plan=plan).raise_if_failed()


class GraphAttention(nn.Module):
    """A layer, and parameters of the module itself, as public code of graph networks has them."""

    def __init__(self, inputs: int, outputs: int, heads: int) -> None:
        super().__init__()
        self.heads, self.outputs = heads, outputs
        self.linear = nn.Linear(inputs, heads * outputs, bias=False)
        self.source, self.target = nn.Parameter(torch.ones(heads, outputs)), nn.Parameter(torch.ones(heads, outputs))
        self.bias = nn.Parameter(torch.zeros(heads * outputs))

    def forward(self, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        values = self.linear(x).view(*x.shape[:2], self.heads, self.outputs)
        scores = (values * self.source).sum(-1)[:, :, None] + (values * self.target).sum(-1)[:, None]
        scores = nn.functional.leaky_relu(scores, 0.2).masked_fill(edges[..., None] == 0, -1e9)
        return torch.einsum("bijh,bjhd->bihd", scores.softmax(2), values).flatten(2) + self.bias


class Graph(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = GraphAttention(6, 4, 3), GraphAttention(12, 4, 3), nn.Linear(12, 3)

    def forward(self, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        x = nn.functional.elu(self.second(nn.functional.elu(self.first(x, edges)), edges))
        return self.head(x.mean(1))


class KerasGraphAttention(layers.Layer):
    """The same as `GraphAttention`, with four variables of its own; the bias is added at the end."""

    def __init__(self, outputs: int, heads: int, *, bias_first: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.outputs, self.heads, self.bias_first = outputs, heads, bias_first

    def build(self, shape: Any) -> None:
        heads, outputs = self.heads, self.outputs
        self.kernel = self.add_weight(shape=(shape[-1], heads, outputs), name="kernel")
        self.target = self.add_weight(shape=(heads, outputs), name="attention_target")
        self.source = self.add_weight(shape=(heads, outputs), name="attention_source")
        self.bias = self.add_weight(shape=(heads * outputs,), initializer="zeros", name="bias")

    def call(self, x: Any, edges: Any) -> Any:
        ops = keras.ops
        values = ops.einsum("bni,iho->bnho", x, self.kernel)
        if self.bias_first:
            values = values + ops.reshape(self.bias, (self.heads, self.outputs))
        scores = ops.expand_dims(ops.sum(values * self.source, -1), 2)
        scores = ops.leaky_relu(scores + ops.expand_dims(ops.sum(values * self.target, -1), 1), 0.2)
        scores = ops.softmax(ops.where(ops.expand_dims(edges, -1) > 0, scores, -1e9), axis=2)
        found = ops.reshape(ops.einsum("bijh,bjhd->bihd", scores, values), (-1, x.shape[1], self.heads * self.outputs))
        return found if self.bias_first else found + self.bias


def keras_graph(**options: Any) -> keras.Model:
    given, edges = keras.Input((7, 6)), keras.Input((7, 7))
    x = keras.ops.elu(KerasGraphAttention(4, 3, name="first_attention", **options)(given, edges))
    x = keras.ops.elu(KerasGraphAttention(4, 3, name="second_attention", **options)(x, edges))
    return keras.Model([given, edges], layers.Dense(3, name="head")(keras.ops.mean(x, 1)))


def graph() -> tuple[torch.Tensor, torch.Tensor]:
    edges = (torch.rand(2, 7, 7) > 0.5) | torch.eye(7, dtype=torch.bool)
    return torch.randn(2, 7, 6), edges.float()


def test_the_variables_of_one_layer_are_found_in_a_module_with_a_layer_and_own_parameters() -> None:
    module, model, inputs = randomize(Graph()), keras_graph(), graph()
    plan = k3c.align(module, model, inputs=inputs).check()
    assert {pair.decided_by for pair in plan.pairs} == {"probe"}
    pairs = {(pair.torch, pair.keras) for pair in plan.pairs}
    assert ("second.linear.weight", "second_attention/kernel") in pairs
    assert ("second.target", "second_attention/attention_target") in pairs
    assert ("first.bias", "first_attention/bias") in pairs
    k3c.transfer(module, model, plan)
    k3c.validate(module, model, plan=plan, inputs=inputs).raise_if_failed()


def test_pairs_of_a_module_that_computes_something_else_are_not_confirmed() -> None:
    module, model, inputs = randomize(Graph()), keras_graph(bias_first=True), graph()
    plan = k3c.align(module, model, inputs=inputs)
    assert not [pair for pair in plan.pairs if pair.torch.startswith("first") and pair.decided_by == "probe"]
    assert ("first.bias", "first_attention/bias") in {(pair.torch, pair.keras) for pair in plan.pairs}


class Block(nn.Module):
    """A layer whose output is multiplied by a parameter of the module, between other layers."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.gamma = nn.Parameter(torch.ones(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(torch.relu(self.up(self.norm(x)) * self.gamma))


class ScaledDense(layers.Layer):
    """The layer and the parameter of a `Block`, in one: no torch module returns its output."""

    def build(self, shape: Any) -> None:
        self.gamma = self.add_weight(shape=(8,), name="gamma")
        self.kernel = self.add_weight(shape=(8, 8), name="kernel")
        self.bias = self.add_weight(shape=(8,), name="bias")

    def call(self, x: Any) -> Any:
        return (keras.ops.matmul(x, self.kernel) + self.bias) * self.gamma


def test_variables_from_a_layer_and_a_parameter_beside_it_are_confirmed_by_the_next_layer() -> None:
    given = x = keras.Input((8,))
    for block in range(2):
        y = layers.LayerNormalization(epsilon=1e-5, name=f"norm{block}")(x)
        y = keras.ops.relu(ScaledDense(name=f"scaled{block}")(y))
        x = x + layers.Dense(8, name=f"down{block}")(y)
    module, model, inputs = randomize(nn.Sequential(Block(), Block())), keras.Model(given, x), torch.randn(3, 8)
    plan = k3c.align(module, model, inputs=inputs).check()
    assert {pair.decided_by for pair in plan.pairs} == {"probe"}
    assert ("1.gamma", "scaled1/gamma") in {(pair.torch, pair.keras) for pair in plan.pairs}
    k3c.transfer(module, model, plan)
    k3c.validate(module, model, plan=plan, inputs=inputs).raise_if_failed()
