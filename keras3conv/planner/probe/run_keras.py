"""Keras under the probe: one eager run in float64, in which every layer is filled as it is called."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras3conv.errors import ModelError, Problem
from keras3conv.frameworks.keras import model as keras_side
from keras3conv.frameworks.keras.state import state_kept
from keras3conv.frameworks.keras.tree import named_layers, variables_of
from keras3conv.frameworks.keras.values import fill, raised_by_keras, to_numpy, to_tensors
from keras3conv.frameworks.shared.recording import Call, flatten
from keras3conv.messages import lay_out
from keras3conv.model.views import LayerView
from keras3conv.numerics.fingerprint import Print, has_nan, print_of
from keras3conv.planner.probe.search import Outcome, Search
from keras3conv.planner.probe.trail import Backtrack
from keras3conv.rules.units import separator
from keras3conv.transforms import Array


def run(model: keras.layers.Layer, units: tuple[LayerView, ...], inputs: object, search: Search) -> list[Call]:
    """Runs a model once, eagerly, in float64, and lets `search` fill every layer as it is called.

    The model is as before afterwards, also after an exception.

    Returns:
        The calls of the layers, in their order.

    Raises:
        ModelError: The model raised, or returned NaN where torch did not; the message names the layer.
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
            except raised_by_keras() as error:
                raise keras_side._call_error(model, guide.stack, inputs, error) from error
        if guide.nan.path:
            problem = Problem(keras=guide.nan.path, fact="returned NaN for these inputs; torch's layers did not")
            raise ModelError(lay_out(f"{model.name} (keras) cannot be compared", [problem]))
        return guide.calls


@dataclass(frozen=True)
class _Nan:
    """Where NaN came up: the layer to blame; before that, one without weights from where it may get no farther.

    A softmax of nothing but masked values returns NaN, and nobody needs to look at it.
    """

    path: str = ""
    suspect: str = ""

    def reached(self, path: str) -> "_Nan":
        """NaN was given to, or returned by, a layer where torch had none."""
        return self if self.path else _Nan(self.suspect or path, self.suspect)


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
        self.nan = _Nan()
        self.returned: Array | None = None

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
            known = path in self.search.choices
            given = tuple(_print(tensor) for tensor in tensors[:1])
            returned = self.search.fill(unit, given, lambda values: self.outcome(original, layer, args, kwargs, values))
            if self.made_nan(path, known) or any(entry.has_nan for entry in given):
                self.nan = self.nan.reached(path)
        else:
            returned = self.inner(original, layer, unit, args, kwargs)
            self.note_nan(path, returned)
        self.stack.pop()
        return returned

    def made_nan(self, path: str, known: bool) -> bool:
        """Whether a layer that was just filled returned NaN.

        Values that no rule vouches for may well make NaN; and what agrees with torch was looked at.
        """
        chosen = self.search.choices.get(path)
        if chosen is None or chosen.option.rule is None or self.returned is None:
            return False
        agrees = not known and chosen.error is not None and chosen.error <= chosen.limit
        return not agrees and has_nan(self.returned)

    def note_nan(self, path: str, returned: object) -> None:
        """Notes that a layer without weights of its own, or the model, returned NaN."""
        if self.nan.path or (self.nan.suspect and path) or not any(map(has_nan, _arrays(returned).values())):
            return
        self.nan = _Nan("", path) if path else self.nan.reached(self.model.name)

    def inner(
        self, original: Any, layer: keras.layers.Layer, unit: LayerView | None, args: tuple[Any, ...], kwargs: Any
    ) -> Any:
        """A layer that has layers in it: it is run again if a choice that was made in it is made again."""
        depth, before, nan = len(self.stack), len(self.calls), self.nan
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
                self.nan = nan
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

        found = tuple(_arrays(returned).values())
        self.returned = found[0] if found else None
        return Outcome(returned=returned, array=self.returned, before=before, replace=replace)

    def write(self, values: Mapping[str, Array]) -> None:
        """Writes values into variables."""
        for path, value in values.items():
            fill(self.variables[path], value)


def _with_first(returned: Any, value: Any) -> Any:
    """What a layer returned, with another first tensor."""
    if isinstance(returned, tuple | list):
        return type(returned)((_with_first(returned[0], value), *returned[1:]))
    if isinstance(returned, dict):
        first = next(iter(returned))
        return {**returned, first: _with_first(returned[first], value)}
    return value


def _arrays(value: object) -> dict[str, Array]:
    return {name: to_numpy(tensor) for name, tensor in flatten(value, keras.ops.is_tensor)}


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
