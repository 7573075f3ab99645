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


class ByHead(nn.Module):
    """Attention whose packed rows go head by head: a query, a key and a value of each head."""

    def __init__(self, heads: int, queries: int = 1) -> None:
        super().__init__()
        self.heads, self.size = heads, 8 // heads // queries
        self.sizes = (queries * self.size, self.size, self.size)
        self.qkv, self.out = nn.Linear(8, heads * sum(self.sizes)), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = self.qkv(x).unflatten(-1, (self.heads, -1)).split(self.sizes, -1)
        query, key, value = (part.flatten(2).repeat(1, 1, 8 // part.flatten(2).shape[-1]) for part in parts)
        made: torch.Tensor = self.out(torch.tanh(query) * key + value)
        return made


def parts(key: int = 8) -> keras.Model:
    given = keras.Input((5, 8))
    sizes = {"query": 8, "key": key, "value": key}
    made = [keras.layers.Dense(size, name=name)(given) for name, size in sizes.items()]
    query, key_, value = (keras.ops.tile(part, (1, 1, 8 // part.shape[-1])) for part in made)
    return keras.Model(given, keras.layers.Dense(8, name="out")(keras.ops.tanh(query) * key_ + value))


def line_of(plan: k3c.Alignment) -> str:
    (line,) = [line.strip() for line in str(plan).splitlines() if "heads=NUMBER" in line]
    return line


@pytest.mark.parametrize(("heads", "queries"), [(2, 1), (8, 1), (2, 2)])
def test_the_line_of_an_unconfirmed_packed_layer_pairs_rows_that_go_head_by_head(
    tmp_path: Path, heads: int, queries: int
) -> None:
    module, model = randomize(ByHead(heads, queries)), parts(8 // queries)
    torch.save(module.state_dict(), tmp_path / "x.pt")
    names: dict[str, Any] = {"plan": k3c.align(tmp_path / "x.pt", model)}
    assert "keep their order" in k3c.transfer(tmp_path / "x.pt", model, names["plan"]).section("transfer").reason
    exec(line_of(names["plan"]).replace("NUMBER", str(heads)), names)  # noqa: S102 - our own message
    plan = names["plan"].check()
    for read in (plan, k3c.Alignment.from_json(plan.to_json())):
        k3c.transfer(tmp_path / "x.pt", model, read)
        with torch.no_grad():
            wanted = module(torch.tensor(STEPS)).numpy()
        assert np.abs(keras.ops.convert_to_numpy(model(STEPS)) - wanted).max() < 1e-5
    before = {name: value.clone() for name, value in module.state_dict().items()}
    k3c.transfer(model, randomize(module, seed=5), plan)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_alternating_and_exchanged_rows_of_gate_and_up_are_paired_by_the_printed_lines(tmp_path: Path) -> None:
    torch.save(randomize(Gated()).state_dict(), tmp_path / "x.pt")
    plan = k3c.align(tmp_path / "x.pt", gated(packed=False))
    lines = [line.strip() for line in str(plan).splitlines() if line.strip().startswith("plan = plan.pair(")]
    assert len(lines) == 2
    weight = torch.load(tmp_path / "x.pt")["gate_up.weight"].numpy().T
    wanted = {"exchanged": (weight[:, 12:], weight[:, :12]), "alternating": (weight[:, ::2], weight[:, 1::2])}
    for line in lines:
        names: dict[str, Any] = {"plan": plan}
        exec(line, names)  # noqa: S102 - our own message
        model = gated(packed=False)
        k3c.transfer(tmp_path / "x.pt", model, names["plan"].check())
        kind = next(word for word in wanted if word in line)
        for name, kernel in zip(("gate", "up"), wanted[kind], strict=True):
            assert np.array_equal(keras.ops.convert_to_numpy(model.get_layer(name).kernel), kernel)


def test_heads_that_do_not_divide_the_rows_are_refused() -> None:
    with pytest.raises(AlignmentError, match="do not fit 3 heads"):
        k3c.align(ByHead(2), parts(), probe=False).pair("qkv", ["query", "key", "value"], heads=3)
