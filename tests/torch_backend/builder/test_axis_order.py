"""The order of the axes of sequences in converted modules: Keras' order, unless the module takes them in another."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers

import keras3conv as k3c
from keras3conv.report.headline import key_facts
from keras3conv.report.report import Report
from tests.torch_backend.builder.test_convert import randomised

STEPS, FEATURES, TAGS = 9, 5, 3


def sequential(*parts: keras.layers.Layer) -> keras.Model:
    return keras.Sequential([keras.Input((STEPS, FEATURES)), *parts])


def of_tokens(*parts: keras.layers.Layer) -> keras.Model:
    return keras.Sequential([keras.Input((STEPS,), dtype="int32"), layers.Embedding(20, 6), *parts])


def bidirectional_tagger() -> keras.Model:
    lstm = layers.Bidirectional(layers.LSTM(4, return_sequences=True))
    return sequential(lstm, layers.BatchNormalization(), layers.Dense(TAGS, activation="softmax"))


def gru_tagger_that_ends_in_a_normalization() -> keras.Model:
    return sequential(layers.GRU(4, return_sequences=True), layers.Dense(TAGS), layers.BatchNormalization())


def attention_tagger() -> keras.Model:
    x = keras.Input((STEPS, FEATURES))
    y = layers.BatchNormalization()(x)
    y = layers.Add()([y, layers.MultiHeadAttention(2, 3)(y, y)])
    y = layers.BatchNormalization()(y)
    return keras.Model(x, layers.Dense(TAGS, activation="softmax")(y))


def tagger_with_group_normalization() -> keras.Model:
    return sequential(
        layers.Dense(4), layers.GroupNormalization(2), layers.BatchNormalization(), layers.ReLU(), layers.Dense(TAGS)
    )


def tagger_of_tokens() -> keras.Model:
    return of_tokens(layers.LSTM(4, return_sequences=True), layers.BatchNormalization(), layers.Dense(TAGS))


def convolution_over_tokens() -> keras.Model:
    convolution = layers.Conv1D(4, 3, padding="same")
    return of_tokens(layers.BatchNormalization(), convolution, layers.BatchNormalization(), layers.Dense(TAGS))


def tagger_with_two_outputs() -> keras.Model:
    x = keras.Input((STEPS, FEATURES))
    y = layers.BatchNormalization()(layers.LSTM(4, return_sequences=True)(x))
    return keras.Model(x, [layers.Dense(TAGS, name="tags")(y), y, layers.GlobalAveragePooling1D()(y)])


def permuted_sequence() -> keras.Model:
    return sequential(layers.Dense(4), layers.Permute((2, 1)))


def sequence_of_image_columns() -> keras.Model:
    x = keras.Input((6, STEPS, 2))
    y = keras.ops.mean(layers.Conv2D(4, 3, padding="same")(x), axis=1)
    return keras.Model(x, layers.Dense(TAGS)(y))


def tagger_after_convolution_and_lstm() -> keras.Model:
    lstm = layers.LSTM(4, return_sequences=True)
    return sequential(layers.Conv1D(4, 3, padding="same"), lstm, layers.BatchNormalization(), layers.Dense(TAGS))


def convolutions() -> keras.Model:
    return sequential(layers.Conv1D(4, 3, padding="same"), layers.BatchNormalization(), layers.Dense(TAGS))


def image_convolution() -> keras.Model:
    return keras.Sequential([keras.Input((8, 7, 2)), layers.Conv2D(3, 3, name="masks")])


KERAS_ORDER = [
    bidirectional_tagger,
    gru_tagger_that_ends_in_a_normalization,
    attention_tagger,
    tagger_with_group_normalization,
    tagger_of_tokens,
    convolution_over_tokens,
    tagger_with_two_outputs,
    permuted_sequence,
    sequence_of_image_columns,
    tagger_after_convolution_and_lstm,
]


def proven(model: keras.Model, channels: Any = None) -> tuple[Any, Report]:
    """Return a conversion and its report, after a check that it passed."""
    conversion = k3c.convert(model, channels=channels)
    assert conversion.report is not None
    conversion.report.raise_if_failed()
    return conversion, conversion.report


def sizes_of_outputs(conversion: Any) -> list[tuple[int, ...]]:
    with torch.no_grad():
        returned = conversion.model(*(torch.from_numpy(array) for array in conversion.inputs))
    outputs = returned if isinstance(returned, list | tuple) else [returned]
    return [tuple(output.shape[1:]) for output in outputs]


@pytest.mark.parametrize("make", KERAS_ORDER)
def test_a_sequence_is_returned_in_the_order_of_keras_if_none_is_taken_in_another(
    make: Callable[[], keras.Model],
) -> None:
    model = randomised(make())
    conversion, report = proven(model)
    expected = model.output_shape if isinstance(model.output_shape, list) else [model.output_shape]
    assert sizes_of_outputs(conversion) == [shape[1:] for shape in expected]
    assert not any("channels second" in note for note in report.notes)


def test_the_tags_of_a_converted_tagger_are_those_of_keras() -> None:
    model = randomised(bidirectional_tagger())
    conversion = k3c.convert(model)
    x = np.random.default_rng(1).standard_normal((2, STEPS, FEATURES)).astype("float32")
    with torch.no_grad():
        tags = conversion.model(torch.from_numpy(x)).argmax(-1)
    np.testing.assert_array_equal(tags, np.argmax(model.predict(x, verbose=0), -1))


def test_a_batch_normalization_leaves_the_layers_around_it_with_the_channels_last() -> None:
    source = k3c.convert(bidirectional_tagger(), validate=False).source
    assert "nn.Linear(8, 3)" in source
    assert "Conv1d" not in source
    assert source.count("permute(0, 2, 1)") == 2


def test_two_normalizations_in_a_row_permute_once_before_and_once_after() -> None:
    model = sequential(layers.Dense(4), layers.GroupNormalization(2), layers.BatchNormalization(), layers.Dense(TAGS))
    assert k3c.convert(model, validate=False).source.count("permute(0, 2, 1)") == 2


def test_a_normalization_before_a_convolution_stays_channels_second() -> None:
    source = k3c.convert(convolution_over_tokens(), validate=False).source
    assert source.count("permute(0, 2, 1)") == 2  # before the first normalization, and of the output


def test_a_convolutional_network_takes_and_returns_sequences_channels_second() -> None:
    conversion, _ = proven(randomised(convolutions()))
    assert [array.shape[1:] for array in conversion.inputs] == [(FEATURES, STEPS)]
    assert sizes_of_outputs(conversion) == [(TAGS, STEPS)]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (convolutions, "output 0 is (batch, 3, 9), channels second; Keras returns (batch, 9, 3); "),
        (image_convolution, "output 0 is (batch, 3, 6, 5), channels second; Keras returns (batch, 6, 5, 3); "),
    ],
)
def test_the_certificate_says_that_an_output_has_another_order_than_in_keras(
    make: Callable[[], keras.Model], sentence: str
) -> None:
    _, report = proven(randomised(make()))
    note = f'{sentence}channels="last" keeps Keras\' order'
    assert note in report.notes
    assert key_facts(report)["order of axes"] == note


def test_an_output_in_another_order_is_named_if_there_are_several() -> None:
    x = keras.Input((STEPS, FEATURES))
    y = layers.Conv1D(4, 3, padding="same", name="sequence")(x)
    model = keras.Model(x, [layers.GlobalAveragePooling1D(name="mean")(y), y])
    _, report = proven(model)
    assert [note[:31] for note in report.notes if "channels second" in note] == ["output 1 (sequence) is (batch, "]


@pytest.mark.parametrize("make", [convolutions, image_convolution])
def test_channels_last_keeps_the_order_of_keras_and_says_nothing(make: Callable[[], keras.Model]) -> None:
    model = randomised(make())
    conversion, report = proven(model, channels="last")
    assert sizes_of_outputs(conversion) == [model.output_shape[1:]]
    assert not any("channels second" in note for note in report.notes)


def test_a_spatial_dropout_of_a_sequence_in_the_order_of_keras_drops_whole_channels() -> None:
    model = sequential(layers.SpatialDropout1D(0.5), layers.LSTM(4), layers.Dense(TAGS))
    module = k3c.convert(model, validate=False).model
    assert [type(child) for child in module.modules() if "Dropout" in type(child).__name__] == [torch.nn.Dropout1d]
