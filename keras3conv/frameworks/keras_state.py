"""What a call of a Keras model leaves behind: the states of recurrent layers and of random generators."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras
import numpy as np

from keras3conv.compare import same_bits
from keras3conv.frameworks.keras_tree import named_layers, untracked
from keras3conv.frameworks.keras_values import to_numpy


@contextmanager
def state_kept(model: keras.layers.Layer) -> Iterator[list[str]]:
    """Puts back, after a call, what it changed.

    Yields:
        A list that afterwards holds the paths of the variables that were changed.
    """
    before = [(path, variable, np.array(to_numpy(variable))) for path, variable in _states(model)]
    changed: list[str] = []
    try:
        yield changed
    finally:
        for path, variable, old in before:
            if not same_bits(to_numpy(variable), old):
                variable.assign(old)
                changed.append(path)


def _states(model: keras.layers.Layer) -> Iterator[tuple[str, keras.Variable]]:
    """The variables that no optimiser changes, once each."""
    seen: set[int] = set()
    for path, layer in named_layers(model):
        seen.update(map(id, layer._trainable_variables))
        own = [(variable.name, variable) for variable in layer._non_trainable_variables]
        own += [("seed_generator_state", generator.state) for generator in getattr(layer, "_seed_generators", ())]
        own += untracked(layer)
        for name, variable in own:
            if id(variable) not in seen:
                seen.add(id(variable))
                yield f"{path}/{name}" if path else name, variable
