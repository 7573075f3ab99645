"""Conversion without example inputs: recorded shapes, indices of any dtype, lengths of their own, finite values."""

from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers, ops

import keras3conv as k3c
from keras3conv.errors import ModelError
from tests.torch_backend.builder.test_convert import randomised

RANDOM = np.random.default_rng(3)


class Tokens(keras.Model):
    """A model that takes a dict, and builds its layers in its first call."""

    def __init__(self) -> None:
        super().__init__(name="tokens")
        self.table, self.out = layers.Embedding(9, 4, name="table"), layers.Dense(2, name="out")

    def call(self, inputs: Any, training: Any = None) -> Any:
        return {"y": self.out(ops.mean(self.table(inputs["ids"]), axis=1)) * inputs["scale"]}


class Rows(keras.Model):
    """A graph network: the numbers of its nodes and of its edges differ."""

    def __init__(self) -> None:
        super().__init__(name="rows")
        self.first = layers.Dense(4, name="first")

    def call(self, inputs: Any) -> Any:
        nodes, edges = inputs
        seen = ops.take(self.first(nodes), edges[:, 1], axis=0)
        return ops.segment_sum(seen, edges[:, 0], num_segments=5)


class Two(keras.Model):
    """A model whose second argument may be missing, so that Keras records the shape of the first argument only."""

    def __init__(self) -> None:
        super().__init__(name="two")
        self.first = layers.Dense(4, name="first")

    def call(self, x: Any, y: Any = None) -> Any:
        return self.first(x) + (0 if y is None else y)


class TwoBuilt(Two):
    def build(self, x_shape: Any, y_shape: Any) -> None:
        self.first.build(x_shape)


EDGES = np.array([[0, 1], [1, 2], [2, 3], [3, 4], [4, 0], [0, 2], [3, 1]], "int32")


def numbers(*shape: int) -> Any:
    return RANDOM.normal(size=shape).astype("float32")


CALLED: dict[str, tuple[type[keras.Model], Any]] = {
    "a dict": (Tokens, {"ids": RANDOM.integers(0, 9, (3, 6)), "scale": numbers(3, 1)}),
    "rows": (Rows, (numbers(5, 3), EDGES)),
    "arguments": (TwoBuilt, (numbers(2, 3), numbers(2, 4))),
}


@pytest.mark.parametrize("name", CALLED)
def test_a_model_that_was_called_is_converted_for_the_shapes_of_its_call(name: str) -> None:
    make, inputs = CALLED[name]
    model = make()
    given = inputs if make is TwoBuilt else (inputs,)
    expected = keras.tree.flatten(model(*given))
    conversion = k3c.convert(model)
    assert conversion.report is not None
    assert conversion.report.ok, str(conversion.report)
    flat = [torch.tensor(array) for array in keras.tree.flatten(inputs)]
    for one, other in zip(expected, keras.tree.flatten(conversion.model(*flat)), strict=True):
        torch.testing.assert_close(one.detach(), other.detach(), rtol=1e-5, atol=1e-5)


def test_the_batch_size_of_a_model_that_was_called_is_dynamic() -> None:
    model = Tokens()
    model(CALLED["a dict"][1])
    module = k3c.convert(model, validate=False).model
    ids, scale = torch.randint(0, 9, (5, 6)), torch.ones(5, 1)
    assert module(ids, scale)["y"].shape == (5, 2)


def test_a_shape_that_was_not_recorded_is_asked_for() -> None:
    model = Two()
    model(numbers(2, 3), numbers(2, 4))
    with pytest.raises(ModelError, match="no input specification"):
        k3c.convert(model)


class Positions(layers.Layer):
    """The usual sum of token and position embeddings; the input of the model is float32, the default of Keras."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = layers.Embedding(30, 4), layers.Embedding(6, 4)

    def call(self, x: Any) -> Any:
        return self.words(x) + self.places(ops.arange(ops.shape(x)[-1]))


def test_floating_point_tokens_that_a_layer_passes_to_an_embedding_are_valid_indices() -> None:
    given = keras.Input((6,))
    conversion = k3c.convert(keras.Model(given, layers.Dense(2)(Positions()(given))))
    assert conversion.report is not None
    assert conversion.report.ok, str(conversion.report)
    (tokens,) = conversion.inputs
    assert np.array_equal(tokens, tokens.round())
    assert tokens.min() >= 0


def test_the_columns_of_an_input_may_be_indices() -> None:
    given = keras.Input((2,))
    conversion = k3c.convert(
        keras.Model(given, layers.Embedding(7, 3)(given[:, 0]) + layers.Embedding(5, 3)(given[:, 1]))
    )
    assert conversion.inputs[0].max() == 4


class Causal(layers.Layer):
    """The mask of a decoder in the examples of Keras: its repeats are a tensor that is computed from the batch size."""

    def call(self, x: Any, other: Any) -> Any:
        size = ops.shape(x)
        mask = ops.cast(ops.arange(size[1])[:, None] >= ops.arange(size[1]), "int32")
        mask = ops.reshape(mask, (1, size[1], size[1]))
        repeats = ops.concatenate([ops.expand_dims(size[0], -1), ops.convert_to_tensor([1, 1])], axis=0)
        return ops.matmul(ops.cast(ops.tile(mask, repeats), "float32"), x) + ops.mean(other, axis=1, keepdims=True)


def test_two_sequences_may_have_different_lengths() -> None:
    x, other = keras.Input((None, 4)), keras.Input((None, 4))
    model = randomised(keras.Model([other, x], layers.Dense(3)(Causal()(x, other))))
    conversion = k3c.convert(model)
    assert conversion.report is not None
    assert conversion.report.ok, str(conversion.report)
    given = [numbers(2, 7, 4), numbers(2, 5, 4)]
    actual = conversion.model(*map(torch.tensor, given)).detach()
    torch.testing.assert_close(model(given).detach(), actual, rtol=1e-5, atol=1e-5)
    assert {array.shape[1] for array in conversion.inputs} == {9, 7}


def test_sequences_that_are_added_have_one_length() -> None:
    x, other = keras.Input((None, 4)), keras.Input((None, 4))
    conversion = k3c.convert(keras.Model([x, other], layers.Dense(3)(x + other)))
    assert conversion.report is not None
    assert conversion.report.ok, str(conversion.report)


def test_a_model_that_needs_inputs_from_0_to_1_is_compared_on_such_inputs() -> None:
    given = keras.Input((5,))
    conversion = k3c.convert(keras.Model(given, layers.Dense(2)(ops.log(given))))
    assert conversion.report is not None
    assert conversion.report.ok, str(conversion.report)
    assert 0 < conversion.inputs[0].min() < conversion.inputs[0].max() < 1
