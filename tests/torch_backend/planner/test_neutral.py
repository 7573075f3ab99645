"""Parameters that only one side has correspond to ones and zeros; no pair mixes different roles."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.errors import AlignmentError, TransferError
from tests.support.models import randomize

IMAGES = np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype(np.float32)
STEPS = np.random.default_rng(1).standard_normal((2, 5, 8)).astype(np.float32)


def images(norm: keras.layers.Layer) -> keras.Model:
    given = keras.Input((4, 4, 3))
    x = norm(keras.layers.Conv2D(8, 3, padding="same", name="a")(given))
    return keras.Model(given, keras.layers.Conv2D(4, 1, name="f")(keras.layers.ReLU()(x)))


def convolutions(norm: nn.Module) -> nn.Module:
    return randomize(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), norm, nn.ReLU(), nn.Conv2d(8, 4, 1)))


def difference(module: nn.Module, model: keras.Model, given: np.ndarray, layout: tuple[int, ...]) -> float:
    with torch.no_grad():
        wanted = module(torch.tensor(given)).permute(layout).numpy()
    return float(np.abs(keras.ops.convert_to_numpy(model(given.transpose(layout))) - wanted).max())


@pytest.mark.parametrize("probe", [None, False])
@pytest.mark.parametrize(
    ("module", "make"),
    [
        (lambda: nn.BatchNorm2d(8, affine=False), lambda: keras.layers.BatchNormalization(epsilon=1e-5, name="n")),
        (lambda: nn.GroupNorm(2, 8, affine=False), lambda: keras.layers.GroupNormalization(2, epsilon=1e-5, name="n")),
        (lambda: nn.InstanceNorm2d(8), lambda: keras.layers.GroupNormalization(-1, epsilon=1e-5, name="n")),
    ],
)
def test_a_normalization_without_parameters_gives_scale_one_and_bias_zero(
    module: Any, make: Any, probe: bool | None
) -> None:
    net, model = convolutions(module()), images(make())
    model.get_layer("n").gamma.assign(np.full(8, 3.0))
    plan = k3c.align(net, model, inputs=IMAGES, probe=probe).check()
    k3c.transfer(net, model, plan)
    assert difference(net, model, IMAGES, (0, 2, 3, 1)) < 1e-5
    k3c.transfer(model, net, plan)
    model.get_layer("n").beta.assign(np.full(8, 0.5))
    with pytest.raises(TransferError, match=r"n/beta  \(keras\).*would lose 8 values that are not 0"):
        k3c.transfer(model, net, plan)


def test_running_statistics_do_not_become_a_scale_in_a_file(tmp_path: Path) -> None:
    net, model = convolutions(nn.BatchNorm2d(8, affine=False)), images(keras.layers.BatchNormalization(name="n"))
    torch.save(net.state_dict(), tmp_path / "net.pt")
    pair = k3c.align(tmp_path / "net.pt", model).check().of("n")
    assert pair is not None
    pairs = {mapping.keras[0].rpartition("/")[2]: mapping.torch for mapping in pair.weights}
    assert pairs == {"gamma": (), "beta": (), "moving_mean": ("1.running_mean",), "moving_variance": ("1.running_var",)}


def test_a_normalization_by_batch_statistics_has_no_counterpart_in_keras() -> None:
    net = convolutions(nn.BatchNorm2d(8, track_running_stats=False))
    plan = k3c.align(net, images(keras.layers.BatchNormalization(epsilon=1e-5, name="n")), inputs=IMAGES)
    assert [problem.keras for problem in plan.problems()] == ["n/moving_mean", "n/moving_variance"]
    with pytest.raises(AlignmentError, match="statistics of each batch"):
        plan.check()


class WithoutBias(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(8, 8, bias=False)
        self.n = nn.LayerNorm(8, elementwise_affine=False)
        self.g = nn.GRU(8, 8, batch_first=True, bias=False)
        self.m = nn.MultiheadAttention(8, 2, bias=False, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.g(self.n(self.a(x)))[0]
        return self.m(x, x, x)[0]


@pytest.mark.parametrize("probe", [None, False])
def test_layers_without_bias_are_transferred_to_layers_with_zero_bias(probe: bool | None) -> None:
    given = keras.Input((5, 8))
    x = keras.layers.LayerNormalization(epsilon=1e-5, name="n")(keras.layers.Dense(8, name="a")(given))
    x = keras.layers.GRU(8, return_sequences=True, name="g")(x)
    model = keras.Model(given, keras.layers.MultiHeadAttention(2, 4, name="m")(x, x))
    net = randomize(WithoutBias())
    k3c.transfer(net, model, k3c.align(net, model, inputs=STEPS, probe=probe).check())
    assert difference(net, model, STEPS, (0, 1, 2)) < 1e-5


class Attention(nn.Module):
    """Attention projections with meaningless names and a key without bias; only their use distinguishes them."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 8, bias=False)
        self.three, self.four = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        three, one, two = (layer(x).view(-1, 5, 2, 4).transpose(1, 2) for layer in (self.three, self.one, self.two))
        y = nn.functional.scaled_dot_product_attention(three, two, one)
        return self.four(y.transpose(1, 2).reshape(-1, 5, 8))


