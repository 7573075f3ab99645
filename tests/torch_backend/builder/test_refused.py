"""All problems of a conversion are in one message, and the code that it suggests works."""

import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch

import keras3conv as k3c
from keras3conv.errors import UnsupportedLayerError
from tests.support.registered import keep_rules
from tests.torch_backend.builder.test_convert import randomised

layers = keras.layers

MY_LAYER = """
import torch
from torch import nn

class MyLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.ones(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.table
"""


class Values(keras.layers.Layer):
    """A call that cannot be traced because it reads values."""

    def build(self, shape: Any) -> None:
        self.table = self.add_weight(shape=(shape[-1],), name="table")

    def call(self, inputs: Any) -> Any:
        if isinstance(self.table, keras.KerasTensor):
            np.asarray(self.table)
        return inputs * self.table


class ByValue(keras.layers.Layer):
    """A call that turns a variable into a constant."""

    def build(self, shape: Any) -> None:
        hidden = self.add_weight(shape=(shape[-1],), name="hidden")
        self.read = lambda: keras.ops.convert_to_numpy(hidden)

    def call(self, inputs: Any) -> Any:
        return keras.ops.multiply(inputs, self.read())


def everything() -> keras.Model:
    given = keras.Input((None, None, 4), name="image")
    x = layers.Lambda(lambda value: value * 2, name="twice")(given)
    x = Values(name="values")(x)
    gaps = keras.ops.nanmax(x, axis=-1)
    x = layers.AveragePooling2D(3, 2, padding="same", name="strided")(x)
    return keras.Model(given, [ByValue(name="reads")(x), gaps], name="everything")


def refused(model: Any) -> str:
    with pytest.raises(UnsupportedLayerError) as caught:
        k3c.convert(model)
    return str(caught.value)


def test_a_layer_an_operation_a_size_and_a_hidden_variable_are_in_one_message() -> None:
    said = refused(everything())
    assert said.startswith("4 problems in everything (keras)")
    for part in ("values ", "nanmax", "strided", "give inputs=", "reads/hidden"):
        assert part in said


class Sampling(keras.layers.Layer):
    """The layer of a variational autoencoder that draws a latent vector."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.seed_generator = keras.random.SeedGenerator(1)

    def call(self, inputs: Any) -> Any:
        mean, log_variance = inputs
        noise = keras.random.normal(keras.ops.shape(mean), seed=self.seed_generator)
        return mean + keras.ops.exp(0.5 * log_variance) * noise


def test_a_layer_that_draws_random_numbers_is_refused_with_that_reason_alone() -> None:
    given = keras.Input((4,))
    hidden = layers.Dense(3)(given)
    latent = Sampling(name="sampling")([layers.Dense(2)(hidden), layers.Dense(2)(hidden)])
    said = refused(keras.Model(given, layers.Dense(4)(latent)))
    assert said.startswith("1 problem in ")
    assert "sampling  (keras)  keras.random.normal draws random numbers in inference mode too" in said


def test_a_lambda_layer_of_a_file_is_in_the_same_message(tmp_path: Path) -> None:
    everything().save(tmp_path / "model.keras")
    said = refused(tmp_path / "model.keras")
    assert said.startswith("4 problems in model.keras")
    for part in ("twice ", "values ", "nanmax", "reads ", "no code is ever run from a file", "get_custom_objects"):
        assert part in said


def test_the_suggested_line_registers_an_unknown_class(tmp_path: Path) -> None:
    class Gain(keras.layers.Layer):
        def build(self, shape: Any) -> None:
            self.gain = self.add_weight(shape=(shape[-1],), name="gain")

        def call(self, inputs: Any) -> Any:
            return inputs * self.gain

    given = keras.Input((4,))
    randomised(keras.Model(given, Gain(name="own")(given))).save(tmp_path / "model.keras")
    line = re.search(r"keras\.saving\.get_custom_objects\(\).*? = \w+", refused(tmp_path / "model.keras"))
    assert line
    try:
        exec(line.group(), {"keras": keras, "Gain": Gain})  # noqa: S102 - our own message
        conversion = k3c.convert(tmp_path / "model.keras")
    finally:
        keras.saving.get_custom_objects().pop("Gain", None)
    assert conversion.report is not None
    conversion.report.raise_if_failed()


def test_the_suggested_rule_works_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_package.py").write_text(MY_LAYER)
    monkeypatch.syspath_prepend(str(tmp_path))
    given = keras.Input((4,))
    model = randomised(keras.Model(given, layers.Dense(3, name="dense")(Values(name="values")(given))))
    said = refused(model)
    pasted = said.partition("Fix:  ")[2]
    take_back = keep_rules()
    try:
        exec(pasted, {"k3c": k3c})  # noqa: S102 - our own message
        conversion = k3c.convert(model)
    finally:
        take_back()
    assert "from my_package import MyLayer" in conversion.source
    assert conversion.report is not None
    conversion.report.raise_if_failed()
    table = model.get_layer("values").table
    assert torch.equal(conversion.model.values.table, torch.as_tensor(keras.ops.convert_to_numpy(table)))


def test_operations_between_the_layers_of_a_file_are_known_classes(tmp_path: Path) -> None:
    given = keras.Input((6, 4))
    x = keras.ops.matmul(layers.Dense(4)(given), keras.ops.transpose(given, (0, 2, 1)))
    model = randomised(keras.Model(given, keras.ops.max(keras.ops.softmax(x)[:, 1:] / 2.0, axis=1)))
    model.save(tmp_path / "model.keras")
    conversion = k3c.convert(tmp_path / "model.keras")
    assert conversion.report is not None
    conversion.report.raise_if_failed()


def test_every_layer_with_mixed_precision_is_refused_with_a_fix() -> None:
    given = keras.Input((4,))
    x = layers.Dense(4, dtype="mixed_float16", name="half")(given)
    said = refused(keras.Model(given, layers.Dense(2, dtype="float32", name="whole")(x), name="both"))
    assert said.startswith("1 problem in both (keras)")
    assert "half" in said
    assert 'layer.dtype_policy = "float32"' in said


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "SimpleRNN", "ConvLSTM1D"])
def test_a_stateful_layer_is_refused_with_what_to_do_instead(kind: str) -> None:
    is_image = kind == "ConvLSTM1D"
    given = keras.Input(batch_shape=(2, 5, 6, 3) if is_image else (2, 5, 3))
    layer = getattr(layers, kind)(4, *([3] if is_image else []), stateful=True, name="memory")
    with pytest.raises(UnsupportedLayerError, match="memory") as caught:
        k3c.convert(keras.Model(given, layer(given)))
    assert "a torch layer keeps no state between calls" in str(caught.value)
    assert "as initial_state" in str(caught.value)
