"""Experts in every storage layout: one layer each, all in one tensor, or gate and up projection in one tensor."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import product
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers, ops
from torch import nn

import keras3conv as k3c
from tests.support.models import randomize

EXPERTS, WIDTH, HIDDEN, BLOCKS = 3, 6, 5, 2


class Routed(nn.Module):
    """A mixture-of-experts block: the sum of its experts, weighted by the router."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH, eps=1e-3)
        self.router = nn.Linear(WIDTH, EXPERTS, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        weights = self.router(y).softmax(-1)
        return x + torch.stack([weights[..., n, None] * self.expert(y, n) for n in range(EXPERTS)]).sum(0)

    def expert(self, x: torch.Tensor, number: int) -> torch.Tensor:
        raise NotImplementedError


class Packed(Routed):
    """The gate and up projections of all experts in one tensor, the down projections in another."""

    def __init__(self) -> None:
        super().__init__()
        self.both = nn.Parameter(torch.zeros(EXPERTS, 2 * HIDDEN, WIDTH))
        self.down = nn.Parameter(torch.zeros(EXPERTS, WIDTH, HIDDEN))

    def expert(self, x: torch.Tensor, number: int) -> torch.Tensor:
        gate, up = nn.functional.linear(x, self.both[number]).chunk(2, -1)
        return nn.functional.linear(nn.functional.silu(gate) * up, self.down[number])


class Alternating(Packed):
    """Experts whose gate and up rows alternate."""

    def expert(self, x: torch.Tensor, number: int) -> torch.Tensor:
        both = nn.functional.linear(x, self.both[number])
        return nn.functional.linear(nn.functional.silu(both[..., ::2]) * both[..., 1::2], self.down[number])


class Exchanged(Packed):
    """Experts whose up projection precedes the gate."""

    def expert(self, x: torch.Tensor, number: int) -> torch.Tensor:
        up, gate = nn.functional.linear(x, self.both[number]).chunk(2, -1)
        return nn.functional.linear(nn.functional.silu(gate) * up, self.down[number])


class Stacked(Routed):
    """One tensor for each of the three projections, with all experts."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up = (nn.Parameter(torch.zeros(EXPERTS, HIDDEN, WIDTH)) for _ in range(2))
        self.down = nn.Parameter(torch.zeros(EXPERTS, WIDTH, HIDDEN))

    def expert(self, x: torch.Tensor, number: int) -> torch.Tensor:
        hidden = nn.functional.silu(x @ self.gate[number].T) * (x @ self.up[number].T)
        return hidden @ self.down[number].T


class Listed(Routed):
    """Three separate layers for each expert."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(
            nn.ModuleDict(
                {
                    "w1": nn.Linear(WIDTH, HIDDEN, bias=False),
                    "w2": nn.Linear(HIDDEN, WIDTH, bias=False),
                    "w3": nn.Linear(WIDTH, HIDDEN, bias=False),
                }
            )
            for _ in range(EXPERTS)
        )

    def expert(self, x: torch.Tensor, number: int) -> torch.Tensor:
        layer = self.experts[number]
        return layer["w2"](nn.functional.silu(layer["w1"](x)) * layer["w3"](x))  # type: ignore[index]


class Bank(layers.Layer):
    """A Keras layer of all experts; the block adds up its outputs."""

    def build(self, _: object) -> None:
        self.gate = self.add_weight(shape=(EXPERTS, WIDTH, HIDDEN), name="gate")
        self.rise = self.add_weight(shape=(EXPERTS, WIDTH, HIDDEN), name="rise")
        self.fall = self.add_weight(shape=(EXPERTS, HIDDEN, WIDTH), name="fall")

    def call(self, x: Any) -> Any:
        hidden = ops.silu(ops.einsum("bth,ehm->ebtm", x, self.gate)) * ops.einsum("bth,ehm->ebtm", x, self.rise)
        return ops.einsum("ebtm,emh->ebth", hidden, self.fall)