def test_a_key_projection_without_bias_is_identified_by_the_later_layers() -> None:
    given = keras.Input((5, 8))
    model = keras.Model(given, keras.layers.MultiHeadAttention(2, 4, name="m")(given, given))
    net = randomize(Attention())
    plan = k3c.align(net, model, inputs=STEPS).check()
    assert {pair.keras.rpartition("/")[2]: pair.torch for pair in plan.pairs} == {
        "query": "three",
        "key": "two",
        "value": "one",
        "attention_output": "four",
    }
    k3c.transfer(net, model, plan)
    assert difference(net, model, STEPS, (0, 1, 2)) < 1e-5


class Whisper(nn.Module):
    """The attention of Whisper after a projection of the same size; only the key has no bias."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 8)
        self.query, self.key = nn.Linear(8, 8), nn.Linear(8, 8, bias=False)
        self.value, self.out = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x)
        heads = (layer(x).view(-1, 5, 2, 4).transpose(1, 2) for layer in (self.query, self.key, self.value))
        y = nn.functional.scaled_dot_product_attention(*heads)
        return self.out(y.transpose(1, 2).reshape(-1, 5, 8))


def test_a_key_projection_without_bias_is_identified_by_its_name_in_a_file(tmp_path: Path) -> None:
    given = keras.Input((5, 8))
    x = keras.layers.Dense(8, name="embed")(given)
    model = keras.Model(given, keras.layers.MultiHeadAttention(2, 4, name="m")(x, x))
    net = randomize(Whisper())
    torch.save(net.state_dict(), tmp_path / "net.pt")
    k3c.transfer(tmp_path / "net.pt", model, k3c.align(tmp_path / "net.pt", model).check())
    assert difference(net, model, STEPS, (0, 1, 2)) < 1e-5


def test_norms_without_scale_among_others_are_paired_in_order_in_a_file(tmp_path: Path) -> None:
    net = nn.Sequential(nn.BatchNorm1d(4), nn.ReLU(), nn.BatchNorm1d(4, affine=False), nn.ReLU(), nn.BatchNorm1d(4))
    net = randomize(net)
    norms = [keras.layers.BatchNormalization(epsilon=1e-5, name=f"n{place}") for place in range(3)]
    parts = [norms[0], keras.layers.ReLU(), norms[1], keras.layers.ReLU(), norms[2]]
    model = keras.Sequential([keras.Input((4,)), *parts])
    torch.save(net.state_dict(), tmp_path / "net.pt")
    plan = k3c.align(tmp_path / "net.pt", model).check()
    assert not k3c.transfer(tmp_path / "net.pt", model, plan).ok  # only the order decides
    assert difference(net, model, STEPS[0, :, :4], (0, 1)) < 1e-5


class Beit(nn.Module):
    """The attention of BEiT: one layer without a bias, and the biases of query and value beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(8, 24, bias=False), nn.Linear(8, 8)
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(8)), nn.Parameter(torch.zeros(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bias = torch.cat([self.q_bias, torch.zeros(8), self.v_bias])
        parts = nn.functional.linear(x, self.qkv.weight, bias).view(-1, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(*parts)
        return self.proj(y.transpose(1, 2).reshape(-1, 5, 8))


def test_biases_beside_a_packed_layer_are_those_of_its_parts(tmp_path: Path) -> None:
    given = keras.Input((5, 8))
    model = keras.Model(given, keras.layers.MultiHeadAttention(2, 4, name="m")(given, given))
    net = randomize(Beit())
    torch.save({f"attention.{name}": value for name, value in net.state_dict().items()}, tmp_path / "net.pt")
    k3c.transfer(tmp_path / "net.pt", model, k3c.align(tmp_path / "net.pt", model).check())
    assert difference(net, model, STEPS, (0, 1, 2)) < 1e-5
    assert not model.get_layer("m").key_dense.bias.numpy().any()
