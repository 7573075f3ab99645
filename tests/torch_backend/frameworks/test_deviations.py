"""Layers that Keras' torch backend computes differently from TensorFlow are named in the report."""

import keras
import numpy as np
import pytest
from keras import layers

import keras3conv as k3c
from keras3conv.frameworks.keras.adapter import deviations


def model(size: int | None, window: int, stride: int) -> keras.Model:
    inputs = keras.Input((size, 2))
    return keras.Model(inputs, layers.AveragePooling1D(window, stride, padding="same", name="average")(inputs))


@pytest.mark.parametrize(("size", "window", "stride"), [(10, 3, 2), (7, 4, 1), (None, 3, 2)])
def test_an_average_that_is_padded_more_at_its_end_is_named(size: int | None, window: int, stride: int) -> None:
    assert [problem.keras for problem in deviations(model(size, window, stride))] == ["average"]


@pytest.mark.parametrize(("size", "window", "stride"), [(9, 3, 2), (10, 2, 2), (10, 3, 1), (9, 2, 2)])
def test_an_average_that_is_the_same_on_every_backend_is_not_named(size: int, window: int, stride: int) -> None:
    found = list(deviations(model(size, window, stride)))
    assert found == []
    values = np.arange(2 * size, dtype=np.float32).reshape(1, size, 2)
    padding = max((-(-size // stride) - 1) * stride + window - size, 0)
    padded = np.pad(values, ((0, 0), (padding // 2, padding - padding // 2), (0, 0)), constant_values=np.nan)
    starts = range(0, -(-size // stride) * stride, stride)
    expected = np.stack([np.nanmean(padded[:, start : start + window], axis=1) for start in starts], axis=1)
    result = keras.ops.convert_to_numpy(model(size, window, stride)(values))
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_a_failed_certificate_says_that_the_backend_differs() -> None:
    report = k3c.convert(model(10, 3, 2)).report
    assert report is not None
    assert not report.ok
    assert any(note.startswith("average: Keras' torch backend repeats the last value") for note in report.notes)
