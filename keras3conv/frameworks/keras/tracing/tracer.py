"""Record the calls of layers and operations in one trace of a Keras model as nodes of a call graph."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count
from typing import Any

import keras
import numpy as np

from keras3conv.errors import Problem
from keras3conv.frameworks.keras import model as keras_side
from keras3conv.frameworks.keras.internals import compute_output_spec
from keras3conv.frameworks.keras.observing import Original
from keras3conv.frameworks.keras.operations import arguments_of, kind_of_operation
from keras3conv.frameworks.keras.tracing.endings import final_activation, noted_config
from keras3conv.frameworks.keras.tracing.loops import distributed, has_own_cell, step_by_step
from keras3conv.frameworks.keras.tracing.numbers import with_numbers
from keras3conv.frameworks.keras.tracing.problems import cannot_follow
from keras3conv.frameworks.keras.tracing.variables import symbolic_attributes
from keras3conv.frameworks.keras.tree import named_layers, variables_of
from keras3conv.frameworks.keras.values import raised_by_keras
from keras3conv.model.graph import Node, Parameter, Ref, Tensor, mapped
from keras3conv.transforms import Array

IsLeaf = Callable[[keras.layers.Layer, tuple[str, ...]], bool]
"""Returns True if a layer, given with its class names, is one node of the call graph; else the calls inside it are."""

DRAWN = (
    "draws random numbers in inference mode too, so that no two runs of the model agree. Pass the numbers to the "
    "model as one more input, or convert the part of the model before this layer"
)


class Tracer:
    """A trace in progress: the nodes of the call graph so far, and the names of the symbolic tensors."""

    def __init__(self, model: keras.layers.Layer, is_leaf: IsLeaf, followed: frozenset[str], creations: bool) -> None:
        self.is_leaf, self.followed, self.creations = is_leaf, followed, creations
        self.paths = {id(layer): path for path, layer in named_layers(model)}
        self.variables = {
            id(variable): (f"{path}/{role}" if path else role, variable)
            for path, layer in named_layers(model)
            for role, variable in variables_of(layer)
        }
        self.nodes: list[Node] = []
        self.problems: list[Problem] = []
        self.parameters: dict[str, Parameter] = {}
        self.constants: dict[str, Array] = {}
        self.inside: list[str] = []
        self.entered: set[str] = set()
        self.losses: set[str] = set()
        self.calls: list[str] = []
        self._numbers = count()
        self.shapes_only = 0
        self.has_rounded_numbers = False
        self.loops: list[tuple[str, str, int]] = []
        self._names: dict[int, str] = {}
        self._symbols: dict[str, keras.KerasTensor] = {}
        self._alive: list[object] = []  # Python may reuse the id of a deleted object

    def named(self, tensor: keras.KerasTensor) -> Tensor:
        """Return the description of a symbolic tensor in the call graph, with a new name."""
        name = f"v{len(self._names)}"
        self._names[id(tensor)] = name
        self._alive.append(tensor)
        return Tensor(name=name, shape=tuple(tensor.shape), dtype=str(tensor.dtype))

    def argument(self, value: Any) -> Any:
        """Return a call's argument as the call graph has it: a tensor, variable or array as a `Ref`, else the value."""
        if isinstance(value, keras.KerasTensor):
            return Ref(self._names[id(value)]) if id(value) in self._names else Ref(self.named(value).name)
        if isinstance(value, keras.Variable):
            return self.argument(self.parameter(value))
        if isinstance(value, np.ndarray) or keras.ops.is_tensor(value):
            array = value if isinstance(value, np.ndarray) else keras_side.to_numpy(value)
            if array.ndim == 0:
                self.has_rounded_numbers |= array.dtype == np.float32 and not float(array).is_integer()
                return array.item()
            return self._constant(np.array(array))
        if isinstance(value, np.generic):
            return value.item()
        return (
            f"{value.__module__}.{value.__qualname__}" if callable(value) and hasattr(value, "__qualname__") else value
        )

    def parameter(self, variable: keras.Variable) -> keras.KerasTensor:
        """Return the symbolic tensor that represents a variable of the model in the trace."""
        path = self.variables.get(id(variable), (variable.path, variable))[0]
        if path not in self._symbols:
            symbol = keras.KerasTensor(tuple(variable.shape), dtype=str(variable.dtype))
            self._symbols[path] = symbol
            self.parameters[path] = Parameter(path=path, tensor=self.named(symbol), trainable=bool(variable.trainable))
        return self._symbols[path]

    def symbol(self, value: Any) -> Any:
        """Add an eager tensor to the graph as a constant and return its symbolic tensor; return other values as is."""
        if not keras.ops.is_tensor(value) or isinstance(value, keras.KerasTensor):
            return value
        array = keras_side.to_numpy(value)
        symbol = keras.KerasTensor(array.shape, dtype=array.dtype.name)
        self._names[id(symbol)] = self._constant(np.array(array)).name
        self._alive.append(symbol)
        return symbol

    def _constant(self, array: Array) -> Ref:
        name = f"c{len(self.constants)}"
        self.constants[name] = array
        return Ref(name)

    def note(self, operation: keras.Operation, args: Any, kwargs: Any, outputs: Any) -> None:
        """Add a node to the call graph for a call of a layer or an operation with its arguments and outputs."""
        layer = isinstance(operation, keras.layers.Layer)
        kinds = keras_side.kinds_of(operation) if layer else (kind_of_operation(operation),)
        path = (
            self.paths.get(id(operation), operation.name) if layer else "/".join((*self.inside[-1:], _last(kinds[0])))
        )
        arguments = mapped(with_numbers(kinds[0], arguments_of(operation, args, kwargs)), self.argument)
        named = [self.named(tensor) for tensor in keras.tree.flatten(outputs) if tensor is not None]
        self.nodes.append(
            Node(
                calls=tuple(self.calls[1:]),
                kinds=kinds,
                path=path.lstrip("/"),
                arguments=arguments,
                outputs=tuple(named),
                structure=mapped(outputs, self.argument),
                config=noted_config(operation) if layer else {},
            )
        )

    def created(self, name: str, arguments: Mapping[str, Any], tensor: Any) -> Any:
        """Add a node for a function that creates a tensor from sizes ("ones"); return the symbolic tensor for it."""
        if self.shapes_only or not self.creations:
            return tensor
        symbol = keras.KerasTensor(tuple(tensor.shape), dtype=keras.backend.standardize_dtype(tensor.dtype))
        node = Node(
            calls=tuple(self.calls[1:]),
            kinds=(f"keras.ops.{name}",),
            path="/".join((*self.inside[-1:], name)).lstrip("/"),
            arguments=mapped(dict(arguments), self.argument),
            outputs=(self.named(symbol),),
        )
        self.nodes.append(replace(node, structure=Ref(node.outputs[0].name)))
        return symbol

    def drawn(self, name: str) -> None:
        """Note for the error message of the conversion that the random function `name` is called in inference mode."""
        path = self.inside[-1] if self.inside else ""
        self.problems.append(Problem(keras=path, fact=f"{name} {DRAWN}"))

    def call(self, layer: keras.layers.Layer, inputs: Any) -> Any:
        """Call a layer with symbolic inputs in inference mode, and return its outputs."""
        args = inputs if isinstance(inputs, tuple) else (inputs,)
        return layer(*args, training=False) if layer._call_has_training_arg else layer(*args)

    def on_layer(self, original: Original, layer: Any, args: Any, kwargs: Any) -> Any:
        """Handle a symbolic call of a layer: add one node if a rule knows it, else a node for each call inside it.

        Args:
            original: The `__call__` of the layer.
            layer: The layer.
            args: The positional arguments of the call.
            kwargs: The keyword arguments of the call.
        """
        if self.shapes_only:
            return original(layer, *args, **kwargs)
        path = self.paths.get(id(layer), layer.name)
        if isinstance(layer, keras.layers.TimeDistributed) and not layer.layer._call_has_mask_arg:
            # Keras does not pass the mask to the inner layer.
            kwargs = {name: value for name, value in kwargs.items() if name != "mask"}
        if path not in self.followed and self.is_leaf(layer, keras_side.kinds_of(layer)):
            return self._leaf(layer, original, args, kwargs)
        before = len(self.nodes)
        self.entered.add(path)
        self.inside.append(path)
        self.calls.append(f"{path}:{next(self._numbers)}")
        try:
            with symbolic_attributes(layer, self.variables, self.parameter):
                if isinstance(layer, keras.layers.Activation):
                    return self.activation(layer.activation, args[0])
                if isinstance(layer, keras.layers.TimeDistributed):
                    return distributed(layer, *args, **kwargs)
                if has_own_cell(layer):
                    return step_by_step(layer, *args, **kwargs)
                return layer.call(*args, **kwargs)
        except raised_by_keras() as error:
            if len(self.inside) == 1:
                raise
            del self.nodes[before:]
            self.problems.append(cannot_follow(path, layer, error))
            return self._leaf(layer, original, args, kwargs)
        finally:
            self.inside.pop()
            self.calls.pop()

    def _leaf(self, layer: keras.layers.Layer, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Add one node for the call of a layer, and a second node for the activation that the layer applies last."""
        self.shapes_only += 1  # the layer runs only to infer its output shape, so no nodes are added
        try:
            outputs = original(layer, *args, **kwargs)
            if any(None in tensor.shape for tensor in keras.tree.flatten(outputs) if tensor is not None):
                # Some layers infer a shape with the dynamic sizes of their first build; `call` returns actual numbers.
                outputs = compute_output_spec(layer.call, *args, **kwargs)
        finally:
            self.shapes_only -= 1
        self.note(layer, args, kwargs, outputs)
        activation = final_activation(layer)
        if activation is None:
            return outputs
        self.inside.append(self.paths.get(id(layer), layer.name))
        try:
            return self.activation(activation, outputs)
        finally:
            self.inside.pop()

    def activation(self, function: Callable[[Any], Any], tensor: Any) -> Any:
        """Add a node for an activation of Keras; for a custom function, add the nodes of its operations instead."""
        name = getattr(function, "__name__", "")
        if getattr(keras.activations, name, None) is not function:
            return function(tensor)
        self.shapes_only += 1
        try:
            outputs = compute_output_spec(function, tensor)
        finally:
            self.shapes_only -= 1
        path = "/".join((*self.inside[-1:], name)).lstrip("/")
        node = Node(
            calls=tuple(self.calls[1:]),
            kinds=(f"keras.activations.{name}",),
            path=path,
            arguments={"x": self.argument(tensor)},
            outputs=(self.named(outputs),),
        )
        self.nodes.append(replace(node, structure=Ref(node.outputs[0].name)))
        return outputs


def _last(kind: str) -> str:
    return kind.rpartition(".")[2]
