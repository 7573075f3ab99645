"""The torch modules of keras3conv in models, in files and in generated code."""

import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.frameworks.torch import functions as torch_functions
from keras3conv.frameworks.torch import layers as torch_layers
from tests.support.models import randomize

VIDEO = 8 * np.random.default_rng(0).standard_normal((2, 3, 6, 5, 2)).astype("float32")


def copied() -> ModuleType:
    """Return the classes from their copied source code, as in a generated module."""
    module = ModuleType("model")
    text = [inspect.getsource(getattr(torch_functions, name)) for name in torch_functions.__all__]
    text += [inspect.getsource(getattr(torch_layers, name)) for name in torch_layers.__all__]
    imports = "import torch\nimport torch.nn.functional as F\nfrom torch import nn"
    exec("\n\n".join([imports, *text]), vars(module))  # noqa: S102 - our own text
    return module


class Net(nn.Module):
    """Recurrence over images, recurrence over steps, and three kinds of attention."""

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


@pytest.mark.slow
@pytest.mark.parametrize("layers", [torch_layers, copied()], ids=["imported", "copied"])
def test_modules_of_keras3conv_are_paired_with_keras_layers_and_pass_validation(layers: ModuleType) -> None:
    module, model = randomize(Net(layers)), twin()
    plan = k3c.align(module, model, inputs=VIDEO, keras_inputs=VIDEO).check()
    assert {pair.torch: pair.keras for pair in plan.pairs} == {name: name for name in NAMES}
    k3c.transfer(module, model, plan)
    assert certified(module, model) == "7 passed"


@pytest.mark.slow
def test_modules_of_keras3conv_are_filled_from_a_file(tmp_path: Path) -> None:
    model, module = twin(), randomize(Net(torch_layers))
    model.save(tmp_path / "model.keras")
    plan = k3c.align(module, tmp_path / "model.keras", inputs=VIDEO, keras_inputs=VIDEO).check()
    k3c.transfer(tmp_path / "model.keras", module, plan)
    assert certified(module, model) == "7 passed"


def test_cells_and_projections_in_a_file_of_weights_are_found_by_shapes_and_groups(tmp_path: Path) -> None:
    model, module = twin(), randomize(Net(torch_layers))
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    plan = k3c.align(module, path)
    # Two cells of different classes: the groups are counted for each class, so nothing tells which is below.
    assert {problem.keras.partition("/")[0] or problem.torch for problem in plan.problems()} == {"steps"}
    assert {pair.torch: pair.keras for pair in plan.pairs} == {name: name for name in NAMES if name != "steps"}


def own_layer(make: Any, *shape: int, times: int = 1, as_list: bool = False) -> tuple[keras.Model, Any]:
    """Return a model of one layer with random weights, and an input."""
    random = np.random.default_rng(2)
    inputs = keras.Input(shape)
    model = keras.Model(inputs, make([inputs] * times) if as_list else make(*[inputs] * times))
    for variable in model.trainable_variables:
        variable.assign(random.uniform(-0.7, 0.7, tuple(variable.shape)))
    return model, random.standard_normal((2, *shape)).astype("float32")


CONVERTED: dict[str, Any] = {
    "Recurrent": lambda: own_layer(keras.layers.RNN([keras.layers.LSTMCell(5), keras.layers.GRUCell(4)]), 4, 3),
    "Recurrent backwards": lambda: own_layer(
        keras.layers.GRU(5, reset_after=False, go_backwards=True, return_sequences=True), 4, 3
    ),
    "Recurrent LSTM backwards": lambda: own_layer(keras.layers.LSTM(5, go_backwards=True), 4, 3),
    "Normalization": lambda: own_layer(
        keras.layers.Normalization(mean=[0.3, 1.7, -2.1], variance=[0.1, 0.7, 2.3]), 4, 3
    ),
    "Normalization of two axes": lambda: own_layer(keras.layers.Normalization(axis=(1, 2)), 4, 3),
    "ConvLSTM": lambda: own_layer(keras.layers.ConvLSTM2D(3, 2, strides=2, return_sequences=True), 3, 6, 5, 2),
    "ConvLSTM same": lambda: own_layer(keras.layers.ConvLSTM1D(3, 2, padding="same"), 3, 6, 2),
    "GroupedQueryAttention": lambda: own_layer(keras.layers.GroupQueryAttention(3, 4, 2), 5, 6, times=2),
    "Attention": lambda: own_layer(keras.layers.Attention(use_scale=True), 5, 6, times=2, as_list=True),
    "AdditiveAttention": lambda: own_layer(keras.layers.AdditiveAttention(), 5, 6, times=3, as_list=True),
}


@pytest.mark.parametrize("name", CONVERTED)
def test_a_converted_model_contains_the_module_of_keras3conv_and_passes_validation(name: str) -> None:
    model, inputs = CONVERTED[name]()
    conversion = k3c.convert(model, inputs=inputs)
    assert f"class {name.partition(' ')[0]}(nn.Module):" in conversion.source
    assert conversion.report is not None
    conversion.report.raise_if_failed()
    # What has no configuration to compare, or nothing that is trained, has nothing to be judged there.
    skipped = {section.name for section in conversion.report.sections if section.status == "skipped"}
    assert skipped == ({"gradients"} if name.startswith("Normalization") else set())