class Expert(layers.Layer):
    """One expert."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.rise = (layers.Dense(HIDDEN, use_bias=False, name=name) for name in ("gate", "up"))
        self.fall = layers.Dense(WIDTH, use_bias=False, name="down")

    def call(self, x: Any) -> Any:
        return self.fall(ops.silu(self.gate(x)) * self.rise(x))


class Each(layers.Layer):
    """The Keras counterpart with one layer per expert."""

    make: Callable[[], layers.Layer] = Expert

    def __init__(self) -> None:
        super().__init__()
        self.experts = [type(self).make() for _ in range(EXPERTS)]

    def call(self, x: Any) -> Any:
        return ops.stack([expert(x) for expert in self.experts])


class PackedBank(layers.Layer):
    """A Keras layer of all experts, with the gate and up projections in one variable."""

    def build(self, _: object) -> None:
        self.both = self.add_weight(shape=(EXPERTS, WIDTH, 2 * HIDDEN), name="gate_up")
        self.fall = self.add_weight(shape=(EXPERTS, HIDDEN, WIDTH), name="fall")

    def call(self, x: Any) -> Any:
        gate, rise = ops.split(ops.einsum("bth,ehm->ebtm", x, self.both), 2, axis=-1)
        return ops.einsum("ebtm,emh->ebth", ops.silu(gate) * rise, self.fall)


class PackedExpert(layers.Layer):
    """One expert with one kernel for the gate and up projections."""

    def __init__(self) -> None:
        super().__init__()
        self.both = layers.Dense(2 * HIDDEN, use_bias=False, name="gate_up")
        self.fall = layers.Dense(WIDTH, use_bias=False, name="down")

    def call(self, x: Any) -> Any:
        gate, rise = ops.split(self.both(x), 2, axis=-1)
        return self.fall(ops.silu(gate) * rise)


class EachPacked(Each):
    """The Keras counterpart with one layer per expert, each with one kernel for gate and up."""

    make = PackedExpert


def keras_model(experts: Callable[[], layers.Layer], blocks: int = BLOCKS) -> keras.Model:
    x = inputs = keras.Input((4, WIDTH))
    for _ in range(blocks):
        y = layers.LayerNormalization(epsilon=1e-3)(x)
        weights = layers.Permute((2, 1))(layers.Dense(EXPERTS, use_bias=False, activation="softmax")(y))
        x = layers.Add()([x, ops.einsum("ebth,bet->bth", experts()(y), weights)])
    return keras.Model(inputs, x)


def torch_model(block: type[Routed], blocks: int = BLOCKS) -> nn.Module:
    return randomize(nn.Sequential(*(block() for _ in range(blocks))))


IN_ONE_TENSOR = (Packed, Stacked, Alternating, Exchanged)
SEVERAL = (BLOCKS,)
"""Where one side has a layer for each expert, those of several blocks must be told apart."""
SLOW = [(Alternating, EachPacked), (Exchanged, Each)]
"""Two of the four combinations of a row order and a layer for each expert; the other two have the same parts."""


def stored(*cases: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Return the cases as parameters; `make test-full` runs also the slow ones."""
    return [
        pytest.param(*case, marks=[pytest.mark.full] if case[:2] in SLOW else []) for part in cases for case in part
    ]


@pytest.mark.parametrize(
    ("block", "experts", "blocks"),
    stored(
        product(IN_ONE_TENSOR, (Bank,), (1,)),
        product((Packed, Alternating, Exchanged), (PackedBank,), (1,)),
        product((Listed,), (Bank, PackedBank), SEVERAL),
        product((*IN_ONE_TENSOR, Listed), (Each,), SEVERAL),
        product((Packed, Listed, Alternating, Exchanged), (EachPacked,), SEVERAL),
    ),
)
def test_experts_are_paired_and_proven_however_each_side_stores_them(
    block: type[Routed], experts: Callable[[], layers.Layer], blocks: int
) -> None:
    module, model = torch_model(block, blocks), keras_model(experts, blocks)
    plan = k3c.align(module, model).check()
    assert {pair.decided_by for pair in plan.pairs} == {"probe"}
    k3c.transfer(module, model, plan)
    assert k3c.validate(module, model, alignment=plan, proofs=("structure", "roundtrip", "float64")).ok


def test_the_weights_of_experts_return_bit_for_bit() -> None:
    module, model = torch_model(Packed), keras_model(Bank)
    plan = k3c.align(module, model)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    k3c.transfer(module, model, plan)
    randomize(module, seed=9)
    k3c.transfer(model, module, plan)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_two_swapped_slices_fail_the_certificate() -> None:
    module, model = torch_model(Packed), keras_model(Bank)
    plan = k3c.align(module, model)
    place = next(place for place, pair in enumerate(plan.pairs) if pair.torch == "0.both")
    (mapping,) = plan.pairs[place].weights
    wrong = replace(plan.pairs[place], weights=(replace(mapping, keras=mapping.keras[::-1]),))
    plan = replace(plan, pairs=(*plan.pairs[:place], wrong, *plan.pairs[place + 1 :]))
    k3c.transfer(module, model, plan)
    assert not k3c.validate(module, model, alignment=plan, proofs=("float64",)).ok


class Gated(layers.Layer):
    """A layer of all experts without the up projection, so that only one of two slices is used."""

    def build(self, _: object) -> None:
        self.gate = self.add_weight(shape=(EXPERTS, WIDTH, HIDDEN), name="gate")
        self.fall = self.add_weight(shape=(EXPERTS, HIDDEN, WIDTH), name="fall")

    def call(self, x: Any) -> Any:
        return ops.einsum("ebtm,emh->ebth", ops.silu(ops.einsum("bth,ehm->ebtm", x, self.gate)), self.fall)


@pytest.mark.slow
def test_a_slice_is_not_paired_without_the_other_slices_of_its_tensor() -> None:
    plan = k3c.align(torch_model(Packed), keras_model(Gated))
    assert not any("both" in pair.torch for pair in plan.pairs)
    assert any("0" in (problem.torch or "") for problem in plan.problems())
    assert np.all([not np.isnan(value).any() for value in keras_model(Gated).get_weights()])
