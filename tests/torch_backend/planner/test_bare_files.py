"""Parameters of modules without a rule, such as class tokens and position tables, in files that name no classes."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers
from torch import nn

import keras3conv as k3c
from tests.support.models import randomize

X = torch.randn(2, 5, 8)


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cls_token, self.pos_embed = nn.Parameter(torch.ones(1, 1, 8)), nn.Parameter(torch.ones(1, 6, 8))
        self.temperature = nn.Parameter(torch.ones(()))
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        made: torch.Tensor = self.head(x) * self.temperature.exp()
        return made


class TokensInKeras(layers.Layer):
    def build(self, _: Any) -> None:
        self.token = self.add_weight(shape=(8,), name="class_token")
        self.table = self.add_weight(shape=(6, 8), name="positions")
        self.copy = self.add_weight(shape=(6, 8), name="interpolated_positions") if self.name == "twice" else None
        self.factor = self.add_weight(shape=(), name="factor")
        self.head = layers.Dense(3, name="head")
        self.head.build((None, 6, 8))

    def call(self, x: Any) -> Any:
        token = keras.ops.broadcast_to(self.token, (keras.ops.shape(x)[0], 1, 8))
        return self.head(keras.ops.concatenate([token, x], 1) + self.table) * keras.ops.exp(self.factor)


def network(name: str = "tokens") -> keras.Model:
    given = keras.Input((5, 8))
    return keras.Model(given, TokensInKeras(name=name)(given))


@pytest.mark.parametrize("live", [True, False])
def test_parameters_of_unique_shapes_are_paired_in_files(live: bool, tmp_path: Path) -> None:
    net, model = randomize(Tokens()), network()
    torch.save(net.state_dict(), tmp_path / "net.pt")
    model.save_weights(tmp_path / "made.weights.h5")
    target: Any = model if live else tmp_path / "made.weights.h5"
    plan = k3c.align(tmp_path / "net.pt", target).check()
    assert k3c.transfer(tmp_path / "net.pt", target, plan, out=tmp_path / "filled.weights.h5").ok
    model.load_weights(tmp_path / "filled.weights.h5")
    assert np.abs(model(X.numpy()).detach().numpy() - net(X).detach().numpy()).max() < 1e-5


def test_a_weight_of_a_layer_is_never_paired_untransposed(tmp_path: Path) -> None:
    torch.save({"positions.weight": torch.ones(6, 8), "head.weight": torch.ones(3, 8)}, tmp_path / "net.pt")
    plan = k3c.align(tmp_path / "net.pt", network())
    assert "positions.weight" not in {path for pair in plan.pairs for mapping in pair.weights for path in mapping.torch}
    table = next(problem for problem in plan.problems() if problem.torch == "positions")
    assert "matched nothing" in table.fact


class Relative(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.relative_attention_bias = nn.Embedding(6, 2)


class Bias(layers.Layer):
    def build(self, _: Any) -> None:
        self.table = self.add_weight(shape=(2, 6), name="rel")

    def call(self, x: Any) -> Any:
        return keras.ops.matmul(x, self.table)


def test_the_line_for_a_bare_table_of_a_file_has_the_paths_and_the_transform(tmp_path: Path) -> None:
    """T5 has its table in an Embedding, and Keras in a variable of the attention, with its axes exchanged."""
    net, given = randomize(Relative()), keras.Input((3, 2))
    model = keras.Model(given, Bias(name="bias")(given))
    torch.save(net.state_dict(), tmp_path / "net.pt")
    plan = k3c.align(tmp_path / "net.pt", model)
    names = {"plan": plan, "k3c": k3c}
    exec(plan.problems()[0].fixes[0], names)  # noqa: S102 - our own message
    plan = names["plan"].check()  # type: ignore[attr-defined]
    k3c.transfer(tmp_path / "net.pt", model, plan)
    table = net.relative_attention_bias.weight.detach().numpy()
    assert np.array_equal(model.get_layer("bias").table.numpy(), table.T)


@pytest.mark.parametrize(("name", "shape"), [("gate_up_proj", (4, 6, 8)), ("mixing", (4, 6, 6))])
def test_a_matrix_whose_values_may_be_in_another_order_is_in_doubt(
    name: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    """Experts in one tensor: gate and up may alternate, and a square matrix may be transposed."""
    torch.save({f"experts.{name}": torch.ones(shape)}, tmp_path / "net.pt")
    given = keras.Input((2,))
    model = keras.Model(given, Matrix(shape)(given))
    plan = k3c.align(tmp_path / "net.pt", model).check()
    assert [pair.torch for pair in plan.unconfirmed] == [f"experts.{name}"]


class Matrix(layers.Layer):
    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(name="experts")
        self.matrix = self.add_weight(shape=shape, name="matrix")

    def call(self, x: Any) -> Any:
        return x + keras.ops.sum(self.matrix)
