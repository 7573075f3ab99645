"""Write the variables of a live Keras model on any backend, all or none."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import keras
import numpy as np

from keras3conv.frameworks.keras.tree import layers_of, variables_by_path
from keras3conv.frameworks.keras.values import Orders, assign, assign_all, backend, memory_orders, to_numpy
from keras3conv.frameworks.shared.backup import REFERENCES, Backup, restored_by
from keras3conv.transforms import Array


def write(
    model: keras.layers.Layer,
    values: Mapping[str, Array] | Iterable[tuple[str, Array]],
    finite: set[str] | None = None,
) -> None:
    """Write values into the variables of a model; after any exception all variables have their old values.

    On the torch backend the kernels of convolutions get the memory order in which they run fastest; see `values`.

    Args:
        model: The model.
        values: Arrays by the path of the variable, each of the variable's shape and dtype.
        finite: A set; the path of each variable whose value has no NaN and no infinity is added to it, before the next
            value is taken.
    """
    variables = variables_by_path(model)
    pairs = values.items() if isinstance(values, Mapping) else values
    found: set[int] = set()
    with undone_on_failure(model, variables) as backup:
        assign_all(_kept(pairs, variables, memory_orders(layers_of(model)), backup, found, finite), found)
        settle(model)


def _kept(
    values: Iterable[tuple[str, Array]],
    variables: Mapping[str, keras.Variable],
    orders: Orders,
    backup: Backup,
    finite_ids: set[int],
    finite: set[str] | None,
) -> Iterator[tuple[keras.Variable, Array, tuple[int, ...] | None]]:
    """For each variable, copy the old value to a backup, then yield the variable, its new value and its memory order.

    Args:
        values: The path and the new value of each variable.
        variables: The variables of the model, by path.
        orders: The memory order of some variables; None is yielded for the others.
        backup: The old values so far; it is extended.
        finite_ids: The ids of the variables whose values were found to be finite, after they were yielded.
        finite: A set to which the paths of these variables are added.
    """
    limit = REFERENCES.get(backend())
    for path, value in values:
        variable = variables[path]
        if limit is None:
            backup.keep(path, to_numpy(variable))
        else:  # JAX and TensorFlow give a variable other memory, and do not write to memory that an array uses
            backup.refer(path, variable.value if backend() == "jax" else to_numpy(variable), limit)
        yield variable, value, orders.get(id(variable))
        if finite is not None and id(variable) in finite_ids:
            finite.add(path)


@contextmanager
def undone_on_failure(model: keras.layers.Layer, variables: Mapping[str, keras.Variable]) -> Iterator[Backup]:
    """Yield an empty backup; if the `with` block raises, restore the variable values that it has put into the backup.

    Args:
        model: The model.
        variables: Its variables, by path.
    """

    def restore(backup: Backup) -> None:
        for path, old in backup.items():
            assign(variables[path], old)
        settle(model)

    with restored_by(restore) as backup:
        yield backup


def settle(model: keras.layers.Layer) -> None:
    """Recompute the values that layers derive from their variables when built; call this after writing variables."""
    for layer in layers_of(model):
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def arrange_kernels(model: keras.layers.Layer) -> None:
    """Give the kernels of a model's convolutions their fastest memory order; all values stay the same."""
    layers = layers_of(model)
    orders = memory_orders(layers)
    for layer in layers:
        for variable in (*layer._trainable_variables, *layer._non_trainable_variables):
            if id(variable) in orders:
                assign(variable, np.array(to_numpy(variable)), orders[id(variable)])
