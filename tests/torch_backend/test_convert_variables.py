"""No variable of a Keras model is lost in a conversion, and none becomes trainable that was not."""

from typing import Any

import keras
import numpy as np
import pytest

import keras3conv as k3c
from keras3conv.errors import UnsupportedLayerError
from keras3conv.frameworks import keras_influence
from tests.torch_backend.test_convert import randomised

layers = keras.layers


class ByValue(layers.Layer):
    """A layer whose call reads the values of a variable where no tracer looks for it."""

    def build(self, shape: Any) -> None:
        hidden = self.add_weight(shape=(shape[-1],), name="hidden")
        self.hidden = lambda: keras.ops.convert_to_numpy(hidden)
        self.unused = self.add_weight(shape=(2,), name="unused")

    def call(self, inputs: Any) -> Any:
        return keras.ops.multiply(inputs, self.hidden())


class Closed(ByValue):
    """The same behind a scale of zero, that hides it from any run with the model's own weights."""

    def build(self, shape: Any) -> None:
        super().build(shape)
        self.scale = self.add_weight(shape=(shape[-1],), name="scale", initializer="zeros")

    def call(self, inputs: Any) -> Any:
        return super().call(inputs) * self.scale


@pytest.mark.parametrize("kind", [ByValue, Closed])
@pytest.mark.parametrize("validate", [True, False])
def test_a_variable_that_is_read_by_value_is_refused_and_not_made_a_constant(kind: Any, validate: bool) -> None:
    given = keras.Input((4,))
    model = keras.Model(given, kind(name="own")(layers.Dense(3, name="dense")(given)), name="reader")
    before = [np.array(value) for value in model.get_weights()]
    with pytest.raises(UnsupportedLayerError, match="1 problem in reader") as caught:
        k3c.convert(model, validate=validate)
    assert "own/hidden" in str(caught.value)
    assert "own/unused" not in str(caught.value)
    for value, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, old)


def test_without_the_check_the_weight_would_be_lost_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras_influence, "influential", lambda *given: ())
    given = keras.Input((4,))
    model = keras.Model(given, ByValue(name="own")(given), name="reader")
    conversion = k3c.convert(randomised(model))
    assert conversion.report is not None
    assert conversion.report.ok
    assert not [*conversion.model.parameters()]


def test_a_variable_that_nothing_depends_on_is_left_out_and_the_plan_says_so() -> None:
    class Spare(layers.Layer):
        def build(self, shape: Any) -> None:
            self.spare = self.add_weight(shape=(2,), name="spare")
            self.count = self.add_weight(shape=(), dtype="int32", initializer="zeros", trainable=False, name="count")

        def call(self, inputs: Any) -> Any:
            return keras.ops.relu(inputs)

    given = keras.Input((4,))
    conversion = k3c.convert(keras.Model(given, Spare(name="own")(layers.Dense(3)(given))), validate=False)
    ignored = {ignored.path: ignored.reason for ignored in conversion.alignment.ignored}
    assert ignored == dict.fromkeys(("own/spare", "own/count"), "no output of the Keras model depends on it")
