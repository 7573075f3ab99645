"""One layer is paired with several in sequence, with the probe and without."""

from collections.abc import Callable

import keras
import numpy as np
import pytest
import torch
from keras import layers
from torch import nn

import keras3conv as k3c
from keras3conv.alignment.plan import Alignment
from tests.support.models import randomize


class Recurrent(nn.Module):
    def __init__(self, kind: Callable[..., nn.Module], directions: int) -> None:
        super().__init__()
        self.rnn = kind(4, 5, num_layers=2, batch_first=True, bidirectional=directions == 2)
        self.fc = nn.Linear(5 * directions, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.rnn(x)[0])


def recurrent(kind: Callable[..., layers.Layer], directions: int, number: int = 2) -> keras.Model:
    inputs = x = keras.Input((7, 4))
    for place in range(number):
        layer = kind(5, return_sequences=True, name=f"r{place}")
        x = layers.Bidirectional(layer, name=f"b{place}")(x) if directions == 2 else layer(x)
    return keras.Model(inputs, layers.Dense(2, name="d")(x))


def found(plan: Alignment) -> dict[str, tuple[str, str]]:
    return {pair.torch: (pair.keras, pair.decided_by) for pair in plan.pairs}


@pytest.mark.parametrize("probe", [None, False])
@pytest.mark.parametrize(
    ("kind", "other", "directions"),
    [(nn.LSTM, layers.LSTM, 1), (nn.GRU, layers.GRU, 1), (nn.RNN, layers.SimpleRNN, 1), (nn.LSTM, layers.LSTM, 2)],
)
def test_a_recurrent_torch_layer_with_two_layers_is_paired_with_two_keras_layers(
    kind: Callable[..., nn.Module], other: Callable[..., layers.Layer], directions: int, probe: bool | None
) -> None:
    module, model = randomize(Recurrent(kind, directions)), recurrent(other, directions)
    plan = k3c.align(module, model, probe=probe).check()
    names = "r0 + r1" if directions == 1 else "b0 + b1"
    decided = "shape" if probe is False else "probe"
    assert found(plan) == {"rnn": (names, decided), "fc": ("d", decided)}
    k3c.transfer(module, model, plan, cast=True)
    k3c.validate(module, model, alignment=plan, proofs=["float64"]).raise_if_failed()


def test_a_third_layer_after_a_pair_of_two_is_a_problem() -> None:
    plan = k3c.align(Recurrent(nn.GRU, 1), recurrent(layers.GRU, 1, number=3))
    assert found(plan)["rnn"] == ("r0 + r1", "probe")  # its output equals torch's, whatever follows
    assert all(problem.keras.startswith("r2") for problem in plan.problems())
    assert plan.problems()


def test_a_sequence_that_fits_and_computes_something_else_is_unconfirmed() -> None:
    model = recurrent(layers.GRU, 1)
    model.get_layer("r1").cell.activation = keras.activations.relu
    pair = k3c.align(randomize(Recurrent(nn.GRU, 1)), model).of("rnn")
    assert pair is not None
    assert pair.unconfirmed
    assert pair.evidence[-1].detail == (
        "no other sequence of layers fits, but the output of the last layer differs from torch's"
    )


def test_two_sequences_that_fit_are_not_paired_without_a_run() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = Recurrent(nn.GRU, 1).rnn, Recurrent(nn.GRU, 1).rnn

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.one(x)[0] + self.two(x)[0]

    inputs = keras.Input((7, 4))
    both = [
        layers.GRU(5, return_sequences=True, name=f"{row}1")(
            layers.GRU(5, return_sequences=True, name=f"{row}0")(inputs)
        )
        for row in "ab"
    ]
    plan = k3c.align(Two(), keras.Model(inputs, layers.add(both)), probe=False)
    assert not {"one", "two"} & set(found(plan))
    assert plan.problems()


@pytest.mark.parametrize("probe", [None, False])
def test_two_convolutions_are_paired_with_a_separable_one(probe: bool | None) -> None:
    convolutions = (nn.Conv2d(3, 6, 3, groups=3, padding=1, bias=False), nn.Conv2d(6, 4, 1), nn.Conv2d(4, 2, 3))
    inputs = keras.Input((8, 8, 3))
    x = layers.SeparableConv2D(4, 3, depth_multiplier=2, padding="same", name="s")(inputs)
    model = keras.Model(inputs, layers.Conv2D(2, 3, name="c")(x))
    plan = k3c.align(randomize(nn.Sequential(*convolutions)), model, probe=probe).check()
    assert {torch: keras for torch, (keras, _) in found(plan).items()} == {"0 + 1": "s", "2": "c"}


def test_kernel_rows_are_kept_without_a_probe_if_both_models_flatten_the_same_shape() -> None:
    module = nn.Sequential(nn.Linear(4, 6), nn.Flatten(), nn.Linear(30, 2))
    parts = [keras.Input((5, 4)), keras.layers.Dense(6), keras.layers.Flatten(), keras.layers.Dense(2)]
    model = keras.Sequential(parts)
    k3c.transfer(module, model, k3c.align(module, model, probe=False).check())
    x = np.random.default_rng(0).standard_normal((2, 5, 4)).astype(np.float32)
    with torch.no_grad():
        wanted = module(torch.tensor(x)).numpy()
    assert np.abs(keras.ops.convert_to_numpy(model(x)) - wanted).max() < 1e-5


def test_the_order_of_rows_is_in_doubt_if_all_flattened_sizes_are_equal() -> None:
    module = nn.Sequential(nn.Linear(4, 5), nn.Flatten(), nn.Linear(25, 2))
    parts = [keras.Input((5, 4)), keras.layers.Dense(5), keras.layers.Flatten(), keras.layers.Dense(2)]
    model = keras.Sequential(parts)
    assert [pair.torch for pair in k3c.align(module, model, probe=False).unconfirmed] == ["2"]
    assert not k3c.align(module, model).unconfirmed
