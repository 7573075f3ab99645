"""Packed layers of a file are paired by names and shapes if the pairing is unambiguous."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import silu

import keras3conv as k3c
from keras3conv.errors import AlignmentError
from tests.support.models import randomize

STEPS = np.random.default_rng(0).standard_normal((2, 5, 8)).astype(np.float32)


class Gated(nn.Module):
    def __init__(self, *, name: str = "gate_up") -> None:
        super().__init__()
        self.name = name
        self.add_module(name, nn.Linear(8, 24))
        self.down = nn.Linear(12, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, up = getattr(self, self.name)(x).chunk(2, -1)
        made: torch.Tensor = self.down(silu(gate) * up)
        return made


class Unpacked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = nn.Linear(8, 12), nn.Linear(8, 12), nn.Linear(12, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.down_proj(silu(self.gate_proj(x)) * self.up_proj(x))
        return made


def gated(*, packed: bool) -> keras.Model:
    given = keras.Input((5, 8))
    if packed:
        gate, up = keras.ops.split(keras.layers.Dense(24, name="gate_up")(given), 2, axis=-1)
    else:
        gate, up = keras.layers.Dense(12, name="gate")(given), keras.layers.Dense(12, name="up")(given)
    return keras.Model(given, keras.layers.Dense(8, name="down")(keras.ops.silu(gate) * up))


def moved(module: nn.Module, model: keras.Model, path: Path, **options: Any) -> float:
    torch.save(randomize(module).state_dict(), path)
    k3c.transfer(path, model, k3c.align(path, model, **options).check())
    with torch.no_grad():
        wanted = module(torch.tensor(STEPS)).numpy()
    return float(np.abs(keras.ops.convert_to_numpy(model(STEPS)) - wanted).max())


@pytest.mark.parametrize(("module", "packed"), [(Gated(), False), (Unpacked(), True)])
def test_gate_and_up_of_a_file_are_split_and_joined(tmp_path: Path, module: nn.Module, packed: bool) -> None:
    assert moved(module, gated(packed=packed), tmp_path / "x.pt") < 1e-5


def test_a_packed_layer_whose_name_does_not_determine_the_order_is_not_paired(tmp_path: Path) -> None:
    with pytest.raises(AlignmentError):
        moved(Gated(name="dense"), gated(packed=False), tmp_path / "x.pt")


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(8, 6, 2, batch_first=True, bidirectional=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.rnn(x)[0]
        return made


def test_a_stacked_recurrent_layer_of_a_file_is_paired_with_two(tmp_path: Path) -> None:
    layers = [keras.layers.Bidirectional(keras.layers.LSTM(6, return_sequences=True)) for _ in range(2)]
    assert moved(Recurrent(), keras.Sequential([keras.Input((5, 8)), *layers]), tmp_path / "x.pt") < 1e-5
