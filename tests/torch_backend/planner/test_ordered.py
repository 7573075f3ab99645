"""Alignment by position on live models, as in a conversion script, certified by the forward pass."""

from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.errors import AlignmentError


class Block(nn.Module):
    """A residual block with layer scales that belong to no layer, defined before the layers that they scale."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma_1 = nn.Parameter(torch.rand(width))
        self.gamma_2 = nn.Parameter(torch.rand(width))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.qkv = nn.Linear(width, width)
        self.fc = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.gamma_1 * self.qkv(self.norm(x))
        return x + self.gamma_2 * self.fc(x)


class Tokens(nn.Module):
    """A stem, a position table in the root module, two blocks, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.rand(1, 5, 4))
        self.stem = nn.Linear(3, 4)
        self.blocks = nn.Sequential(Block(4), Block(4))
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.stem(x) + self.pos_embed).mean(1))


@keras.saving.register_keras_serializable(package="tests_ordered")
class Gain(keras.layers.Layer):
    """Multiplies by a vector."""

    def build(self, input_shape: tuple[int, ...]) -> None:
        self.gain = self.add_weight(name="gain", shape=(input_shape[-1],), initializer="uniform")

    def call(self, inputs: object) -> object:
        return inputs * self.gain


@keras.saving.register_keras_serializable(package="tests_ordered")
class Positions(keras.layers.Layer):
    """Adds a position table whose first axis is the width."""

    def build(self, input_shape: tuple[int, ...]) -> None:
        self.table = self.add_weight(name="table", shape=(input_shape[-1], input_shape[-2]), initializer="uniform")

    def call(self, inputs: object) -> object:
        return inputs + keras.ops.transpose(self.table)


def tokens() -> keras.Model:
    inputs = keras.Input((5, 3))
    x = Positions(name="positional_embedding")(keras.layers.Dense(4, name="stem_dense")(inputs))
    for place in (1, 2):
        y = keras.layers.LayerNormalization(epsilon=1e-6, name=f"block{place}_attn_ln")(x)
        y = Gain(name=f"block{place}_attn_gamma")(keras.layers.Dense(4, name=f"block{place}_attn_qkv")(y))
        x = keras.layers.Add()([x, y])
        y = Gain(name=f"block{place}_mlp_gamma")(keras.layers.Dense(4, name=f"block{place}_mlp_dense")(x))
        x = keras.layers.Add()([x, y])
    return keras.Model(inputs, keras.layers.Dense(2, name="head")(keras.layers.GlobalAveragePooling1D()(x)))


TABLES = {
    "unstack_weights": ["pos_embed", "gamma_1", "gamma_2"],
    "tail_align_dict": {"attn_gamma": -2, "mlp_gamma": -3},
    "full_name_align_dict": {"positional_embedding": -1},
    "tail_split_position": 1,
    "additional_transfer": {Positions: lambda arrays: [arrays[0][0].T]},
}


def test_the_tables_of_a_conversion_script_become_a_proven_plan() -> None:
    module, model = Tokens(), tokens()
    plan = k3c.align_ordered(module, model, **TABLES).check()  # type: ignore[arg-type]
    k3c.transfer(module, model, plan)
    k3c.validate(module, model, inputs=torch.rand(2, 5, 3), alignment=plan).raise_if_failed()
    assert repr(plan.of("pos_embed").weights[0].transform) == 'Axes("1 a b -> b a")'  # type: ignore[union-attr]


def test_a_second_call_gives_the_same_plan_and_json_preserves_it() -> None:
    module, model = Tokens(), tokens()
    first = k3c.align_ordered(module, model, **TABLES)  # type: ignore[arg-type]
    assert k3c.align_ordered(module, model, **TABLES) == first  # type: ignore[arg-type]
    assert k3c.Alignment.from_json(first.to_json()).to_json() == first.to_json()


def test_the_plan_also_transfers_from_keras_to_torch() -> None:
    module, model = Tokens(), tokens()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    plan = k3c.align_ordered(module, model, **TABLES)  # type: ignore[arg-type]
    k3c.transfer(module, model, plan)
    other = Tokens()
    k3c.transfer(model, other, plan)
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


def test_a_weight_file_is_aligned_with_the_same_tables(tmp_path: Path) -> None:
    module, model = Tokens(), tokens()
    torch.save(module.state_dict(), tmp_path / "tokens.pt")
    plan = k3c.align_ordered(tmp_path / "tokens.pt", model, **TABLES).check()  # type: ignore[arg-type]
    k3c.transfer(tmp_path / "tokens.pt", model, plan)
    k3c.validate(module, model, inputs=torch.rand(2, 5, 3), alignment=plan).raise_if_failed()


@pytest.mark.slow
def test_a_wrong_table_fails_by_its_shapes_or_by_the_proof() -> None:
    module, model = Tokens(), tokens()
    tables = TABLES | {"tail_align_dict": {"attn_gamma": -2, "mlp_gamma": -2}}
    with pytest.raises(AlignmentError, match="do not have the same order"):
        k3c.align_ordered(module, model, **tables)  # type: ignore[arg-type]
    plan = k3c.align_ordered(
        module,
        model,
        **TABLES,  # type: ignore[arg-type]
        specific_match_func=lambda names: [
            {"block1_attn_qkv": "block2_attn_qkv", "block2_attn_qkv": "block1_attn_qkv"}.get(name, name)
            for name in names
        ],
    )
    k3c.transfer(module, model, plan)
    assert not k3c.validate(module, model, inputs=torch.rand(2, 5, 3), alignment=plan).ok


def test_a_dry_run_prints_both_lists_and_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    module, model = Tokens(), tokens()
    before = [np.array(value) for value in model.get_weights()]
    k3c.align_ordered(module, model, dry_run=True)
    printed = capsys.readouterr().out
    assert "position  torch" in printed
    assert "does not fit" in printed
    assert all(np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True))


def test_the_kernel_after_a_flatten_is_permuted() -> None:
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(2 * 3 * 4, 5))
    model = keras.Sequential(
        [keras.Input((5, 6, 3)), keras.layers.Conv2D(2, 3), keras.layers.Flatten(), keras.layers.Dense(5)]
    )
    plan = k3c.align_ordered(module, model)
    k3c.transfer(module, model, plan)
    k3c.validate(module, model, alignment=plan).raise_if_failed()
