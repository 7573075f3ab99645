"""The variables of a converted model: none is lost, and frozen ones stay frozen."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch

import keras3conv as k3c
from keras3conv.builder.source.frozen import shortest
from keras3conv.errors import UnsupportedLayerError
from keras3conv.frameworks.keras import influence as keras_influence
from tests.torch_backend.builder.test_convert import randomised

layers = keras.layers


class ByValue(keras.layers.Layer):
    """A layer whose call reads the values of a variable, hidden from the trace."""

    def build(self, shape: Any) -> None:
        hidden = self.add_weight(shape=(shape[-1],), name="hidden")
        self.hidden = lambda: keras.ops.convert_to_numpy(hidden)
        self.unused = self.add_weight(shape=(2,), name="unused")

    def call(self, inputs: Any) -> Any:
        return keras.ops.multiply(inputs, self.hidden())


class Closed(ByValue):
    """A `ByValue` layer multiplied by a scale of zero, so that with the model's own weights the outputs ignore it."""

    def build(self, shape: Any) -> None:
        super().build(shape)
        self.scale = self.add_weight(shape=(shape[-1],), name="scale", initializer="zeros")

    def call(self, inputs: Any) -> Any:
        return super().call(inputs) * self.scale


@pytest.mark.parametrize("kind", [ByValue, Closed])
@pytest.mark.parametrize("validate", [True, False])
def test_a_variable_whose_values_a_call_reads_is_refused(kind: Any, validate: bool) -> None:
    given = keras.Input((4,))
    model = keras.Model(given, kind(name="own")(layers.Dense(3, name="dense")(given)), name="reader")
    before = [np.array(value) for value in model.get_weights()]
    with pytest.raises(UnsupportedLayerError, match="1 problem in reader") as caught:
        k3c.convert(model, validate=validate)
    assert "own/hidden" in str(caught.value)
    assert "own/unused" not in str(caught.value)
    for value, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, old)


def test_without_the_check_the_variable_would_become_a_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    for check in ("influential", "read_by_value"):
        monkeypatch.setattr(keras_influence, check, lambda *given: ())
    given = keras.Input((4,))
    model = keras.Model(given, ByValue(name="own")(given), name="reader")
    conversion = k3c.convert(randomised(model))
    assert conversion.report is not None
    assert conversion.report.ok
    assert not [*conversion.model.parameters()]


def test_an_unused_variable_is_ignored_in_the_plan() -> None:
    class Spare(keras.layers.Layer):
        def build(self, shape: Any) -> None:
            self.spare = self.add_weight(shape=(2,), name="spare")
            self.count = self.add_weight(shape=(), dtype="int32", initializer="zeros", trainable=False, name="count")

        def call(self, inputs: Any) -> Any:
            return keras.ops.relu(inputs)

    given = keras.Input((4,))
    conversion = k3c.convert(keras.Model(given, Spare(name="own")(layers.Dense(3)(given))), validate=False)
    ignored = {ignored.path: ignored.reason for ignored in conversion.alignment.ignored}
    assert ignored == dict.fromkeys(("own/spare", "own/count"), "no output of the Keras model depends on it")


def partly_frozen() -> keras.Model:
    given = keras.Input((8, 8, 3))
    x = given
    for place in range(3):
        x = layers.Conv2D(4, 3, padding="same", name=f"stage{place}_conv")(x)
        x = layers.BatchNormalization(name=f"stage{place}_norm")(x)
        x = layers.ReLU(name=f"stage{place}_relu")(x)
    x = layers.BatchNormalization(center=False, scale=False, name="plain")(x)
    model = keras.Model(given, layers.Dense(2, name="head")(layers.GlobalAveragePooling2D()(x)), name="partly")
    for name in ("stage0_conv", "stage0_norm", "stage1_norm", "plain"):
        model.get_layer(name).trainable = False
    return model


def trainable_numbers(model: keras.Model) -> int:
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


