"""The diagnosis names planted mistakes in the activations, weights and outputs of recurrent layers."""

from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers
from torch import nn

from tests.support.planted.decoder import STEPS
from tests.support.planted.networks import Tamper, first_problem

KERAS_2 = "Keras hard_sigmoid of Keras 2, clip(0.2 x + 0.5) and tanh"


class Recurrent(nn.Module):
    """A recurrent layer between two linear ones; the head takes its last output, or its last states."""

    def __init__(self, kind: str, both: bool = False, ends: str = "") -> None:
        super().__init__()
        self.first = nn.Linear(8, 6)
        self.rnn = getattr(nn, kind)(6, 5, batch_first=True, bidirectional=both)
        self.head = nn.Linear(10 if both else 5, 4)
        self.ends = ends

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs, state = self.rnn(self.first(x))
        hidden = state[0] if isinstance(state, tuple) else state
        return self.head(torch.cat([hidden[0], hidden[1]], -1) if self.ends == "states" else outputs[:, -1])


def recurrent(kind: str, *, both: bool = False, taken: str = "last", **options: Any) -> keras.Model:
    """Return the Keras counterpart of `Recurrent`; the head takes the last output, the last state or the cell state."""
    inputs = keras.Input((STEPS, 8))
    x = layers.Dense(6, name="first")(inputs)
    named = {} if both else {"name": "rnn"}
    states = {"return_sequences": taken == "last", "return_state": taken == "cell"}
    layer = getattr(layers, kind)(5, **states, **named, **options)
    x = (layers.Bidirectional(layer, name="rnn") if both else layer)(x)
    x = {"last": lambda: x[:, -1], "cell": lambda: x[2], "state": lambda: x}[taken]()
    return keras.Model(inputs, layers.Dense(4, name="head")(x))


def steps() -> torch.Tensor:
    return torch.randn(3, STEPS, 8, generator=torch.Generator().manual_seed(1))


def of_keras_2(x: Any) -> Any:
    return keras.ops.clip(0.2 * x + 0.5, 0, 1)


@pytest.mark.parametrize(
    ("torch_kind", "keras_kind", "options", "cause", "fix"),
    [
        (
            "LSTM",
            "LSTM",
            {"recurrent_activation": "hard_sigmoid"},
            "Keras hard_sigmoid and tanh",
            'recurrent_activation="sigmoid"  # Keras: of',
        ),
        ("LSTM", "LSTM", {"recurrent_activation": of_keras_2}, KERAS_2, 'recurrent_activation="sigmoid"'),
        ("GRU", "GRU", {"activation": "relu"}, "Keras sigmoid and relu", 'activation="tanh"'),
        (
            "RNN",
            "SimpleRNN",
            {"activation": "relu"},
            "torch has tanh for the state, Keras relu",
            'activation="tanh"  # Keras: of',
        ),
    ],
)
def test_another_activation_inside_a_recurrent_layer_is_named(
    torch_kind: str, keras_kind: str, options: dict[str, Any], cause: str, fix: str
) -> None:
    problem = first_problem(Recurrent(torch_kind), recurrent(keras_kind, **options), steps())
    assert (problem.torch, cause in problem.fact) == ("rnn", True), problem
    assert any(fix in line for line in problem.fixes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "plant", "cause", "fix"),
    [
        (
            {},
            {"taken": "cell"},
            "torch uses the hidden state of the LSTM, Keras the cell state",
            "hidden, cell",
        ),
        (
            {"both": True, "ends": "states"},
            {"both": True},
            "Keras takes the backward output at the last time step, where it starts",
            "return_sequences=False in the Bidirectional",
        ),
        (
            {"both": True},
            {"both": True, "taken": "state"},
            "Keras takes the backward output at the first time step, where it ends",
            "return_sequences=True in the Bidirectional",
        ),
    ],
)
def test_another_output_or_state_of_a_recurrent_layer_is_named(
    module: dict[str, Any], plant: dict[str, Any], cause: str, fix: str
) -> None:
    problem = first_problem(Recurrent("LSTM", **module), recurrent("LSTM", **plant), steps())
    assert (problem.torch, cause in problem.fact) == ("head", True), problem
    assert any(fix in line for line in problem.fixes)


def transposed(model: keras.Model) -> None:
    _, kernel, _ = model.get_layer("rnn").weights
    gates = np.split(np.array(kernel.value.detach()), 4, -1)
    kernel.assign(np.concatenate([gate.T for gate in gates], -1))


def with_higher_forget_bias(model: keras.Model) -> None:
    *_, bias = model.get_layer("rnn").weights
    bias.assign(np.array(bias.value.detach()) + np.repeat([0, 1, 0, 0], 5))


def exchanged(model: keras.Model) -> None:
    weights = model.get_layer("rnn").weights
    values = [np.array(weight.value.detach()) for weight in weights]
    for weight, value in zip(weights, [*values[3:], *values[:3]], strict=True):
        weight.assign(value)


@pytest.mark.parametrize(
    ("both", "tamper", "cause"),
    [
        (False, transposed, "the recurrent kernel is transposed, gate by gate"),
        (False, with_higher_forget_bias, "the bias of the forget gate is 1 higher in Keras"),
        (True, exchanged, "the weights of the two directions are swapped"),
    ],
)
def test_a_mistake_in_the_weights_of_a_recurrent_layer_is_named(both: bool, tamper: Tamper, cause: str) -> None:
    module, model = Recurrent("LSTM", both), recurrent("LSTM", both=both)
    problem = first_problem(module, model, steps(), tamper)
    assert (problem.torch, cause in problem.fact) == ("rnn", True), problem
    assert problem.fixes[0].startswith('plan = plan.pair("rnn", "rnn")')
