"""Variables that several layers use become one parameter, and no argument of a layer is lost."""

from typing import Any

import keras
import numpy as np
import pytest
import torch

import keras3conv as k3c
from keras3conv.errors import UnsupportedLayerError
from tests.torch_backend.builder.test_convert import randomised

layers = keras.layers


class Borrowing(keras.layers.Layer):
    """A layer that uses the variables of another layer."""

    def __init__(self, owner: Any, **settings: Any) -> None:
        super().__init__(**settings)
        self.owner = owner


class Direct(Borrowing):
    def call(self, inputs: Any) -> Any:
        return keras.ops.matmul(inputs, self.owner.kernel)


class Transposed(Borrowing):
    """An operation whose only argument is a variable."""

    def call(self, inputs: Any) -> Any:
        return keras.ops.matmul(inputs, keras.ops.transpose(self.owner.kernel))


class Operators(Borrowing):
    """Python operators whose only operand is a variable."""

    def call(self, inputs: Any) -> Any:
        return inputs * (2 * self.owner.bias + 1)[None, :]


class Hidden(Borrowing):
    """A layer that uses another layer's variables through a function, so that no attribute refers to that layer."""

    def __init__(self, owner: Any, **settings: Any) -> None:
        layers.Layer.__init__(self, **settings)
        self.function = lambda inputs: keras.ops.matmul(inputs, keras.ops.transpose(owner.kernel))

    def call(self, inputs: Any) -> Any:
        return self.function(inputs)


class ByValue(Borrowing):
    """A call that reads the values of a variable, which cannot be traced."""

    def call(self, inputs: Any) -> Any:
        return keras.ops.multiply(inputs, keras.ops.convert_to_numpy(self.owner.bias))


def borrowed(kind: Any) -> keras.Model:
    given = keras.Input((4,))
    owner = layers.Dense(4, name="owner")
    return randomised(keras.Model(given, kind(owner, name="own")(owner(given)), name="borrowing"))


def converted(model: keras.Model) -> Any:
    conversion = k3c.convert(model)
    assert conversion.report is not None
    conversion.report.raise_if_failed()
    return conversion


@pytest.mark.parametrize("kind", [Direct, Transposed, Operators, Hidden])
def test_a_variable_that_two_layers_use_is_one_parameter(kind: Any) -> None:
    conversion = converted(borrowed(kind))
    assert {path for path, _ in conversion.model.named_parameters()} == {"owner_kernel", "owner_bias"}
    assert not [*conversion.model.buffers()]


def test_a_variable_with_a_counterpart_is_refused_if_a_call_also_reads_its_values() -> None:
    model = borrowed(ByValue)
    before = [value.copy() for value in model.get_weights()]
    with pytest.raises(UnsupportedLayerError, match=r"owner/bias .* would become a constant"):
        k3c.convert(model, validate=False)
    assert all((value == old).all() for value, old in zip(model.get_weights(), before, strict=True))


def test_tied_embeddings_stay_one_parameter() -> None:
    given = keras.Input((5,), dtype="int32")
    table = layers.ReversibleEmbedding(9, 4, name="table")
    model = keras.Model(given, table(layers.Dense(4, name="dense")(table(given)), reverse=True))
    conversion = converted(randomised(model))
    assert {path for path, _ in conversion.model.named_parameters()} == {
        "table_embeddings",
        "dense.weight",
        "dense.bias",
    }


def test_time_distributed_keeps_the_activation_of_its_layer() -> None:
    given = keras.Input((5, 8))
    conversion = converted(keras.Model(given, layers.TimeDistributed(layers.Dense(3, activation="relu"))(given)))
    assert "F.relu" in conversion.source


def test_a_time_distributed_convolution_takes_the_time_steps_as_batch() -> None:
    given = keras.Input((None, 8, 7, 2))
    model = keras.Model(given, layers.TimeDistributed(layers.Conv2D(3, 3, activation="relu"))(given))
    conversion = converted(randomised(model))
    assert "nn.Conv2d(2, 3, 3)" in conversion.source


def test_a_time_distributed_batch_normalization_is_converted() -> None:
    given = keras.Input((5, 8))
    conversion = k3c.convert(keras.Model(given, layers.TimeDistributed(layers.BatchNormalization())(given)))
    assert conversion.report is not None
    conversion.report.raise_if_failed()


def doubled(inputs: Any) -> Any:
    return keras.ops.sigmoid(2 * inputs)


@pytest.mark.parametrize("kind", [layers.LSTM, layers.GRU])
def test_a_user_function_in_a_recurrent_layer_is_refused_and_not_replaced_by_the_default(
    kind: Any,
) -> None:
    given = keras.Input((5, 3))
    with pytest.raises(UnsupportedLayerError, match="doubled"):
        k3c.convert(keras.Model(given, kind(2, recurrent_activation=doubled)(given)))


def test_an_initial_state_of_a_layer_that_torch_lacks_is_not_lost() -> None:
    given, state = keras.Input((5, 3)), keras.Input((4,))
    model = keras.Model([given, state], layers.GRU(4, reset_after=False, name="gru")(given, initial_state=[state]))
    first, second = np.random.default_rng(0).normal(size=(2, 5, 3)), np.ones((2, 4))
    module = converted(model).model
    with torch.no_grad():
        made = module(torch.from_numpy(first).float(), torch.from_numpy(second).float()).numpy()
        without = module(torch.from_numpy(first).float(), torch.zeros(2, 4)).numpy()
    np.testing.assert_allclose(made, keras.ops.convert_to_numpy(model([first, second])), atol=1e-6)
    assert not np.allclose(made, without, atol=1e-3)


def test_the_constants_of_a_rescaling_keep_double_precision() -> None:
    given = keras.Input((4, 4, 3))
    rescaling = layers.Rescaling([1 / 3, 0.1, 0.7], offset=[-1.1, 0.2, 0.3], name="rescaling")
    conversion = converted(keras.Model(given, rescaling(given)))
    assert [value.dtype for value in conversion.model.buffers()] == [torch.float64, torch.float64]
    assert conversion.model.rescaling_scale.flatten()[0].item() == 1 / 3


def test_the_report_says_that_a_model_without_weights_has_no_gradients() -> None:
    given = keras.Input((4, 4, 3))
    conversion = k3c.convert(keras.Model(given, layers.MaxPooling2D()(given)))
    assert conversion.report is not None
    section = next(section for section in conversion.report.sections if section.name == "gradients")
    assert section.status == "skipped"
    assert section.reason == "neither model has a trainable weight, so there is no gradient to compare"
