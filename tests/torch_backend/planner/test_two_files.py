"""Two files of weights, none of which can run: the filled model computes what the torch module computes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers, ops
from safetensors.torch import save_file
from torch import nn

import keras3conv as k3c
from keras3conv.alignment.plan import Alignment
from tests.support.models import randomize

WIDTH, HEADS, EXPERTS = 8, 2, 3


def filled(net: nn.Module, model: keras.Model, folder: Path) -> Alignment:
    """Fill a Keras model with the weights of a torch module, from file to file, and return the plan."""
    source, target, out = folder / "net.safetensors", folder / "made.weights.h5", folder / "filled.weights.h5"
    save_file(net.state_dict(), source)
    model.save_weights(target)
    plan = k3c.align(source, target).check()
    k3c.transfer(source, target, plan, out=out)
    model.load_weights(out)
    return plan


def difference(net: nn.Module, model: keras.Model, *inputs: np.ndarray[Any, Any]) -> float:
    with torch.no_grad():
        expected = net(*map(torch.tensor, inputs)).numpy()
    made = model(inputs[0] if len(inputs) == 1 else list(inputs))
    return float(np.abs(ops.convert_to_numpy(made) - expected).max())


def random(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal(shape).astype("float32")


class EncoderLayer(nn.Module):
    """Like a layer of Whisper: the key has no bias, and the tensors are registered in another order than they run."""

    def __init__(self) -> None:
        super().__init__()
        self.k_proj, self.v_proj = nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, WIDTH)
        self.q_proj, self.out_proj = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.self_attn_layer_norm, self.final_layer_norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.fc1, self.fc2 = nn.Linear(WIDTH, 12), nn.Linear(12, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.self_attn_layer_norm(x)
        heads = (one(y).unflatten(-1, (HEADS, -1)).transpose(1, 2) for one in (self.q_proj, self.k_proj, self.v_proj))
        x = x + self.out_proj(nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))
        made: torch.Tensor = x + self.fc2(self.fc1(self.final_layer_norm(x)).relu())
        return made


class Encoder(nn.Module):
    def __init__(self, depth: int) -> None:
        super().__init__()
        self.layers, self.layer_norm = nn.ModuleList(EncoderLayer() for _ in range(depth)), nn.LayerNorm(WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        made: torch.Tensor = self.layer_norm(x)
        return made


def encoder(depth: int) -> keras.Model:
    inputs = x = keras.Input((5, WIDTH))
    for number in range(depth):
        y = layers.LayerNormalization(epsilon=1e-5, name=f"block{number}_attn_norm")(x)
        x = x + layers.MultiHeadAttention(HEADS, WIDTH // HEADS, name=f"block{number}_attn")(y, y)
        y = layers.LayerNormalization(epsilon=1e-5, name=f"block{number}_mlp_norm")(x)
        y = layers.Dense(12, activation="relu", name=f"block{number}_fc1")(y)
        x = x + layers.Dense(WIDTH, name=f"block{number}_fc2")(y)
    return keras.Model(inputs, layers.LayerNormalization(epsilon=1e-5, name="norm")(x))


@pytest.mark.parametrize("depth", [2, 11])
def test_blocks_of_a_file_that_is_sorted_by_name(depth: int, tmp_path: Path) -> None:
    """With 11 blocks, "layers.10" is before "layers.2" in the file, and "layer_norm" is before both."""
    net, model = randomize(Encoder(depth)), encoder(depth)
    plan = filled(net, model, tmp_path)
    assert difference(net, model, random(2, 5, WIDTH)) < 1e-4
    assert plan.unconfirmed


class Plain(layers.Layer):
    """A block of a user, whose layers have the names that Keras gives."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.first, self.last = layers.Dense(WIDTH), layers.Dense(WIDTH)

    def call(self, x: Any) -> Any:
        return self.last(ops.relu(self.first(x)))


def test_the_first_of_two_blocks_is_not_taken_for_the_second(tmp_path: Path) -> None:
    """The groups of the file are "plain" and "plain_1": everything in the first is before the second."""
    block = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))
    net = randomize(nn.Sequential(block, nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))))
    inputs = keras.Input((WIDTH,))
    model = keras.Model(inputs, Plain()(Plain()(inputs)))
    filled(net, model, tmp_path)
    assert difference(net, model, random(2, WIDTH)) < 1e-4


