"""Keras under the probe: one eager run in float64, in which every layer is filled as it is called."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from keras3conv.frameworks import keras_side
from keras3conv.frameworks.keras_state import state_kept
from keras3conv.frameworks.keras_tree import named_layers, variables_of
from keras3conv.frameworks.keras_values import to_numpy, to_tensors
from keras3conv.frameworks.record import Call, flatten
from keras3conv.model import LayerView
from keras3conv.planner.composites import separator
from keras3conv.planner.probe import Outcome, Search
from keras3conv.planner.probe_choices import Backtrack
from keras3conv.planner.probe_record import Print, print_of
from keras3conv.transforms import Array


def run(model: keras.layers.Layer, units: tuple[LayerView, ...], inputs: object, search: Search) -> list[Call]:
    """Runs a model once, eagerly, in float64, and lets `search` fill every layer as it is called.

    The model is as before afterwards, also after an exception.

    Returns:
        The calls of the layers, in their order.

    Raises:
        ModelError: The model raised; the message names the layer.
    """
    args = to_tensors(inputs if isinstance(inputs, tuple) else (inputs,))
    with keras_side.precise(), state_kept(model), keras_side.float64_mode(model), keras_side._without_gradients():
        guide = _Guide(model, units, search)
        with guide.intercepted():
            try:
                model(*args, training=False)
                if search.forced:
                    guide.filling = True
                    search.confirm(_arrays(model(*args, training=False)))
            except (RuntimeError, TypeError, ValueError, IndexError, AttributeError, NotImplementedError) as error:
                raise keras_side._call_error(model, guide.stack, inputs, error) from error
        return guide.calls


class _Guide:
    """Stands in the place of `Layer.__call__` for a while."""

    def __init__(self, model: keras.layers.Layer, units: tuple[LayerView, ...], search: Search) -> None:
        named = list(named_layers(model))
        self.model, self.search = model, search
        self.paths = {id(layer): path for path, layer in named}
        units = tuple(unit for unit in units if any(not tensor.is_seed for tensor in unit.tensors))
        self.units = {unit.path: unit for unit in units}
        self.variables = {
            f"{path}/{role}" if path else role: variable
            for path, layer in named
            for role, variable in variables_of(layer)
        }
        between = separator("keras")
        self.outer = {unit.path.rpartition(between)[0] for unit in units}
        for path in list(self.outer):
            while path := path.rpartition(between)[0]:
                self.outer.add(path)
        self.stack: list[str] = []
        self.calls: list[Call] = []
        self.filling = False

    @contextmanager
    def intercepted(self) -> Iterator[None]:
        """Every call of a layer comes here."""
        original = keras.layers.Layer.__call__

        def call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
            return self.called(original, layer, args, kwargs)

        keras.layers.Layer.__call__ = call
        try:
            yield
        finally:
            keras.layers.Layer.__call__ = original

    def called(self, original: Any, layer: keras.layers.Layer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One call of one layer."""
        path = self.paths.get(id(layer))
        if path is None or self.filling:
            return original(layer, *args, **kwargs)
        tensors = [tensor for _, tensor in flatten((args, kwargs), keras.ops.is_tensor)]
        if not all(map(_has_values, tensors)):
            return original(layer, *args, **kwargs)
        self.stack.append(path)
        shapes = tuple(tuple(tensor.shape) for tensor in tensors)
        self.calls.append(Call(path=path, place=len(self.calls), shapes=shapes))
        unit = self.units.get(path)
        leaf = unit is not None and (path not in self.outer or self.search.can_fill(unit))
        if leaf and unit is not None:
            given = tuple(_print(tensor) for tensor in tensors[:1])
            returned = self.search.fill(unit, given, lambda values: self.outcome(original, layer, args, kwargs, values))
        else:
            returned = self.inner(original, layer, unit, args, kwargs)
        self.stack.pop()
        return returned

    def inner(
        self, original: Any, layer: keras.layers.Layer, unit: LayerView | None, args: tuple[Any, ...], kwargs: Any
    ) -> Any:
        """A layer that has layers in it: it is run again if a choice that was made in it is made again."""
        depth, before = len(self.stack), len(self.calls)
        frame = self.search.trail.open_frame()
        while True:
            try:
                if unit is not None:
                    own = {tensor.path for tensor in unit.tensors if "/" not in tensor.role}
                    self.search.fill_own(unit, own, self.write)
                returned = original(layer, *args, **kwargs)
                if layer is self.model:
                    self.search.finish(_arrays(returned))
            except Backtrack as back:
                del self.stack[depth:], self.calls[before:]
                self.search.trail.restart_frame(frame)
                if back.frame != frame[0]:
                    raise
            else:
                self.search.trail.close_frame(frame)
                return returned

    def outcome(
        self, original: Any, layer: keras.layers.Layer, args: tuple[Any, ...], kwargs: Any, values: Mapping[str, Array]
    ) -> Outcome:
        """Fills a layer, calls it, and says what it returned."""
        self.write(values)
        self.filling = True
        activation = layer.__dict__.get("activation")
        try:
            with keras_side.activation_watched(layer, True) as seen:
                returned = original(layer, *args, **kwargs)
        finally:
            self.filling = False
        before = seen[0] if len(seen) == 1 else None

        def replace(array: Array, is_before: bool) -> Any:
            value = keras.ops.convert_to_tensor(np.asarray(array, order="C"), dtype=array.dtype.name)
            return _with_first(returned, activation(value) if is_before and callable(activation) else value)

        found = _arrays(returned)
        return Outcome(returned=returned, array=found[0] if found else None, before=before, replace=replace)

    def write(self, values: Mapping[str, Array]) -> None:
        """Writes values into variables."""
        for path, value in values.items():
            self.variables[path].assign(np.asarray(value, order="C"))


def _with_first(returned: Any, value: Any) -> Any:
    """What a layer returned, with another first tensor."""
    if isinstance(returned, tuple | list):
        return type(returned)((_with_first(returned[0], value), *returned[1:]))
    if isinstance(returned, dict):
        first = next(iter(returned))
        return {**returned, first: _with_first(returned[first], value)}
    return value


def _arrays(value: object) -> tuple[Array, ...]:
    return tuple(to_numpy(tensor) for _, tensor in flatten(value, keras.ops.is_tensor))


def _print(tensor: Any) -> Print:
    return print_of(to_numpy(tensor))


def _has_values(tensor: Any) -> bool:
    """Whether a tensor has values: inside a loop that a backend traces it has none."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return not isinstance(tensor, jax.core.Tracer)
    if backend == "tensorflow":
        return hasattr(tensor, "numpy")
    return True
