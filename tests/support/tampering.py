"""Change the weights of a Keras model, to test that a proof detects the change."""

from collections.abc import Callable

import keras
import numpy as np

from keras3conv.frameworks.keras import model as keras_side
from keras3conv.transforms import Array
from tests.support.planted.networks import Tamper


def with_values(**changes: Callable[[Array], Array]) -> Tamper:
    """Return a function that changes variables of a model: `stem__kernel=f` applies `f` to the kernel of `stem`."""

    def tamper(model: keras.Model) -> None:
        for where, change in changes.items():
            name, role = where.split("__")
            (variable,) = [entry for entry in model.get_layer(name).weights if entry.name == role]
            variable.assign(np.ascontiguousarray(change(np.array(keras_side.to_numpy(variable.value)))))

    return tamper


def swapped(*pairs: tuple[tuple[str, str], tuple[str, str]]) -> Tamper:
    """Return a function that swaps the values of pairs of variables."""

    def tamper(model: keras.Model) -> None:
        for one, other in pairs:
            first, second = (
                next(entry for entry in model.get_layer(name).weights if entry.name == role)
                for name, role in (one, other)
            )
            values = [np.array(keras_side.to_numpy(entry.value)) for entry in (first, second)]
            first.assign(values[1])
            second.assign(values[0])

    return tamper
