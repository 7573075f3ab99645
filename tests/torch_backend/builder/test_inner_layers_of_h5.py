"""A legacy `.h5` with layers that make layers of their own, whose classes the file does not state, is converted."""

from collections.abc import Callable
from pathlib import Path

import keras
import pytest
from keras import layers

import keras3conv as k3c
from tests.support.models import randomize


def attention(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.MultiHeadAttention(2, 3)(x, x)


def grouped_attention(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.GroupQueryAttention(4, 4, 2)(x, x)


def stacked_cells(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.RNN([layers.LSTMCell(4), layers.GRUCell(5)], return_sequences=True)(x)


def both_directions(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.Bidirectional(layers.GRU(4, return_sequences=True))(x)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("layer", [attention, grouped_attention, stacked_cells, both_directions])
def test_a_legacy_file_with_inner_layers_is_converted(
    layer: Callable[[keras.KerasTensor], keras.KerasTensor], tmp_path: Path
) -> None:
    inputs = keras.Input((5, 8))
    model = keras.Model(inputs, layers.Dense(2)(layer(layers.Dense(8)(inputs))))
    randomize(model)
    model.save(tmp_path / "model.h5")
    report = k3c.convert(tmp_path / "model.h5").report
    assert report is not None
    report.raise_if_failed()
