"""Run a Keras model once, eagerly, in float64, for the probe.

At each layer call the search writes the weights of candidate torch layers into the layer.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np

from keras3conv.errors import ModelError, Problem
from keras3conv.frameworks.keras import model as keras_side
from keras3conv.frameworks.keras.observing import Original, activation_inputs, layer_calls
from keras3conv.frameworks.keras.state import state_kept
from keras3conv.frameworks.keras.tree import named_layers, variables_of
from keras3conv.frameworks.keras.values import fill, memory_orders, raised_by_keras, to_numpy, to_tensors
from keras3conv.frameworks.shared.inputs import flatten
from keras3conv.frameworks.shared.recording import Call
from keras3conv.messages import lay_out
from keras3conv.model.paths import separator
from keras3conv.model.views import LayerView
from keras3conv.numerics.fingerprint import fingerprint_of, has_nan
from keras3conv.planner.probe.compare import LayerOutput
from keras3conv.planner.probe.compensated import RunModel, compare_whole_models
from keras3conv.planner.probe.search import Search
from keras3conv.planner.probe.trail import Backtrack
from keras3conv.transforms import Array

LayerCall = Callable[[], Any]
"""Calls a layer with the arguments that the model gives it, and returns the output of the layer's own `__call__`."""


def run(model: keras.layers.Layer, units: tuple[LayerView, ...], inputs: object, search: Search) -> list[Call]:
    """Run a model once, eagerly, in float64; at each layer call the search writes candidate weights into the layer.

    The model is unchanged afterwards, also after an exception.

    Args:
        model: The Keras model.
        units: The views of the layers that can be paired.
        inputs: The inputs of the model.
        search: The search for the torch weights.

    Returns:
        The calls of the layers, in call order.

    Raises:
        ModelError: The model raised, or returned NaN where torch did not; the message names the layer.
    """
    args = to_tensors(inputs if isinstance(inputs, tuple) else (inputs,))
    with keras_side.precise(), state_kept(model), keras_side.float64_mode(model), keras_side.without_gradients():
        handler = _CallHandler(model, units, search)
        with layer_calls(handler.called):
            try:
                model(*args, training=False)
                if search.replaced_an_output:
                    compare_whole_models(search, handler.whole(args))
            except raised_by_keras() as error:
                raise keras_side.call_error(model, handler.stack, inputs, error) from error
        if handler.nan.path:
            problem = Problem(
                keras=handler.nan.path, fact="this layer returned NaN for these inputs, and no torch layer did"
            )
            raise ModelError(lay_out(f"{model.name} (keras) cannot be compared with the torch module", [problem]))
        return handler.calls


@dataclass(frozen=True)
class _Nan:
    """The Keras layer in which NaN first appeared.

    Attributes:
        path: The first layer that received or returned NaN although torch had none; empty if there is none.
        suspect: A layer without weights that returned NaN. It becomes `path` only if a layer with weights receives the
            NaN. A softmax in which all values are masked returns NaN, for example, but no later layer uses this NaN.
    """

    path: str = ""
    suspect: str = ""

    def reached(self, path: str) -> "_Nan":
        """Return the record after NaN reached a layer: its `path` is the suspect if there is one, else this layer."""
        return self if self.path else _Nan(self.suspect or path, self.suspect)


