"""Every judge on every backend of Keras: a correct pair passes, and each planted mistake fails its judge."""

from collections.abc import Callable

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.report.report import Report
from keras3conv.transforms import Array
from tests.support.models import randomize


class TwoHeads(nn.Module):
    """Two inputs, two named outputs, a residual connection, a padding that is a separate layer in Keras."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(4, eps=1e-3, momentum=0.1)
        self.again = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.side = nn.Linear(5, 4)
        self.left = nn.Linear(8, 3)
        self.right = nn.Linear(8, 2)

    def forward(self, image: torch.Tensor, table: torch.Tensor) -> dict[str, torch.Tensor]:
        x = torch.relu(self.norm(self.conv(image)))
        x = (x + self.again(x)).mean((2, 3))
        x = torch.cat([x, torch.tanh(self.side(table))], -1)
        return {"left": self.left(x), "right": torch.sigmoid(self.right(x))}


def twin(*, epsilon: float = 1e-3, momentum: float = 0.9, squash: str = "sigmoid") -> keras.Model:
    image, table = keras.Input((8, 9, 3), name="image"), keras.Input((5,), name="table")
    x = keras.layers.Conv2D(4, 3, strides=2, name="conv")(keras.layers.ZeroPadding2D(1)(image))
    x = keras.layers.BatchNormalization(epsilon=epsilon, momentum=momentum, name="norm")(x)
    x = keras.layers.ReLU()(x)
    x = x + keras.layers.Conv2D(4, 3, padding="same", use_bias=False, name="again")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Concatenate()([x, keras.layers.Dense(4, activation="tanh", name="side")(table)])
    heads = {
        "left": keras.layers.Dense(3, name="left")(x),
        "right": keras.layers.Dense(2, activation=squash, name="right")(x),
    }
    return keras.Model([image, table], heads, name="twin")


def inputs() -> tuple[Array, Array]:
    random = np.random.default_rng(1)
    return random.standard_normal((3, 3, 8, 9)).astype("float32"), random.standard_normal((3, 5)).astype("float32")


def judged(model: keras.Model, **options: object) -> Report:
    """Transfer the weights and return the report of the validation."""
    module = randomize(TwoHeads())
    plan = k3c.align(module, model, inputs=inputs()).accepting_difference().check()
    k3c.transfer(module, model, plan)
    return k3c.validate(module, model, inputs=inputs(), alignment=plan, **options)  # type: ignore[arg-type]


def failed(report: Report) -> set[str]:
    return {section.name for section in report.with_status("failed")}


def test_a_correct_pair_with_two_inputs_and_named_outputs_passes_every_judge() -> None:
    report = judged(twin(), training=True)
    report.raise_if_failed()
    assert report.tally == "7 passed"
    assert "one step in training mode" in report.section("gradients").summary
    assert "moving statistics not compared" not in report.section("gradients").facts
    assert "proven by float64" in report.section("hyperparameters").summary, "the padding is a separate layer in Keras"


@pytest.mark.parametrize(
    ("model", "caught_by"),
    [
        (lambda: twin(epsilon=1.001e-3), {"hyperparameters", "float64", "gradients"}),
        (lambda: twin(squash="tanh"), {"float64", "outputs", "gradients"}),
    ],
    ids=["epsilon", "activation"],
)
def test_a_planted_mistake_is_caught(model: Callable[[], keras.Model], caught_by: set[str]) -> None:
    assert failed(judged(model())) == caught_by


def test_a_different_momentum_is_a_warning_and_fails_with_training() -> None:
    report = judged(twin(momentum=0.1))
    report.raise_if_failed()
    assert "momentum: 0.1 in torch, 0.1 in Keras" in report.section("hyperparameters").facts["differs in training only"]
    strict = judged(twin(momentum=0.1), training=True)
    assert failed(strict) == {"hyperparameters", "gradients"}
    assert strict.section("hyperparameters").problems[0].fixes[-1] == "momentum=0.9  # Keras: norm"


def test_validation_leaves_the_model_unchanged() -> None:
    module, model = randomize(TwoHeads()), twin()
    plan = k3c.align(module, model, inputs=inputs()).check()
    k3c.transfer(module, model, plan)
    before = [np.array(keras.ops.convert_to_numpy(variable)) for variable in model.variables]
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    k3c.validate(module, model, inputs=inputs(), alignment=plan)
    after = [np.array(keras.ops.convert_to_numpy(variable)) for variable in model.variables]
    assert all(np.array_equal(*pair) and pair[0].dtype == pair[1].dtype for pair in zip(before, after, strict=True))
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in module.parameters())
    assert keras.config.floatx() == "float32"


class Recurrent(nn.Module):
    """An LSTM that returns its output at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 3, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.lstm(x)[0]
        return found


def test_the_state_of_a_recurrent_layer_is_named_and_restored() -> None:
    steps = keras.Input(batch_shape=(2, 5, 4))
    layer = keras.layers.LSTM(3, return_sequences=True, stateful=True, name="lstm")
    module, model = randomize(Recurrent()), keras.Model(steps, layer(steps))
    given = np.random.default_rng(0).standard_normal((2, 5, 4)).astype("float32")
    plan = k3c.align(module, model, inputs=given).check()
    k3c.transfer(module, model, plan)
    report = k3c.validate(module, model, inputs=given, alignment=plan)
    report.raise_if_failed()
    assert report.section("outputs").facts["state in Keras"].startswith("lstm/states.0, lstm/states.1 (changed by a")
    assert all(not np.any(keras.ops.convert_to_numpy(state)) for state in layer.states)


def test_the_state_of_an_earlier_call_has_no_effect_and_is_restored() -> None:
    steps = keras.Input(batch_shape=(2, 5, 4))
    layer = keras.layers.LSTM(3, return_sequences=True, stateful=True, name="lstm")
    module, model = randomize(Recurrent()), keras.Model(steps, layer(steps))
    given = np.random.default_rng(0).standard_normal((2, 5, 4)).astype("float32")
    model(given)
    before = [np.array(keras.ops.convert_to_numpy(state)) for state in layer.states]
    plan = k3c.align(module, model, inputs=given).check()
    assert not plan.difference
    k3c.transfer(module, model, plan)
    k3c.validate(module, model, inputs=given, alignment=plan).raise_if_failed()
    for state, old in zip(layer.states, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(state), old)
