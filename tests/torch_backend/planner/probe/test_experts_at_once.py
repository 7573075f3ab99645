"""Experts that torch computes at once, from tensors of all experts, are paired with a Keras layer for each expert."""

from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers, ops
from torch import nn
from torch.nn.functional import silu

import keras3conv as k3c
from tests.support.models import randomize

EXPERTS, WIDTH, HIDDEN = 3, 6, 10


class AtOnce(nn.Module):
    """The gate and up projections of all experts in one tensor, and their outputs by `einsum`."""

    def __init__(self, *, is_output_first: bool) -> None:
        super().__init__()
        self.pattern = ("btd,ehd->bteh", "bteh,edh->bted") if is_output_first else ("btd,edh->bteh", "bteh,ehd->bted")
        shapes = [(WIDTH, 2 * HIDDEN), (HIDDEN, WIDTH)]
        both, down = ((EXPERTS, *(shape[::-1] if is_output_first else shape)) for shape in shapes)
        self.gate_up_proj, self.down_proj = nn.Parameter(torch.zeros(both)), nn.Parameter(torch.zeros(down))
        self.router, self.head = nn.Linear(WIDTH, EXPERTS, bias=False), nn.Linear(WIDTH, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = self.router(x).softmax(-1)
        gate, up = torch.einsum(self.pattern[0], x, self.gate_up_proj).chunk(2, -1)
        made = torch.einsum(self.pattern[1], silu(gate) * up, self.down_proj)
        result: torch.Tensor = self.head(x + (made * weights[..., None]).sum(2))
        return result


class Experts(layers.Layer):
    """A layer for each projection of each expert."""

    def __init__(self) -> None:
        super().__init__(name="experts")
        names = ("gate", "up", "down")
        self.router = layers.Dense(EXPERTS, use_bias=False, name="router")
        self.each = [
            [layers.Dense(WIDTH if name == "down" else HIDDEN, use_bias=False, name=f"{name}_{n}") for name in names]
            for n in range(EXPERTS)
        ]

    def call(self, x: Any) -> Any:
        made = ops.stack([down(ops.silu(gate(x)) * up(x)) for gate, up, down in self.each], 2)
        return x + ops.sum(made * ops.softmax(self.router(x))[..., None], 2)


@pytest.mark.parametrize("is_output_first", [False, True])
def test_tensors_of_all_experts_are_paired_with_layers_of_one_expert(is_output_first: bool) -> None:
    given = keras.Input((5, WIDTH))
    model = keras.Model(given, layers.Dense(3, name="head")(Experts()(given)))
    module, x = randomize(AtOnce(is_output_first=is_output_first)).eval(), torch.randn(2, 5, WIDTH)
    plan = k3c.align(module, model, inputs=x).check()
    assert not plan.unconfirmed
    k3c.transfer(module, model, plan)
    with torch.no_grad():
        wanted = module(x).numpy()
    assert np.abs(keras.ops.convert_to_numpy(model(x.numpy())) - wanted).max() < 1e-5
