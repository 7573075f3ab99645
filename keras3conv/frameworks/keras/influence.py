"""Find the variables that influence the outputs of a Keras model, by changing them and running the model again."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from keras3conv.errors import ModelError
from keras3conv.frameworks.keras import model as keras_side
from keras3conv.frameworks.keras.modes import float64_mode
from keras3conv.numerics.probe_values import Pool, probe
from keras3conv.transforms import Array

_SEED = 20240229

_ROUNDING = 1e-12
"""The relative change of an output that is attributed to rounding; a larger change is an influence."""


def influential(model: Any, inputs: Any, paths: Collection[str]) -> tuple[str, ...]:
    """Return the paths of the given variables that influence an output. The model is unchanged afterwards.

    The model runs in float64, in inference mode and with random weights, because with a scale of zero the variables
    before it would have no influence. If the model raises with a changed variable, the variable counts as influential.

    Args:
        model: A live Keras model.
        inputs: An array, a list of arrays or a dict by name; a tuple has several positional arguments.
        paths: The paths of the variables to test, without states of random generators.

    Raises:
        ModelError: The model cannot be run with unchanged variables.
    """
    if not paths:
        return ()
    tensors = {tensor.path: tensor for tensor in keras_side.view(model).tensors()}
    pool = Pool()
    values = {path: probe(tensor, pool) for path, tensor in tensors.items() if _is_real(tensor.dtype)}
    with keras_side.precise(), float64_mode(model):  # restores the original values on exit
        keras_side.write(model, values)
        whole = {
            path: keras_side.view(model).read(path).copy() for path in paths
        }  # copies, because writing is in place
        before = _outputs(model, inputs)
        return tuple(path for path in paths if _moves(model, inputs, before, path, whole[path]))


def read_by_value(model: Any, paths: Collection[str], constants: Callable[[], Mapping[str, Array]]) -> tuple[str, ...]:
    """Return the paths of those variables whose values become constants in a trace: the code reads the value itself.

    The model is unchanged afterwards.

    Args:
        model: A live Keras model.
        paths: The paths of the variables to test, without states of random generators.
        constants: A function that traces the model and returns the constants.
    """
    before = constants()
    if not before:
        return ()
    view = keras_side.view(model)
    values = {tensor.path: view.read(tensor.path).copy() for tensor in view.tensors() if tensor.path in paths}

    def changes(changed: Collection[str]) -> bool:
        keras_side.write(model, {path: _changed(values[path]).astype(values[path].dtype) for path in changed})
        try:
            after = constants()
        finally:
            keras_side.write(model, {path: values[path] for path in changed})
        return after.keys() != before.keys() or any(_differ(array, after[name]) for name, array in before.items())

    return tuple(path for path in values if changes([path])) if changes(values) else ()


def _moves(model: Any, inputs: Any, before: Mapping[str, Array], path: str, value: Array) -> bool:
    keras_side.write(model, {path: _changed(value)})
    try:
        after = _outputs(model, inputs)
    except ModelError:
        return True
    finally:
        keras_side.write(model, {path: value})
    return after.keys() != before.keys() or any(_differ(array, after[name]) for name, array in before.items())


def _changed(value: Array) -> Array:
    if value.dtype.kind == "f":
        return value + np.random.default_rng(_SEED + 1).uniform(0.25, 0.75, value.shape)
    return ~value if value.dtype.kind == "b" else value + 1


def _differ(before: Array, after: Array) -> bool:
    if before.shape != after.shape or before.dtype.kind not in "fiu":
        return not np.array_equal(before, after)
    scale = float(np.max(np.abs(before), initial=0.0))
    return bool(np.max(np.abs(after - before), initial=0.0) > _ROUNDING * scale)


def _outputs(model: Any, inputs: Any) -> dict[str, Array]:
    return dict(keras_side.run(model, inputs, watch=False).outputs)


def _is_real(dtype: str) -> bool:
    return dtype.startswith(("float", "bfloat"))