class _CallHandler:
    """Intercepts the layer calls during one run of the Keras model, and lets the search choose each layer's weights."""

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
        self.orders = memory_orders((layer for _, layer in named), float64=True)
        between = separator("keras")
        self.containers = {unit.path.rpartition(between)[0] for unit in units}
        for path in list(self.containers):
            while path := path.rpartition(between)[0]:
                self.containers.add(path)
        self.stack: list[str] = []
        self.calls: list[Call] = []
        self.paused = False
        self.nan = _Nan()
        self.last_output: Array | None = None

    def whole(self, args: tuple[Any, ...]) -> RunModel:
        """Return a function that writes values, runs the whole model without the search, and returns its outputs.

        Args:
            args: The inputs of the model.
        """

        def run_model(values: Mapping[str, Array]) -> dict[str, Array]:
            self.paused = True
            self.write(values)
            return _arrays(self.model(*args, training=False))

        return run_model

    def called(
        self, original: Original, layer: keras.layers.Layer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Handle one call of a Keras layer: let the search write the layer's weights, and return an output.

        Args:
            original: The layer's own `__call__`.
            layer: The called layer.
            args: The positional arguments of the call.
            kwargs: The keyword arguments of the call.

        Returns:
            The output of the layer; if no torch weights reproduce the recorded torch output, the recorded output.
        """
        call = partial(original, layer, *args, **kwargs)
        path = self.paths.get(id(layer))
        if path is None or self.paused:
            return call()
        tensors = [tensor for _, tensor in flatten((args, kwargs), keras.ops.is_tensor)]
        if not all(map(_has_values, tensors)):
            return call()
        self.stack.append(path)
        shapes = tuple(tuple(tensor.shape) for tensor in tensors)
        self.calls.append(Call(path=path, place=len(self.calls), shapes=shapes))
        unit = self.units.get(path)
        if unit is not None and (path not in self.containers or self.search.can_fill(unit)):
            returned = self.fill(call, layer, unit, tensors)
        else:
            returned = self.enter(call, layer, unit)
            self.note_nan(path, returned)
        self.stack.pop()
        return returned

    def fill(self, call: LayerCall, layer: keras.layers.Layer, unit: LayerView, tensors: list[Any]) -> Any:
        """Let the search write weights into a layer that is paired as a whole; return the output of the layer.

        Args:
            call: Calls the layer.
            layer: The Keras layer.
            unit: The view of the layer, with the variables of the layers inside it.
            tensors: The inputs of the layer.
        """
        was_known = unit.path in self.search.choices
        inputs = tuple(fingerprint_of(to_numpy(tensor)) for tensor in tensors[:1])
        returned = self.search.fill(unit, inputs, partial(self.output, call, layer))
        if self.made_nan(unit.path, was_known) or any(entry.has_nan for entry in inputs):
            self.nan = self.nan.reached(unit.path)
        return returned

    def made_nan(self, path: str, was_known: bool) -> bool:
        """Return whether a layer caused NaN: it returned NaN with weights from a rule, and torch returned none.

        Weights that do not come from a rule may be wrong, so NaN is not an error of the model in this case.

        Args:
            path: The path of the layer.
            was_known: Whether its weights were chosen in an earlier call, so that this output was not compared.
        """
        choice = self.search.choices.get(path)
        if choice is None or choice.candidate.rule is None or self.last_output is None:
            return False
        comparison = choice.outcome.comparison
        agrees = not was_known and comparison is not None and comparison.agrees
        return not agrees and has_nan(self.last_output)

    def note_nan(self, path: str, returned: object) -> None:
        """Record that the model, a container, or a layer without weights returned NaN.

        Args:
            path: The path of the layer; empty for the model.
            returned: The output of the layer; nothing is recorded if it has no NaN.
        """
        if self.nan.path or (self.nan.suspect and path) or not any(map(has_nan, _arrays(returned).values())):
            return
        self.nan = _Nan("", path) if path else self.nan.reached(self.model.name)

    def enter(self, call: LayerCall, layer: keras.layers.Layer, unit: LayerView | None) -> Any:
        """Call a container and return its output; repeat the call to try other torch weights for a layer inside it.

        The search fills the layers with torch weights in the order of their calls. If no weights fit a later layer, it
        returns to an earlier layer for which several did.

        Args:
            call: Calls the container.
            layer: The container.
            unit: The view of the container, whose own variables the search fills; None if it has no view.
        """
        depth, before, nan = len(self.stack), len(self.calls), self.nan
        trail = self.search.trail
        opened = trail.open_call()
        while True:
            try:
                if unit is not None:
                    # A kernel of the backend may run a recurrent layer without a call of its cell.
                    partitions = self.search.ranking.tensors.partitions
                    whole = "keras.layers.RNN" in unit.kinds and partitions.has_cuts(unit)
                    own = {tensor.path for tensor in unit.tensors if whole or "/" not in tensor.role}
                    self.search.fill_own_variables(unit, own, self.write)
                returned = call()
                if layer is self.model:
                    self.search.finish(_arrays(returned))
            except Backtrack as back:
                del self.stack[depth:], self.calls[before:]
                trail.restart_call(opened)
                self.nan = nan
                if back.call != opened.number:
                    raise
            else:
                trail.close_call(opened)
                return returned

    def output(self, call: LayerCall, layer: keras.layers.Layer, values: Mapping[str, Array]) -> LayerOutput:
        """Write values into the variables of a layer, call the layer, and return its output.

        Args:
            call: Calls the layer.
            layer: The layer.
            values: The values of the variables, by path.
        """
        self.write(values)
        self.paused = True
        activation = layer.__dict__.get("activation")
        try:
            with activation_inputs(layer) as seen:
                returned = call()
        finally:
            self.paused = False
        before = seen[0] if len(seen) == 1 else None

        def replace(array: Array, before_activation: bool) -> Any:
            value = keras.ops.convert_to_tensor(np.asarray(array, order="C"), dtype=array.dtype.name)
            apply = before_activation and callable(activation)
            return _with_first(returned, activation(value) if apply else value)

        found = tuple(_arrays(returned).values())
        self.last_output = found[0] if found else None
        return LayerOutput(returned=returned, array=self.last_output, before_activation=before, replace=replace)

    def write(self, values: Mapping[str, Array]) -> None:
        """Write values into the variables of the Keras model, each by the path of its variable."""
        for path, value in values.items():
            variable = self.variables[path]
            fill(variable, value, self.orders.get(id(variable)))


def _with_first(returned: Any, value: Any) -> Any:
    """Return the output of a layer, a structure of tensors, with its first tensor replaced by `value`."""
    if isinstance(returned, tuple | list):
        return type(returned)((_with_first(returned[0], value), *returned[1:]))
    if isinstance(returned, dict):
        first = next(iter(returned))
        return {**returned, first: _with_first(returned[first], value)}
    return value


def _arrays(value: object) -> dict[str, Array]:
    return {name: to_numpy(tensor) for name, tensor in flatten(value, keras.ops.is_tensor)}


def _has_values(tensor: Any) -> bool:
    """Return whether a tensor has values; False for the symbolic tensors with which a backend traces a loop body."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return not isinstance(tensor, jax.core.Tracer)
    if backend == "tensorflow":
        return hasattr(tensor, "numpy")
    return True
