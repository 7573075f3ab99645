"""Packed projections of files and of live models: MultiheadAttention, a missing bias, pairs by hand."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers, ops
from torch import nn

import keras3conv as k3c
from tests.support.models import randomize

WIDTH, HEADS, STEPS = 8, 2, 5
SIZE = WIDTH // HEADS
X = np.random.default_rng(0).standard_normal((2, STEPS, WIDTH)).astype(np.float32)


def attended(query: Any, key: Any, value: Any) -> Any:
    query, key, value = (
        ops.transpose(ops.reshape(part, (-1, STEPS, HEADS, SIZE)), (0, 2, 1, 3)) for part in (query, key, value)
    )
    weights = ops.softmax(query @ ops.transpose(key, (0, 1, 3, 2)) / SIZE**0.5, axis=-1)
    return ops.reshape(ops.transpose(weights @ value, (0, 2, 1, 3)), (-1, STEPS, WIDTH))


def separate(*, biases: tuple[bool, bool, bool] = (True, True, True)) -> keras.Model:
    x = keras.Input((STEPS, WIDTH))
    names = zip(("query", "key", "value"), biases, strict=True)
    parts = [layers.Dense(WIDTH, name=name, use_bias=bias)(x) for name, bias in names]
    return keras.Model(x, layers.Dense(WIDTH, name="out_proj")(attended(*parts)))


def fused(*, bias: bool = True) -> keras.Model:
    x = keras.Input((STEPS, WIDTH))
    parts = ops.split(layers.Dense(3 * WIDTH, name="qkv", use_bias=bias)(x), 3, axis=-1)
    return keras.Model(x, layers.Dense(WIDTH, name="out_proj")(attended(*parts)))


def library() -> keras.Model:
    x = keras.Input((STEPS, WIDTH))
    return keras.Model(x, layers.MultiHeadAttention(HEADS, SIZE, name="attn")(x, x))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.attn(x, x, x, need_weights=False)[0]
        return made


class Projections(nn.Module):
    """Attention with three projections; a key often has no bias, because its bias does not change the output."""

    def __init__(self, *, biases: tuple[bool, bool, bool] = (True, True, True)) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(WIDTH, WIDTH, bias=bias) for bias in biases)
        self.out_proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = (self.q_proj(x), self.k_proj(x), self.v_proj(x))
        query, key, value = (part.unflatten(-1, (HEADS, SIZE)).transpose(1, 2) for part in parts)
        made = nn.functional.scaled_dot_product_attention(query, key, value)
        result: torch.Tensor = self.out_proj(made.transpose(1, 2).flatten(2))
        return result


class Fused(nn.Module):
    def __init__(self, *, bias: bool = True) -> None:
        super().__init__()
        self.qkv, self.out_proj = nn.Linear(WIDTH, 3 * WIDTH, bias=bias), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.qkv(x).unflatten(-1, (3, HEADS, SIZE)).permute(2, 0, 3, 1, 4)
        made = nn.functional.scaled_dot_product_attention(query, key, value)
        result: torch.Tensor = self.out_proj(made.transpose(1, 2).flatten(2))
        return result


def off(module: nn.Module, model: keras.Model) -> float:
    with torch.no_grad():
        wanted = module(torch.tensor(X)).numpy()
    return float(np.abs(keras.ops.convert_to_numpy(model(X)) - wanted).max())


def moved(source: object, module: nn.Module, model: keras.Model) -> float:
    k3c.transfer(source, model, k3c.align(source, model).check())
    return off(module, model)


PAIRS = [
    (Attention(), separate()),
    (Attention(), fused()),
    (Attention(), library()),
    (Projections(), fused()),
    (Projections(biases=(True, False, True)), fused()),
    (Fused(), separate()),
    (Fused(bias=False), separate()),
]


@pytest.mark.parametrize(("module", "model"), PAIRS)
@pytest.mark.parametrize("by_file", [True, False])
def test_packed_projections_are_paired_in_files_and_in_live_models(
    tmp_path: Path, module: nn.Module, model: keras.Model, by_file: bool
) -> None:
    torch.save(randomize(module).state_dict(), tmp_path / "x.pt")
    assert moved(tmp_path / "x.pt" if by_file else module, module, model) < 1e-6


@pytest.mark.parametrize("by_file", [True, False])
def test_a_bias_of_zeros_in_a_packed_layer_may_be_missing_in_one_part(tmp_path: Path, by_file: bool) -> None:
    module, model = randomize(Fused()), separate(biases=(True, False, True))
    with torch.no_grad():
        module.qkv.bias[WIDTH : 2 * WIDTH] = 0
    torch.save(module.state_dict(), tmp_path / "x.pt")
    assert moved(tmp_path / "x.pt" if by_file else module, module, model) < 1e-6


@pytest.mark.parametrize(
    ("module", "model", "torch_names", "keras_names"),
    [
        (Projections(), fused(), "q_proj + k_proj + v_proj", "qkv"),
        (Projections(), fused(), ["q_proj", "k_proj", "v_proj"], "qkv"),
        (Fused(), separate(), "qkv", "query + key + value"),
        (Attention(), separate(), "attn", ["query", "key", "value"]),
    ],
)
def test_packed_layers_can_be_paired_by_hand_and_by_a_hint(
    tmp_path: Path, module: nn.Module, model: keras.Model, torch_names: Any, keras_names: Any
) -> None:
    torch.save(randomize(module).state_dict(), tmp_path / "x.pt")
    plan = k3c.align(tmp_path / "x.pt", model).pair(torch_names, keras_names).check()
    k3c.transfer(tmp_path / "x.pt", model, plan)
    assert off(module, model) < 1e-6
    if isinstance(torch_names, str) and isinstance(keras_names, str):
        plan = k3c.align(tmp_path / "x.pt", model, hints={torch_names: keras_names}).check()
        k3c.transfer(model, module, plan)