def test_parameters_that_are_frozen_in_keras_are_frozen_in_torch(tmp_path: Path) -> None:
    model = randomised(partly_frozen())
    conversion = k3c.convert(model)
    assert conversion.report is not None
    conversion.report.raise_if_failed()
    parameters = dict(conversion.model.named_parameters())
    assert sum(one.numel() for one in parameters.values() if one.requires_grad) == trainable_numbers(model)
    assert "requires_grad_(False)" in conversion.source
    conversion.save(tmp_path / "folder")
    metadata = json.loads((tmp_path / "folder" / "metadata.json").read_text())
    assert metadata["trainable_parameters"] == trainable_numbers(model)
    assert metadata["frozen"] == [path for path, one in parameters.items() if not one.requires_grad]


def test_a_frozen_batch_normalization_keeps_its_statistics_in_training_like_in_keras() -> None:
    model = randomised(partly_frozen())
    module = k3c.convert(model, validate=False).model.train()
    images = np.random.default_rng(0).standard_normal((4, 8, 8, 3)).astype("float32")
    with torch.no_grad():
        found = module(torch.from_numpy(images.transpose(0, 3, 1, 2)))
        expected = model(images, training=True)
    np.testing.assert_allclose(found.numpy(), expected.detach().numpy(), rtol=1e-4, atol=1e-5)
    again = k3c.convert(model, validate=False).model
    moved = [path for path, value in module.state_dict().items() if not torch.equal(value, again.state_dict()[path])]
    assert {path.rpartition(".")[2] for path in moved} == {"running_mean", "running_var", "num_batches_tracked"}
    assert len(moved) == 3


def test_an_entirely_frozen_model_is_frozen_in_one_line() -> None:
    model = partly_frozen()
    model.trainable = False
    conversion = k3c.convert(model, validate=False)
    assert "        self.requires_grad_(False)\n" in conversion.source
    assert not any(parameter.requires_grad for parameter in conversion.model.parameters())
    assert not any(part.training for part in conversion.model.train().modules() if "BatchNorm" in type(part).__name__)


def test_the_shortest_paths_contain_exactly_the_chosen_ones() -> None:
    every = ["a.x.weight", "a.x.bias", "a.y.weight", "b.weight", "b.bias", "c"]
    assert shortest({"a.x.weight", "a.x.bias", "a.y.weight"}, every) == ("a",)
    assert shortest({"a.x.weight", "a.x.bias", "b.bias", "c"}, every) == ("a.x", "b.bias", "c")
    assert shortest(set(), every) == ()
    assert shortest({*every}, every) == ("",)


def test_a_scale_that_keras_does_not_have_is_frozen_in_torch() -> None:
    given = keras.Input((8, 8, 3))
    x = layers.BatchNormalization(scale=False, name="norm")(layers.Conv2D(4, 3, name="conv")(given))
    model = randomised(keras.Model(given, x))
    conversion = k3c.convert(model)
    assert conversion.report is not None
    conversion.report.raise_if_failed()
    assert [path for path, one in conversion.model.named_parameters() if not one.requires_grad] == ["norm.weight"]
    assert sum(one.numel() for one in conversion.model.parameters() if one.requires_grad) == trainable_numbers(model)


def test_the_scales_of_many_normalizations_are_frozen_in_one_loop() -> None:
    given = x = keras.Input((8, 8, 3))
    for place in range(5):
        x = layers.Conv2D(4, 1 + 2 * place, padding="same", name=f"stage{place}_conv")(x)
        x = layers.BatchNormalization(scale=False, name=f"stage{place}_norm")(x)
    model = randomised(keras.Model(given, x))
    conversion = k3c.convert(model)
    assert conversion.report is not None
    conversion.report.raise_if_failed()
    assert conversion.source.count("requires_grad_") == 1
    parameters = dict(conversion.model.named_parameters())
    assert [path for path, one in parameters.items() if not one.requires_grad] == [
        path for path in parameters if "norm" in path and path.endswith("weight")
    ]
    assert sum(one.numel() for one in parameters.values() if one.requires_grad) == trainable_numbers(model)


def test_frozen_scales_are_listed_if_another_scale_is_trained() -> None:
    given = x = keras.Input((8, 8, 3))
    for place in range(3):
        x = layers.BatchNormalization(scale=place == 1, name=f"norm{place}")(x)
    conversion = k3c.convert(randomised(keras.Model(given, x)), validate=False)
    frozen = [path for path, one in conversion.model.named_parameters() if not one.requires_grad]
    assert frozen == ["norm0.weight", "norm2.weight"]
