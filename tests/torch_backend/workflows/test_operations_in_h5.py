"""An HDF5 file of a whole model that Keras 3 wrote is read although it has no modules for operations between layers."""

from collections.abc import Callable
from pathlib import Path

import keras
import pytest
from keras import layers, ops

import keras3conv as k3c
from keras3conv.errors import UnsupportedLayerError
from keras3conv.frameworks.keras.operations_in_files import operations_in


def masked() -> keras.Model:
    """Return a model whose mask is computed by operations, `NotEqual` and `Any`, which Keras lists in the file."""
    steps = keras.Input((6, 4))
    return keras.Model(steps, layers.Dense(3)(layers.LSTM(8)(layers.Masking()(steps))))


def with_equal_names() -> keras.Model:
    """Return a model with operations that have the names of layers, next to these layers, and a model inside it."""
    inner_input = keras.Input((6, 4))
    x = layers.Add()([layers.Dense(4)(inner_input), inner_input]) + 1
    x = layers.ReLU()(keras.activations.relu(x, negative_slope=0.2)) * inner_input
    inner = keras.Model(inner_input, ops.concatenate([layers.Softmax()(x), inner_input], axis=-1), name="inner")
    steps = keras.Input((6, 4))
    return keras.Model(steps, layers.Dense(2)(ops.mean(inner(steps), axis=1)[:, 1:]))


@pytest.mark.parametrize("make", [masked, with_equal_names])
def test_a_model_with_operations_in_an_h5_is_converted_with_proof(
    make: Callable[[], keras.Model], tmp_path: Path
) -> None:
    model = make()
    model.save(tmp_path / "net.h5")
    conversion = k3c.convert(tmp_path / "net.h5")
    k3c.validate(conversion.model, model).raise_if_failed()


def test_keras_itself_cannot_load_such_a_file(tmp_path: Path) -> None:
    masked().save(tmp_path / "net.h5")
    with pytest.raises(ValueError, match="Unknown layer: 'NotEqual'"):
        keras.saving.load_model(tmp_path / "net.h5")


def test_only_the_operations_in_a_file_are_named(tmp_path: Path) -> None:
    masked().save(tmp_path / "net.h5")
    assert set(operations_in(tmp_path / "net.h5")) == {"NotEqual", "Any"}
    masked().save(tmp_path / "net.keras")
    assert operations_in(tmp_path / "net.keras") == {}


def test_a_class_of_the_user_stays_unknown(tmp_path: Path) -> None:
    class Own(layers.Layer):
        def call(self, x: object) -> object:
            return x

    steps = keras.Input((4,))
    keras.Model(steps, Own()(steps) + 1).save(tmp_path / "net.h5")
    with pytest.raises(UnsupportedLayerError, match="the class Own is not part of Keras"):
        k3c.convert(tmp_path / "net.h5")
