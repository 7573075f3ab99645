"""Tensors that together make up one of the other side are found: tables with offsets, kernels of joined inputs."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers, ops
from torch import nn

import keras3conv as k3c
from tests.support.models import randomize

ROWS = (4, 6, 5)
IDS = np.stack([np.random.default_rng(0).integers(0, rows, 7) for rows in ROWS], 1)
OFFSETS = np.array([0, 4, 10])


class OneTable(nn.Module):
    """One table of embeddings and one of weights for all columns, with an offset for each column."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.linear = nn.Embedding(sum(ROWS), 3), nn.Embedding(sum(ROWS), 1)
        self.deep = nn.Linear(9, 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        places = ids + torch.as_tensor(OFFSETS)
        made: torch.Tensor = self.deep(self.embedding(places).flatten(1)) + self.linear(places).sum(1)
        return made


class ManyTables(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(rows, 3) for rows in ROWS)
        self.deep = nn.Linear(9, 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.deep(torch.cat([table(ids[:, n]) for n, table in enumerate(self.tables)], 1))
        return made


def many_tables(order: Sequence[int] = (0, 1, 2)) -> keras.Model:
    ids = keras.Input((3,), dtype="int32")
    wide = {n: layers.Embedding(ROWS[n], 3, name=f"wide_{n}")(ids[:, n]) for n in order}
    narrow = {n: layers.Embedding(ROWS[n], 1, name=f"narrow_{n}")(ids[:, n]) for n in order}
    deep = layers.Dense(2)(ops.concatenate([wide[n] for n in range(3)], -1))
    return keras.Model(ids, deep + narrow[0] + narrow[1] + narrow[2])


def one_table(offsets: Sequence[int] = (0, 4, 10)) -> keras.Model:
    ids = keras.Input((3,), dtype="int32")
    return keras.Model(ids, layers.Dense(2)(layers.Flatten()(layers.Embedding(15, 3)(ids + np.array(offsets)))))


class JoinedInputs(nn.Module):
    """One kernel for two joined inputs, of sizes 3 and 5."""

    def __init__(self) -> None:
        super().__init__()
        self.gates, self.head = nn.Linear(8, 6), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.head(torch.tanh(self.gates(torch.cat([x, h], -1))))
        return made


class AddedProducts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.of_x, self.of_h, self.head = nn.Linear(3, 6), nn.Linear(5, 6, bias=False), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.head(torch.tanh(self.of_x(x) + self.of_h(h)))
        return made


def added_products() -> keras.Model:
    x, h = keras.Input((3,)), keras.Input((5,))
    gates = layers.Dense(6, use_bias=False, name="of_h")(h) + layers.Dense(6, name="of_x")(x)
    return keras.Model([x, h], layers.Dense(2)(ops.tanh(gates)))


def joined_inputs(*, exchanged: bool) -> keras.Model:
    x, h = keras.Input((3,)), keras.Input((5,))
    joined = layers.Concatenate()([h, x] if exchanged else [x, h])
    return keras.Model([x, h], layers.Dense(2)(layers.Dense(6, activation="tanh")(joined)))


VECTORS = tuple(np.random.default_rng(n).normal(size=(4, size)).astype("float32") for n, size in enumerate((3, 5)))


@pytest.mark.parametrize(
    ("make", "model", "inputs"),
    [
        (OneTable, many_tables, (IDS,)),
        (OneTable, lambda: many_tables((2, 1, 0)), (IDS,)),
        (ManyTables, one_table, (IDS,)),
        (ManyTables, lambda: one_table((11, 5, 0)), (IDS,)),
        (JoinedInputs, added_products, VECTORS),
        (AddedProducts, lambda: joined_inputs(exchanged=False), VECTORS),
        (AddedProducts, lambda: joined_inputs(exchanged=True), VECTORS),
    ],
)
def test_tensors_that_make_up_one_of_the_other_side_are_placed_in_both_directions(
    make: Callable[[], nn.Module], model: Callable[[], keras.Model], inputs: tuple[Any, ...]
) -> None:
    module, other, again = randomize(make()), model(), randomize(make())
    given = tuple(map(torch.as_tensor, inputs))
    plan = k3c.align(module, other, inputs=given).check()
    assert not any(pair.unconfirmed for pair in plan.pairs)
    k3c.transfer(module, other, plan)
    wanted = module(*given).detach().numpy()
    np.testing.assert_allclose(
        ops.convert_to_numpy(other(list(inputs) if len(inputs) > 1 else inputs[0])), wanted, 1e-5
    )
    k3c.transfer(other, again, plan)
    np.testing.assert_array_equal(again(*given).detach().numpy(), wanted)
    k3c.validate(module, other, inputs=given, plan=plan).raise_if_failed()


class Cell(nn.Module):
    """An LSTM over steps or images with one layer for the joined input and state, and the new values last."""

    def __init__(self, gates: nn.Module, head: nn.Module, units: int) -> None:
        super().__init__()
        self.gates, self.head, self.units = gates, head, units

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = c = x.new_zeros(len(x), self.units, *x.shape[3:])
        for step in x.unbind(1):
            i, f, o, g = self.gates(torch.cat([step, h], 1)).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        made: torch.Tensor = self.head(h)
        return made


def over_steps() -> tuple[nn.Module, keras.Model, torch.Tensor]:
    x = keras.Input((4, 3))
    module = Cell(nn.Linear(8, 20), nn.Linear(5, 2), 5)
    return module, keras.Model(x, layers.Dense(2)(layers.LSTM(5)(x))), torch.randn(2, 4, 3)


def over_images() -> tuple[nn.Module, keras.Model, torch.Tensor]:
    x = keras.Input((2, 5, 6, 4))
    module = Cell(nn.Conv2d(7, 12, 3, padding=1), nn.Conv2d(3, 2, 1), 3)
    model = keras.Model(x, layers.Conv2D(2, 1)(layers.ConvLSTM2D(3, 3, padding="same")(x)))
    return module, model, torch.randn(2, 2, 4, 5, 6)


@pytest.mark.slow
@pytest.mark.parametrize("make", [over_steps, over_images])
def test_the_gates_of_a_cell_that_somebody_wrote_are_put_in_the_order_of_keras(
    make: Callable[[], tuple[nn.Module, keras.Model, torch.Tensor]],
) -> None:
    module, model, given = make()
    randomize(module)
    inputs: dict[str, Any] = {"inputs": given, "keras_inputs": given.movedim(2, -1).numpy()}
    plan = k3c.align(module, model, **inputs).check()
    assert not any(pair.unconfirmed for pair in plan.pairs)
    k3c.transfer(module, model, plan)
    k3c.validate(module, model, plan=plan, **inputs).raise_if_failed()


def test_tables_at_other_places_are_not_confirmed() -> None:
    module, given = randomize(ManyTables()), torch.as_tensor(IDS)
    plan = k3c.align(module, one_table((0, 3, 10)), inputs=given)
    assert plan.problems() or plan.difference


def test_a_single_number_does_not_confirm_a_layer() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 1), nn.Linear(3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            made: torch.Tensor = self.first(x) - 2 * self.second(torch.tanh(x))
            return made

    x = keras.Input((3,))
    model = keras.Model(x, layers.Dense(1, name="first")(ops.sigmoid(x)) - 2 * layers.Dense(1, name="second")(x * x))
    plan = k3c.align(randomize(Sum()), model, inputs=torch.rand(1, 3))
    assert not any(pair.decided_by == "probe" for pair in plan.pairs)
