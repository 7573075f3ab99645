"""Containers and their inner layers, such as an LSTM and its cell, in live models and in files."""

from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from tests.support.models import randomize

TOKENS = np.random.default_rng(0).integers(0, 11, (2, 7))


class Net(nn.Module):
    """An embedding, a bidirectional LSTM, a GRU, a norm, an attention, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(6, 3)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.norm = nn.LayerNorm(6, eps=1e-3)
        self.second = nn.GRU(8, 6, batch_first=True)
        self.first = nn.LSTM(5, 4, batch_first=True, bidirectional=True)
        self.words = nn.Embedding(11, 5)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x, _ = self.first(self.words(tokens))
        x, _ = self.second(x)
        x = self.norm(x)
        x, _ = self.attention(x, x, x)
        return self.classifier(x[:, -1])


def twin() -> keras.Model:
    inputs = keras.Input((7,), dtype="int32")
    x = keras.layers.Embedding(11, 5, name="words")(inputs)
    x = keras.layers.Bidirectional(keras.layers.LSTM(4, return_sequences=True), name="first")(x)
    x = keras.layers.GRU(6, return_sequences=True, name="second")(x)
    x = keras.layers.LayerNormalization(epsilon=1e-3, name="norm")(x)
    x = keras.layers.MultiHeadAttention(2, 3, name="attention")(x, x)
    return keras.Model(inputs, keras.layers.Dense(3, name="classifier")(x[:, -1]))


def certified(module: nn.Module, model: keras.Model) -> str:
    return k3c.validate(module, model, inputs=TOKENS, keras_inputs=TOKENS.astype("int32")).tally


@pytest.mark.slow
def test_containers_are_paired_with_containers_and_certified() -> None:
    module, model = randomize(Net()), twin()
    plan = k3c.align(module, model, inputs=TOKENS, keras_inputs=TOKENS.astype("int32")).check()
    assert {pair.torch: pair.keras for pair in plan.pairs} == {
        name: name for name in ("words", "first", "second", "norm", "attention", "classifier")
    }
    k3c.transfer(module, model, plan)
    assert certified(module, model) == "7 passed"


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_containers_are_paired_with_containers_in_files(tmp_path: Path, suffix: str) -> None:
    model, path = twin(), tmp_path / f"model{suffix}"
    model.save(path)
    module = randomize(Net())
    k3c.transfer(path, module, k3c.align(module, path, inputs=TOKENS, keras_inputs=TOKENS.astype("int32")).check())
    assert certified(module, model) == "7 passed"


def test_layers_of_a_keras_weight_file_are_combined_by_their_groups(tmp_path: Path) -> None:
    inputs = keras.Input((7, 6))
    x = keras.layers.GRU(6, return_sequences=True, name="second")(inputs)
    model = keras.Model(inputs, keras.layers.MultiHeadAttention(2, 3, name="attention")(x, x))
    model.save_weights(tmp_path / "model.weights.h5")
    kinds = {layer.path: layer.kind for layer in k3c.view(tmp_path / "model.weights.h5").layers}
    assert kinds["second"] == "keras.layers.GRU"
    assert kinds["attention"] == "keras.layers.MultiHeadAttention"


class Attention(nn.Module):
    """A handwritten attention whose heads share keys and values."""

    def __init__(self, packed: bool, shared: int) -> None:
        super().__init__()
        self.shared = shared
        wide = 3 * 4 * shared // 2
        self.qkv = nn.Linear(6, 12 + wide) if packed else None
        self.projections = nn.ModuleList() if packed else nn.ModuleList([nn.Linear(6, 12), *self.keys(wide // 2)])
        self.out = nn.Linear(12, 6)

    @staticmethod
    def keys(width: int) -> list[nn.Linear]:
        return [nn.Linear(6, width), nn.Linear(6, width)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [layer(x) for layer in self.projections]
        if self.qkv is not None:
            parts = list(self.qkv(x).split((12, 3 * self.shared, 3 * self.shared), -1))
        query, key, value = (part.unflatten(-1, (-1, 3)).transpose(1, 2) for part in parts)
        key, value = (part.repeat_interleave(4 // self.shared, 1) for part in (key, value))
        return self.out(nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


FOUR = "projections.0 + projections.1 + projections.2 + out"
STEPS = np.random.default_rng(1).standard_normal((2, 5, 6)).astype("float32")


@pytest.mark.parametrize(("packed", "paths"), [(False, FOUR), (True, "qkv + out")], ids=["four", "packed"])
@pytest.mark.parametrize("shared", [4, 2])
def test_projections_are_paired_by_hand_with_an_attention_and_certified(packed: bool, paths: str, shared: int) -> None:
    module = randomize(Attention(packed, shared))
    inputs = keras.Input((5, 6))
    layer = keras.layers.MultiHeadAttention(4, 3, output_shape=6, name="attention")
    if shared < 4:
        layer = keras.layers.GroupQueryAttention(3, 4, shared, name="attention")
    model = keras.Model(inputs, layer(inputs, inputs))
    plan = k3c.align(module, model, inputs=STEPS).pair(paths, "attention").check()
    assert [(pair.torch, pair.keras) for pair in plan.pairs] == [(paths, "attention")]
    k3c.transfer(module, model, plan)
    assert k3c.validate(module, model, inputs=STEPS, alignment=plan).tally == "7 passed"
    again = Attention(packed, shared)
    k3c.transfer(model, again, plan)
    assert all(
        torch.equal(*both) for both in zip(module.state_dict().values(), again.state_dict().values(), strict=True)
    )


class Named(nn.Module):
    """An `Attention` with the usual names of the projections."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(6, 6) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [layer(x).unflatten(-1, (2, 3)).transpose(1, 2) for layer in (self.q_proj, self.k_proj, self.v_proj)]
        return self.o_proj(nn.functional.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2))


def test_projections_are_paired_with_the_sublayers_of_an_attention_without_hints() -> None:
    module, inputs = randomize(Named()), keras.Input((5, 6))
    model = keras.Model(inputs, keras.layers.MultiHeadAttention(2, 3, name="attention")(inputs, inputs))
    plan = k3c.align(module, model, inputs=STEPS).check()
    assert {pair.torch: pair.keras for pair in plan.pairs} == {
        "q_proj": "attention/query",
        "k_proj": "attention/key",
        "v_proj": "attention/value",
        "o_proj": "attention/attention_output",
    }
    k3c.transfer(module, model, plan)
    assert k3c.validate(module, model, inputs=STEPS, alignment=plan).tally == "7 passed"
