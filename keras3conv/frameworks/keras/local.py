"""Runs a Keras model whose layers are fed with what somebody else recorded, so that no error travels on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras.src.backend.common.masking import get_keras_mask, set_keras_mask

from keras3conv.frameworks.keras import model as keras_side
from keras3conv.frameworks.keras.tree import named_layers
from keras3conv.frameworks.shared.recording import Call, Recording, flatten
from keras3conv.transforms import Array, Arrays

Feed = Callable[[str, int, Arrays], tuple[Array | None, ...]]
"""What a layer is called with instead: from its path, the number of its call and the arrays that it was given. None
leaves an array as it is."""

Hand = Callable[[str, int, Array], Array | None]
"""What a layer hands on instead: from its path, the number of its call and what it made. None hands that on."""


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """What is exchanged on the way through a model.

    Attributes:
        paths: The layers that are fed.
        feed: What they are called with.
        hand: What they hand on to the layers after them.
    """

    paths: frozenset[str]
    feed: Feed
    hand: Hand


def run_fed(model: keras.layers.Layer, inputs: object, exchange: Exchange) -> Recording:
    """Runs a model once, in inference mode, and records what the layers made of what they were fed with.

    Args:
        model: The model.
        inputs: What it is called with; see `keras_side.run`.
        exchange: What is exchanged.

    Raises:
        ModelError: The model raised.
    """
    calls: list[Call] = []
    with _fed(model, exchange, calls):
        outputs = keras_side.run(model, inputs, watch=False).outputs
    return Recording(calls=tuple(calls), outputs=outputs)


@contextmanager
def _fed(model: keras.layers.Layer, exchange: Exchange, calls: list[Call]) -> Iterator[None]:
    paths = {id(layer): path for path, layer in named_layers(model) if path in exchange.paths}
    original = keras.layers.Layer.__call__
    numbers: dict[str, int] = {}

    def fed(self: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        path = paths.get(id(self))
        if path is None:
            return original(self, *args, **kwargs)
        number = numbers[path] = numbers.get(path, -1) + 1
        tensors = [tensor for _, tensor in flatten((args, kwargs), keras.ops.is_tensor)]
        given = exchange.feed(path, number, tuple(map(_copy, tensors)))
        changes = {id(old): _like(old, new) for old, new in zip(tensors, given, strict=True) if new is not None}
        args, kwargs = _replaced(args, changes), _replaced(kwargs, changes)
        with keras_side.activation_watched(self, True) as before:
            output = original(self, *args, **kwargs)
        made = tuple(_copy(tensor) for _, tensor in flatten(output, keras.ops.is_tensor))
        watched = before[0] if len(before) == 1 else None
        calls.append(Call(path=path, place=len(calls), outputs=made, before_activation=watched))
        if not keras.ops.is_tensor(output) or watched is not None:
            return output
        handed = exchange.hand(path, number, made[0])
        return output if handed is None else _like(output, handed)

    keras.layers.Layer.__call__ = fed
    try:
        yield
    finally:
        keras.layers.Layer.__call__ = original


def _like(old: Any, new: Array) -> Any:
    """An array as a tensor of the same dtype and with the same mask as another."""
    dtype = keras.backend.standardize_dtype(old.dtype)
    tensor = keras.ops.cast(keras.ops.convert_to_tensor(np.asarray(new, order="C")), dtype)
    mask = get_keras_mask(old)
    if mask is not None:
        set_keras_mask(tensor, mask)
    return tensor


def _replaced(value: Any, changes: dict[int, Any]) -> Any:
    """The same structure with other tensors."""
    if id(value) in changes:
        return changes[id(value)]
    if isinstance(value, dict):
        return {name: _replaced(item, changes) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_replaced(item, changes) for item in value)
    return value


def _copy(tensor: Any) -> Array:
    return np.array(keras_side.to_numpy(tensor))
