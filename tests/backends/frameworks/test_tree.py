"""Viewing a Keras model leaves it unchanged, on every backend."""

from typing import Any

import keras
import numpy as np

from keras3conv.frameworks.keras import model as keras_side


class Resized(keras.layers.Layer):
    """A layer with two tables that updates the saved one while it is saved."""

    def build(self, shape: object) -> None:
        self.saved = self.add_weight(shape=(4,), name="saved")
        self.used = self.add_weight(shape=(4,), name="used", initializer="ones")

    def call(self, x: Any) -> Any:
        return x * self.used

    def save_own_variables(self, store: Any) -> None:
        self.saved.assign(2 * self.used)
        self.saved.assign_add(self.used)
        super().save_own_variables(store)


def test_a_layer_that_assigns_while_it_is_saved_is_viewed_unchanged() -> None:
    model = keras.Sequential([keras.Input((4,)), Resized(name="table")])
    assign = keras.Variable.assign
    before = [np.array(keras_side.to_numpy(variable)) for variable in model.variables]
    view = keras_side.view(model)
    assert sorted(tensor.location for tensor in view.tensors()) == ["layers/resized/vars/0", "layers/resized/vars/1"]
    assert [tensor.path for tensor in view.tensors()] == ["table/saved", "table/used"]
    after = [np.array(keras_side.to_numpy(variable)) for variable in model.variables]
    assert all(np.array_equal(*pair) for pair in zip(before, after, strict=True))
    assert keras.Variable.assign is assign
    model.variables[0].assign(np.full(4, 7.0))
    assert float(keras_side.to_numpy(model.variables[0])[0]) == 7.0
