"""A state dict and a `.weights.h5`, neither of which can run: nothing is lost, and nothing is said without a reason."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers
from torch import nn

import keras3conv as k3c
from keras3conv.errors import TransferError
from tests.support.models import randomize

WIDTH, HEADS = 8, 2
X = torch.randn(2, 5, WIDTH)


class Block(layers.Layer):
    """A layer of a user: its group in the file has the names of its attributes, and no classes."""

    def __init__(self, **parts: layers.Layer) -> None:
        super().__init__(name="block")
        for name, part in parts.items():
            setattr(self, name, part)


class Gated(Block):
    def call(self, x: Any) -> Any:
        return self.down(keras.ops.silu(self.gate(x)) * self.up(x))


class Attended(Block):
    def call(self, x: Any) -> Any:
        return self.norm(self.attention(x, x))


class Twice(Block):
    def call(self, x: Any) -> Any:
        return self.second(keras.ops.relu(self.first(x)))


class TorchGated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w1, self.w2, self.w3 = (nn.Linear(*sizes, bias=False) for sizes in ((8, 6), (6, 8), (8, 6)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.w2(nn.functional.silu(self.w1(x)) * self.w3(x))
        return made


class TorchAttended(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn, self.norm = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True), nn.LayerNorm(WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.norm(self.attn(x, x, x)[0])
        return made


class TorchTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.b(self.a(x).relu())
        return made


def built(block: Block) -> keras.Model:
    x = keras.Input((5, WIDTH))
    return keras.Model(x, block(x))


def gated() -> keras.Model:
    parts = {name: layers.Dense(size, use_bias=False) for name, size in (("gate", 6), ("up", 6), ("down", 8))}
    return built(Gated(**parts))


def attended() -> keras.Model:
    attention = layers.MultiHeadAttention(HEADS, WIDTH // HEADS)
    return built(Attended(attention=attention, norm=layers.LayerNormalization(epsilon=1e-5)))


def twice() -> keras.Model:
    return built(Twice(first=layers.Dense(WIDTH), second=layers.Dense(3)))


@pytest.mark.parametrize(("module", "make"), [(TorchGated, gated), (TorchAttended, attended), (TorchTwice, twice)])
def test_layers_of_a_user_layer_are_recognized_by_their_shapes(
    module: Callable[[], nn.Module], make: Callable[[], keras.Model], tmp_path: Path
) -> None:
    net, model = randomize(module()), make()
    torch.save(net.state_dict(), tmp_path / "net.pt")
    model.save_weights(tmp_path / "made.weights.h5")
    plan = k3c.align(tmp_path / "net.pt", tmp_path / "made.weights.h5").check()
    k3c.transfer(tmp_path / "net.pt", tmp_path / "made.weights.h5", plan, out=tmp_path / "filled.weights.h5")
    model.load_weights(tmp_path / "filled.weights.h5")
    assert np.abs(model(X.numpy()).detach().numpy() - net(X).detach().numpy()).max() < 1e-5
    torch.save(module().state_dict(), tmp_path / "other.pt")
    k3c.transfer(tmp_path / "filled.weights.h5", tmp_path / "other.pt", plan, out=tmp_path / "back.pt")
    back = torch.load(tmp_path / "back.pt")
    assert all(torch.equal(back[name], value) for name, value in net.state_dict().items())


def test_a_table_of_a_user_layer_is_no_dense_layer(tmp_path: Path) -> None:
    model = built(Twice(first=layers.Dense(WIDTH, use_bias=False, name="positions"), second=layers.Dense(3)))
    model.save_weights(tmp_path / "made.weights.h5")
    torch.save(randomize(TorchTwice()).state_dict(), tmp_path / "net.pt")
    plan = k3c.align(tmp_path / "net.pt", tmp_path / "made.weights.h5")
    assert "block/positions" not in {pair.keras for pair in plan.pairs}
    assert "block/positions" in {problem.keras for problem in plan.problems()}


@pytest.mark.parametrize("lost", [True, False])
@pytest.mark.parametrize("recurrent", [True, False])
def test_a_bias_without_a_place_in_the_other_file_is_never_lost(lost: bool, recurrent: bool, tmp_path: Path) -> None:
    part = nn.LSTM(WIDTH, 5, batch_first=True) if recurrent else nn.Linear(WIDTH, 5)
    net = nn.Sequential(part, nn.Linear(5, 3))
    if not lost:
        for name, parameter in part.named_parameters():
            parameter.data *= not name.startswith("bias")
    layer = layers.LSTM(5, use_bias=False) if recurrent else layers.Dense(5, use_bias=False)
    model = keras.Sequential([keras.Input((4, WIDTH)), layer, layers.Dense(3)])
    torch.save(net.state_dict(), tmp_path / "net.pt")
    model.save_weights(tmp_path / "made.weights.h5")
    files = tmp_path / "net.pt", tmp_path / "made.weights.h5"
    plan = k3c.align(*files).check()
    if not lost:
        assert k3c.transfer(*files, plan, out=tmp_path / "filled.weights.h5").ok
        return
    with pytest.raises(TransferError, match="would lose"):
        k3c.transfer(*files, plan, out=tmp_path / "filled.weights.h5")
    assert not (tmp_path / "filled.weights.h5").exists()


class Fused(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.add_module(name, nn.Linear(WIDTH, 3 * WIDTH))
        self.dense = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.get_submodule(self.name)(x).view(2, 5, HEADS, 3, 4).permute(3, 0, 2, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        made: torch.Tensor = self.dense(mixed.transpose(1, 2).flatten(2))
        return made


class FusedInKeras(Block):
    def call(self, x: Any) -> Any:
        heads = keras.ops.reshape(self.both(x), (-1, 5, 3, HEADS, 4))
        query, key, value = (keras.ops.transpose(heads[:, :, place], (0, 2, 1, 3)) for place in range(3))
        scores = keras.ops.softmax(keras.ops.matmul(query, keras.ops.transpose(key, (0, 1, 3, 2))) / 2, axis=-1)
        mixed = keras.ops.transpose(keras.ops.matmul(scores, value), (0, 2, 1, 3))
        return self.out(keras.ops.reshape(mixed, (-1, 5, WIDTH)))


@pytest.mark.parametrize("name", ["query_key_value", "W"])
def test_rows_of_two_fused_layers_are_in_doubt_until_both_models_ran(name: str, tmp_path: Path) -> None:
    """Every head has its rows together in torch: by the shapes alone the plan would be wrong, and pass."""
    net = randomize(Fused(name))
    model = built(FusedInKeras(both=layers.Dense(3 * WIDTH, name="qkv"), out=layers.Dense(WIDTH, name="out")))
    torch.save(net.state_dict(), tmp_path / "net.pt")
    plan = k3c.align(tmp_path / "net.pt", model).check()
    assert not k3c.transfer(tmp_path / "net.pt", model, plan).ok
    pair = plan.of(name)
    assert pair is not None
    line = f'plan = plan.pair("{name}", "block/qkv", heads=NUMBER)'
    how = "NUMBER: how many heads, num_heads or n_head in the model's code"
    assert pair.candidates[-1] == f"{line}  # head by head in torch; {how}"
    plan = plan.pair(name, "block/qkv", heads=HEADS).check()
    k3c.transfer(tmp_path / "net.pt", model, plan)
    assert np.abs(model(X.numpy()).detach().numpy() - net(X).detach().numpy()).max() < 1e-5


def test_an_expansion_that_a_later_layer_reads_is_no_fused_layer(tmp_path: Path) -> None:
    net = randomize(nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.ReLU(), nn.Linear(2 * WIDTH, WIDTH)))
    torch.save(net.state_dict(), tmp_path / "net.pt")
    model = keras.Sequential([keras.Input((WIDTH,)), layers.Dense(2 * WIDTH, "relu"), layers.Dense(WIDTH)])
    assert k3c.transfer(tmp_path / "net.pt", model, k3c.align(tmp_path / "net.pt", model)).ok
