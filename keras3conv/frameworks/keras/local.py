"""Run a Keras model with given inputs for each layer, those of the torch layers, so that errors do not accumulate."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras3conv.frameworks.keras import model as keras_side
from keras3conv.frameworks.keras.internals import get_keras_mask, set_keras_mask
from keras3conv.frameworks.keras.observing import CallHandler, Original, activation_inputs, layer_calls
from keras3conv.frameworks.keras.tree import named_layers
from keras3conv.frameworks.shared.inputs import flatten
from keras3conv.frameworks.shared.recording import Call, Recording
from keras3conv.numerics.copying import own_copy
from keras3conv.transforms import Array, Arrays

Feed = Callable[[str, int, Arrays], tuple[Array | None, ...]]
"""A function that replaces the inputs of a layer call.

It gets the path of the layer, the number of the call and the actual input arrays, and returns the new ones; None
instead of an array keeps the actual input.
"""

Hand = Callable[[str, int, Array], Array | None]
"""A function that replaces the output of a layer call.

It gets the path of the layer, the number of the call and the actual output, and returns the output that the caller
receives; None keeps the actual output.
"""


_MASKS = frozenset({"mask", "query_mask", "key_mask", "value_mask"})
"""The arguments of `call` in which Keras passes the masks of a layer's inputs."""


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """The replacements of the inputs and outputs of some layers during a run.

    Attributes:
        paths: The paths of the layers.
        feed: A function that gets the path of a layer, the number of its call and its actual inputs, and returns the
            arrays that replace them; None in place of an array keeps the actual input.
        hand: A function that gets the path of a layer, the number of its call and its actual output, and returns the
            array that replaces the output; None keeps the actual output.
        masked: Whether replaced inputs keep the Keras masks of the actual ones.
    """

    paths: frozenset[str]
    feed: Feed
    hand: Hand
    masked: bool = True


def run_fed(model: keras.layers.Layer, inputs: object, exchange: Exchange) -> Recording:
    """Run a model once in inference mode, with replaced layer inputs and outputs, and record the layer outputs.

    Args:
        model: The model.
        inputs: An array, a list of arrays or a dict by name; a tuple has several positional arguments.
        exchange: The replacements of inputs and outputs.

    Raises:
        ModelError: The model raised.
    """
    calls: list[Call] = []
    with layer_calls(_exchanging(model, exchange, calls)):
        outputs = keras_side.run(model, inputs, watch=False).outputs
    return Recording(calls=tuple(calls), outputs=outputs)


def _exchanging(model: keras.layers.Layer, exchange: Exchange, calls: list[Call]) -> CallHandler:
    """Return a handler of layer calls that replaces inputs and outputs of some layers, and records their calls.

    Args:
        model: The model.
        exchange: The paths of the layers, and the functions that replace their inputs and outputs.
        calls: The list to which every call of these layers is appended, with its original output.
    """
    paths = {id(layer): path for path, layer in named_layers(model) if path in exchange.paths}
    numbers: dict[str, int] = {}

    def handle(original: Original, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        path = paths.get(id(layer))
        if path is None:
            return original(layer, *args, **kwargs)
        number = numbers[path] = numbers.get(path, -1) + 1
        if not exchange.masked:  # Keras also passes the mask of a symbolic call as an argument
            kwargs = {name: value for name, value in kwargs.items() if name not in _MASKS}
        tensors = [tensor for _, tensor in flatten((args, kwargs), keras.ops.is_tensor)]
        given = exchange.feed(path, number, tuple(map(keras_side.to_numpy, tensors)))
        changes = {
            id(old): _like(old, new, masked=exchange.masked)
            for old, new in zip(tensors, given, strict=True)
            if new is not None
        }
        args, kwargs = _replaced(args, changes), _replaced(kwargs, changes)
        with activation_inputs(layer) as before:
            output = original(layer, *args, **kwargs)
        outputs = tuple(_copy(tensor) for _, tensor in flatten(output, keras.ops.is_tensor))
        before_activation = before[0] if len(before) == 1 else None
        calls.append(Call(path=path, place=len(calls), outputs=outputs, before_activation=before_activation))
        if not keras.ops.is_tensor(output) or before_activation is not None:
            return output
        replacement = exchange.hand(path, number, outputs[0])
        return output if replacement is None else _like(output, replacement, masked=True)

    return handle


def _like(old: Any, new: Array, *, masked: bool) -> Any:
    """Return an array as a tensor with the dtype of an old tensor.

    Args:
        old: The tensor that the new one replaces.
        new: The array.
        masked: Whether the new tensor gets the Keras mask of the old tensor.
    """
    dtype = keras.backend.standardize_dtype(old.dtype)
    # The layer gets a copy: torch's recorded arrays stay as they are if it writes into its input.
    tensor = keras.ops.cast(keras.ops.convert_to_tensor(own_copy(new)), dtype)
    mask = get_keras_mask(old) if masked else None
    if mask is not None:
        set_keras_mask(tensor, mask)
    return tensor


def _replaced(value: Any, changes: dict[int, Any]) -> Any:
    """Return a nested structure with some tensors replaced.

    Args:
        value: The structure.
        changes: The new tensors, by the ids of the tensors that they replace.
    """
    if id(value) in changes:
        return changes[id(value)]
    if isinstance(value, dict):
        return {name: _replaced(item, changes) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_replaced(item, changes) for item in value)
    return value


def _copy(tensor: Any) -> Array:
    return np.array(keras_side.to_numpy(tensor))
