"""Converted text models return the same values as Keras at every time step, including padded ones."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers

import keras3conv as k3c

TOKENS = np.array([[3, 4, 5, 0, 0, 0], [0, 0, 2, 7, 1, 1], [6, 0, 3, 0, 0, 9], [0, 0, 0, 0, 0, 0]], "int32")
"""Padding at the end, at the start, and in the middle; and a row of padding only."""


def attention(x: Any) -> Any:
    return layers.MultiHeadAttention(2, 4)(x, x)


def attention_with_wide_values(x: Any) -> Any:
    return layers.MultiHeadAttention(2, 4, value_dim=5)(x, x, use_causal_mask=True)


AFTER_EMBEDDING: dict[str, Callable[[Any], Any]] = {
    "LSTM": layers.LSTM(5, return_sequences=True),
    "last step of a GRU": layers.GRU(5),
    "GRU backwards": layers.GRU(5, return_sequences=True, go_backwards=True),
    "zeros for masked steps": layers.SimpleRNN(5, return_sequences=True, zero_output_for_mask=True),
    "zeros for a masked last step": layers.LSTM(5, zero_output_for_mask=True),
    "stacked cells": layers.RNN([layers.LSTMCell(4), layers.GRUCell(3)], return_sequences=True),
    "both directions": layers.Bidirectional(layers.LSTM(4, return_sequences=True)),
    "the last steps of both directions": layers.Bidirectional(layers.GRU(4)),
    "both directions added": layers.Bidirectional(layers.SimpleRNN(4, return_sequences=True), merge_mode="sum"),
    "attention": attention,
    "attention whose values are wider than its keys": attention_with_wide_values,
    "both directions, attention": lambda x: attention(layers.Bidirectional(layers.GRU(4, return_sequences=True))(x)),
}


@pytest.mark.parametrize("name", AFTER_EMBEDDING)
def test_padded_time_steps_have_the_same_values_as_in_keras(name: str) -> None:
    keras.utils.set_random_seed(1)
    inputs = keras.Input((None,), dtype="int32")
    outputs = AFTER_EMBEDDING[name](layers.Embedding(10, 6, mask_zero=True)(inputs))
    model = keras.Model(inputs, outputs)
    for variable in model.trainable_variables:
        variable.assign(np.random.default_rng(0).normal(size=variable.shape, scale=0.5))
    expected = model.predict(TOKENS, verbose=0)
    with torch.no_grad():
        result = k3c.convert(model, validate=False).model(torch.from_numpy(TOKENS))
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mask", [True, False])
def test_an_embedding_whose_input_is_declared_as_floating_point_takes_integers(mask: bool) -> None:
    given = keras.Input((5,))
    x = keras.layers.Embedding(9, 4, mask_zero=mask)(given)
    model = keras.Model(given, keras.layers.LSTM(3)(x))
    conversion = k3c.convert(model)
    assert conversion.report is not None
    conversion.report.raise_if_failed()
    words = np.array([[3, 4, 8, 0, 0], [1, 2, 3, 4, 5]])
    with torch.no_grad():
        made = conversion.model(torch.tensor(words)).numpy()
    wanted = keras.ops.convert_to_numpy(model(words.astype(np.float32)))
    assert np.abs(made - wanted).max() < 1e-5


@pytest.mark.parametrize("name", ["LSTM", "last step of a GRU", "stacked cells", "both directions", "attention"])
def test_a_converted_text_model_is_exported_for_every_batch_size(name: str) -> None:
    inputs = keras.Input((6,), dtype="int32")
    embedded = layers.Embedding(10, 6, mask_zero=True)(inputs)
    outputs = AFTER_EMBEDDING[name](layers.BatchNormalization()(embedded))
    module = k3c.convert(keras.Model(inputs, outputs), validate=False).model
    size = torch.export.Dim("size")
    exported = torch.export.export(module, (torch.from_numpy(TOKENS[:3]),), dynamic_shapes=({0: size},)).module()
    with torch.no_grad():
        assert torch.equal(exported(torch.from_numpy(TOKENS)), module(torch.from_numpy(TOKENS)))
