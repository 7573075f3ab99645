"""Our own modules of torch: in models and files, copied into another, and what the laws cannot ask of them."""

import inspect
from pathlib import Path
from types import ModuleType

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.frameworks import torch_layers
from tests.models import randomize

VIDEO = 8 * np.random.default_rng(0).standard_normal((2, 3, 6, 5, 2)).astype("float32")


def copied() -> ModuleType:
    """The classes as a written-out model has them: their text, and torch."""
    module = ModuleType("model")
    text = [inspect.getsource(getattr(torch_layers, name)) for name in torch_layers.__all__]
    exec("\n\n".join(["import torch\nfrom torch import nn", *text]), vars(module))  # noqa: S102 - our own text
    return module


class Net(nn.Module):
    """Images over time, then steps, then three kinds of attention."""

    def __init__(self, layers: ModuleType) -> None:
        super().__init__()
        self.video = layers.ConvLSTM(2, 3, (3, 2), return_sequences=True, channels_last=True, padding="same")
        cells = (("LSTM", 5, "tanh", "sigmoid", True), ("GRU", 6, "tanh", "sigmoid", True))
        self.steps = layers.Recurrent(3, cells, return_sequences=True)
        self.stack = nn.LSTM(6, 6, num_layers=2, batch_first=True)
        self.grouped = layers.GroupedQueryAttention(6, 4, 2, 3)
        self.plain = layers.Attention(use_scale=True, score_mode="concat")
        self.additive = layers.AdditiveAttention(6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.steps(self.video(x).mean((2, 3)))
        x, _ = self.stack(x)
        x = x + self.grouped(x, x)
        return self.additive(x + self.plain(x, x), x)


def twin() -> keras.Model:
    inputs = keras.Input((3, 6, 5, 2))
    x = keras.layers.ConvLSTM2D(3, (3, 2), padding="same", return_sequences=True, name="video")(inputs)
    x = keras.ops.mean(x, (2, 3))
    cells = [keras.layers.LSTMCell(5), keras.layers.GRUCell(6)]
    x = keras.layers.RNN(cells, return_sequences=True, name="steps")(x)
    equal = [keras.layers.LSTMCell(6), keras.layers.LSTMCell(6)]
    x = keras.layers.RNN(equal, return_sequences=True, name="stack")(x)
    x = keras.layers.Add()([x, keras.layers.GroupQueryAttention(3, 4, 2, name="grouped")(x, x)])
    plain = keras.layers.Attention(use_scale=True, score_mode="concat", name="plain")([x, x])
    query = keras.layers.Add()([x, plain])
    return keras.Model(inputs, keras.layers.AdditiveAttention(name="additive")([query, x]))


NAMES = ("video", "steps", "stack", "grouped", "plain", "additive")


def certified(module: nn.Module, model: keras.Model) -> str:
    return k3c.validate(module, model, inputs=VIDEO, keras_inputs=VIDEO).tally


@pytest.mark.parametrize("layers", [torch_layers, copied()], ids=["imported", "copied"])
def test_our_modules_are_paired_with_the_layers_of_keras_and_proven(layers: ModuleType) -> None:
    module, model = randomize(Net(layers)), twin()
    plan = k3c.align(module, model, inputs=VIDEO, keras_inputs=VIDEO).check()
    assert {pair.torch: pair.keras for pair in plan.pairs} == {name: name for name in NAMES}
    k3c.transfer(module, model, plan)
    assert certified(module, model) == "7 passed"


def test_our_modules_are_filled_from_a_file(tmp_path: Path) -> None:
    model, module = twin(), randomize(Net(torch_layers))
    model.save(tmp_path / "model.keras")
    plan = k3c.align(module, tmp_path / "model.keras", inputs=VIDEO, keras_inputs=VIDEO).check()
    k3c.transfer(tmp_path / "model.keras", module, plan)
    assert certified(module, model) == "7 passed"


def test_a_bare_weight_file_tells_its_cells_and_projections_by_shapes_and_groups(tmp_path: Path) -> None:
    model, module = twin(), randomize(Net(torch_layers))
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    plan = k3c.align(module, path)
    # Two cells of different classes: the groups are counted for each class, so nothing tells which is below.
    assert {problem.keras.partition("/")[0] or problem.torch for problem in plan.problems()} == {"steps"}
    assert {pair.torch: pair.keras for pair in plan.pairs} == {name: name for name in NAMES if name != "steps"}