class Recurrent(nn.Module):
    def __init__(self, kind: Callable[..., nn.Module], depth: int, *, both: bool) -> None:
        super().__init__()
        self.rnn = kind(4, 5, num_layers=depth, batch_first=True, bidirectional=both)
        self.fc = nn.Linear(10 if both else 5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.fc(self.rnn(x)[0])
        return made


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize(("kind", "other"), [(nn.LSTM, layers.LSTM), (nn.GRU, layers.GRU), (nn.RNN, layers.SimpleRNN)])
def test_a_recurrent_torch_layer_fills_the_keras_layers_of_its_stack(
    kind: Callable[..., nn.Module], other: Callable[..., layers.Layer], depth: int, both: bool, tmp_path: Path
) -> None:
    net = randomize(Recurrent(kind, depth, both=both))
    stack = [other(5, return_sequences=True) for _ in range(depth)]
    wrapped = [layers.Bidirectional(layer) for layer in stack] if both else stack
    model = keras.Sequential([keras.Input((7, 4)), *wrapped, layers.Dense(2)])
    plan = filled(net, model, tmp_path)
    assert difference(net, model, random(2, 7, 4)) < 1e-5
    assert bool(plan.unconfirmed) == (depth > 2), "the second and the third layer have equal shapes"


class CrossAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn, self.fc = nn.MultiheadAttention(12, 3, kdim=5, vdim=7, batch_first=True), nn.Linear(12, 4)

    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.fc(self.attn(query, key, value)[0])
        return made


def test_an_attention_whose_key_and_value_have_other_sizes(tmp_path: Path) -> None:
    net, inputs = randomize(CrossAttention()), [keras.Input(shape) for shape in ((4, 12), (3, 5), (3, 7))]
    attention = layers.MultiHeadAttention(3, 4, output_shape=12)(inputs[0], inputs[2], key=inputs[1])
    model = keras.Model(inputs, layers.Dense(4)(attention))
    plan = filled(net, model, tmp_path)
    assert not plan.unconfirmed
    assert difference(net, model, random(2, 4, 12), random(2, 3, 5), random(2, 3, 7)) < 1e-5


class Packed(nn.Module):
    """All experts in one tensor, in a container without a class of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.router, self.experts = nn.Linear(6, EXPERTS), nn.Module()
        self.experts.weight = nn.Parameter(torch.randn(EXPERTS, 6, 5))
        self.experts.bias = nn.Parameter(torch.randn(EXPERTS, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bias: Any = self.experts.bias
        parts = torch.einsum("bi,eio->beo", x, self.experts.weight) + bias
        return torch.einsum("be,beo->bo", self.router(x).softmax(-1), parts)


class Separate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.router, self.experts = nn.Linear(6, EXPERTS), nn.ModuleList(nn.Linear(6, 5) for _ in range(EXPERTS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = torch.stack([expert(x) for expert in self.experts], 1)
        return torch.einsum("be,beo->bo", self.router(x).softmax(-1), parts)


class KerasPacked(layers.Layer):
    def build(self, shape: Any) -> None:
        self.router = layers.Dense(EXPERTS, name="router")
        self.router.build(shape)
        self.weights_of_experts = self.add_weight(shape=(EXPERTS, 6, 5), name="experts")
        self.biases_of_experts = self.add_weight(shape=(EXPERTS, 5), name="experts_bias")

    def call(self, x: Any) -> Any:
        parts = ops.einsum("bi,eio->beo", x, self.weights_of_experts) + self.biases_of_experts
        return ops.einsum("be,beo->bo", ops.softmax(self.router(x)), parts)


class KerasSeparate(layers.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.router = layers.Dense(EXPERTS, name="router")
        self.experts = [layers.Dense(5, name=f"expert_{number}") for number in range(EXPERTS)]

    def call(self, x: Any) -> Any:
        parts = ops.stack([expert(x) for expert in self.experts], 1)
        return ops.einsum("be,beo->bo", ops.softmax(self.router(x)), parts)


@pytest.mark.parametrize(("module", "other"), [(Packed, KerasSeparate), (Separate, KerasPacked)])
def test_experts_in_one_tensor_fill_one_layer_for_each(
    module: Callable[[], nn.Module], other: Callable[[], layers.Layer], tmp_path: Path
) -> None:
    inputs = keras.Input((6,))
    net, model = randomize(module()), keras.Model(inputs, other()(inputs))
    plan = filled(net, model, tmp_path)
    assert difference(net, model, random(4, 6)) < 1e-5
    assert plan.unconfirmed
    assert not k3c.align(net, model).unconfirmed, "two live models confirm it"


def test_square_experts_are_not_paired_because_their_axes_may_be_exchanged(tmp_path: Path) -> None:
    save_file({"experts.weight": torch.randn(EXPERTS, 6, 6)}, tmp_path / "net.safetensors")
    model = keras.Sequential(
        [keras.Input((6,)), *(layers.Dense(6, name=f"expert_{place}") for place in range(EXPERTS))]
    )
    model.save_weights(tmp_path / "made.weights.h5")
    plan = k3c.align(tmp_path / "net.safetensors", tmp_path / "made.weights.h5")
    assert {problem.torch for problem in plan.problems() if problem.torch} == {"experts"}


class Flattened(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 30, 4 * 30), nn.Linear(120, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.head(self.fc(self.conv(x.permute(0, 3, 1, 2)).relu().flatten(1)).relu())
        return made


def test_rows_after_a_flatten_that_no_file_shows_are_in_doubt_and_the_line_orders_them(tmp_path: Path) -> None:
    """All shapes fit: without the doubt, the plan was certain, and the model computed something else."""
    net = randomize(Flattened())
    conv = layers.Conv2D(4, 3, padding="same", activation="relu")
    rest = [layers.Flatten(), layers.Dense(120, activation="relu", name="fc"), layers.Dense(5, name="head")]
    model = keras.Sequential([keras.Input((5, 6, 3)), conv, *rest])
    plan = filled(net, model, tmp_path)
    assert [pair.torch for pair in plan.unconfirmed] == ["fc"]
    assert difference(net, model, random(2, 5, 6, 3)) > 1e-2
    names: dict[str, Any] = {"plan": plan, "k3c": k3c}
    exec(plan.unconfirmed[0].candidates[-1], names)  # noqa: S102 - our own message
    k3c.transfer(net, model, names["plan"].check())
    assert difference(net, model, random(2, 5, 6, 3)) < 1e-4


def test_a_layer_whose_inputs_another_layer_makes_follows_no_flatten(tmp_path: Path) -> None:
    net = randomize(nn.Sequential(nn.Conv1d(3, 4, 3), nn.Linear(4, 8), nn.Linear(8, 4)))
    parts = [layers.Conv1D(4, 3), layers.Dense(8), layers.Dense(4)]
    assert not filled(net, keras.Sequential([keras.Input((9, 3)), *parts]), tmp_path).unconfirmed
