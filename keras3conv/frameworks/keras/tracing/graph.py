"""The graph of a live Keras model: it is called with symbolic tensors, and what runs is noted.

One mechanism serves every kind of model: functional, sequential and nested ones, shared layers, and subclassed layers
and models, whose `call` is simply run. Nothing is computed, only shapes are.

What depends on a free size (the batch, the length of a text) is found by tracing twice with different sizes: a number
that differs is a `Size`. So no number is mistaken for a size because it happens to be equal to one.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import keras
import numpy as np
from keras.src.ops.node import Node as KerasNode

from keras3conv.errors import ModelError, Problem
from keras3conv.frameworks.keras import model as keras_side
from keras3conv.frameworks.keras.operations import arguments_of, kind_of_operation
from keras3conv.frameworks.keras.state import tensors_kept
from keras3conv.frameworks.keras.tracing.creation import noted
from keras3conv.frameworks.keras.tracing.endings import distributed, final_activation, noted_config
from keras3conv.frameworks.keras.tracing.sizes import DEPENDS, Sizes, merged
from keras3conv.frameworks.keras.tracing.variables import symbolic_variables
from keras3conv.frameworks.keras.tree import named_layers, variables_of
from keras3conv.frameworks.keras.values import raised_by_keras
from keras3conv.messages import lay_out
from keras3conv.model.graph import Graph, Node, Parameter, Ref, Tensor, mapped
from keras3conv.model.views import ModelView
from keras3conv.rules.rule import stub
from keras3conv.transforms import Array

IsLeaf = Callable[[keras.layers.Layer, tuple[str, ...]], bool]
"""Whether a layer, with its class names, is noted as one; else what it calls is noted."""


def graph_of(
    model: keras.layers.Layer, is_leaf: IsLeaf, inputs: Any = None, followed: frozenset[str] = frozenset()
) -> tuple[Graph, tuple[Problem, ...]]:
    """The graph of a model, and what in it cannot be followed.

    Args:
        model: A built model or layer; it is as before afterwards.
        is_leaf: Which layers are noted as they are.
        inputs: Arrays that the model is called with; they fix every size but the batch. Without them the model's own
            specification counts, and its free sizes stay free.
        followed: The paths of layers that are not to be noted, whatever `is_leaf` says, but followed.

    Raises:
        ModelError: The model does not say what it is called with, or cannot be called symbolically at all.
    """
    keras_side.require_built(model)
    sizes = Sizes.of(model, inputs)
    view = keras_side.view(model)

    def traced(creations: bool) -> tuple[Graph, tuple[Problem, ...]]:
        first, second = (
            _trace(model, _Tracer(model, is_leaf, followed, creations), sizes.structure(which), view)
            for which in (0, 1)
        )
        graph, problems = merged(first.graph, second.graph, sizes)
        return graph, (*first.problems, *problems)

    graph, problems = traced(creations=False)
    if any(DEPENDS in problem.fact for problem in problems):
        graph, problems = traced(creations=True)
    names = {tensor.name: given.name for tensor, given in zip(graph.inputs, sizes.inputs, strict=True)}
    return replace(graph.pruned(), input_names=names), problems


@dataclass(frozen=True, kw_only=True)
class Traced:
    """One trace, with the sizes that it was made with standing everywhere as numbers."""

    graph: Graph
    problems: tuple[Problem, ...]


def _trace(model: keras.layers.Layer, tracer: "_Tracer", given: Any, view: ModelView) -> Traced:
    inputs = [tensor for tensor in keras.tree.flatten(given) if tensor is not None]
    named = tuple(tracer.named(tensor) for tensor in inputs)
    with ExitStack() as contexts:
        contexts.enter_context(tensors_kept(model))
        contexts.enter_context(_patched(tracer))
        contexts.enter_context(noted(tracer.created))
        contexts.enter_context(symbolic_variables(tracer.variables, lambda: not tracer.shapes_only))
        try:
            outputs = tracer.call(model, given)
        except raised_by_keras() as error:
            raise _cannot_call(model, error, tracer.problems) from error
    graph = Graph(
        name=model.name,
        view=view,
        inputs=named,
        input_structure=mapped(given, tracer.argument),
        nodes=tuple(tracer.nodes),
        outputs=mapped(outputs, tracer.argument),
        parameters=tuple(tracer.parameters.values()),
        constants=tracer.constants,
    )
    return Traced(graph=graph, problems=tuple(tracer.problems))


class _Tracer:
    """What was noted so far, and the names of the symbolic tensors."""

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
        self.calls: list[str] = []
        self._numbers = count()
        self.shapes_only = 0
        self._names: dict[int, str] = {}
        self._symbols: dict[str, keras.KerasTensor] = {}
        self._alive: list[object] = []  # an id is free again when its object is gone

    def named(self, tensor: keras.KerasTensor) -> Tensor:
        """A new value of the graph for a symbolic tensor."""
        name = f"v{len(self._names)}"
        self._names[id(tensor)] = name
        self._alive.append(tensor)
        return Tensor(name=name, shape=tuple(tensor.shape), dtype=str(tensor.dtype))

    def argument(self, value: Any) -> Any:
        """What stands in a graph for an argument: a `Ref` for anything that holds values, else the plain value."""
        if isinstance(value, keras.KerasTensor):
            return Ref(self._names[id(value)]) if id(value) in self._names else Ref(self.named(value).name)
        if isinstance(value, keras.Variable):
            return self.argument(self.parameter(value))
        if isinstance(value, np.ndarray) or keras.ops.is_tensor(value):
            array = value if isinstance(value, np.ndarray) else keras_side.to_numpy(value)
            return array.item() if array.ndim == 0 else self._constant(np.array(array))
        if isinstance(value, np.generic):
            return value.item()
        return (
            f"{value.__module__}.{value.__qualname__}" if callable(value) and hasattr(value, "__qualname__") else value
        )

    def parameter(self, variable: keras.Variable) -> keras.KerasTensor:
        """The symbolic tensor that stands for a variable."""
        path = self.variables.get(id(variable), (variable.path, variable))[0]
        if path not in self._symbols:
            symbol = keras.KerasTensor(tuple(variable.shape), dtype=str(variable.dtype))
            self._symbols[path] = symbol
            self.parameters[path] = Parameter(path=path, tensor=self.named(symbol), trainable=bool(variable.trainable))
        return self._symbols[path]

    def symbol(self, value: Any) -> Any:
        """A tensor with values as a constant of the graph; anything else as it is."""
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
        """Notes one call."""
        layer = isinstance(operation, keras.layers.Layer)
        kinds = keras_side.kinds_of(operation) if layer else (kind_of_operation(operation),)
        path = (
            self.paths.get(id(operation), operation.name) if layer else "/".join((*self.inside[-1:], _last(kinds[0])))
        )
        arguments = mapped(arguments_of(operation, args, kwargs), self.argument)
        made = [self.named(tensor) for tensor in keras.tree.flatten(outputs) if tensor is not None]
        self.nodes.append(
            Node(
                calls=tuple(self.calls[1:]),
                kinds=kinds,
                path=path.lstrip("/"),
                arguments=arguments,
                outputs=tuple(made),
                structure=mapped(outputs, self.argument),
                config=noted_config(operation) if layer else {},
            )
        )

    def created(self, name: str, arguments: Mapping[str, Any], made: Any) -> Any:
        """Notes a tensor that was made of sizes alone, and returns what stands for it."""
        if self.shapes_only or not self.creations:
            return made
        symbol = keras.KerasTensor(tuple(made.shape), dtype=keras.backend.standardize_dtype(made.dtype))
        node = Node(
            calls=tuple(self.calls[1:]),
            kinds=(f"keras.ops.{name}",),
            path="/".join((*self.inside[-1:], name)).lstrip("/"),
            arguments=mapped(dict(arguments), self.argument),
            outputs=(self.named(symbol),),
        )
        self.nodes.append(replace(node, structure=Ref(node.outputs[0].name)))
        return symbol

    def call(self, layer: keras.layers.Layer, given: Any) -> Any:
        """Calls the model itself, in inference mode."""
        args = given if isinstance(given, tuple) else (given,)
        return layer(*args, training=False) if layer._call_has_training_arg else layer(*args)

    def follow(self, layer: keras.layers.Layer, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Notes a layer, or runs it and notes what it calls."""
        path = self.paths.get(id(layer), layer.name)
        if isinstance(layer, keras.layers.TimeDistributed) and not layer.layer._call_has_mask_arg:
            kwargs = {name: value for name, value in kwargs.items() if name != "mask"}  # Keras gives it to no step
        if path not in self.followed and self.is_leaf(layer, keras_side.kinds_of(layer)):
            return self._leaf(layer, original, args, kwargs)
        before = len(self.nodes)
        self.inside.append(path)
        self.calls.append(f"{path}:{next(self._numbers)}")
        try:
            with _symbolic_variables(layer, self):
                if isinstance(layer, keras.layers.Activation):
                    return self.activation(layer.activation, args[0])
                if isinstance(layer, keras.layers.TimeDistributed):
                    return distributed(layer, *args, **kwargs)
                return layer.call(*args, **kwargs)
        except raised_by_keras() as error:
            if len(self.inside) == 1:
                raise
            del self.nodes[before:]
            self.problems.append(_cannot_follow(path, layer, error))
            return self._leaf(layer, original, args, kwargs)
        finally:
            self.inside.pop()
            self.calls.pop()

    def _leaf(self, layer: keras.layers.Layer, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Notes a layer; an activation that it ends with is followed as if it were called after it."""
        self.shapes_only += 1  # what runs now tells the shapes, and is nothing that the model does
        try:
            outputs = original(layer, *args, **kwargs)
            if any(None in tensor.shape for tensor in keras.tree.flatten(outputs) if tensor is not None):
                # Some layers keep the free sizes that they were built with: what they compute tells.
                outputs = keras.src.backend.compute_output_spec(layer.call, *args, **kwargs)
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

    def activation(self, function: Callable[[Any], Any], given: Any) -> Any:
        """Notes an activation of Keras by its name; any other function is followed."""
        name = getattr(function, "__name__", "")
        if getattr(keras.activations, name, None) is not function:
            return function(given)
        self.shapes_only += 1
        try:
            outputs = keras.src.backend.compute_output_spec(function, given)
        finally:
            self.shapes_only -= 1
        path = "/".join((*self.inside[-1:], name)).lstrip("/")
        node = Node(
            calls=tuple(self.calls[1:]),
            kinds=(f"keras.activations.{name}",),
            path=path,
            arguments={"x": self.argument(given)},
            outputs=(self.named(outputs),),
        )
        self.nodes.append(replace(node, structure=Ref(node.outputs[0].name)))
        return outputs


@contextmanager
def _patched(tracer: _Tracer) -> Iterator[None]:
    """While symbolic tensors go through them, layers and operations tell the tracer."""
    layer_call, operation_call = keras.layers.Layer.symbolic_call, keras.Operation.symbolic_call
    call = keras.layers.Layer.__call__

    def symbolic_layer(self: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        if tracer.shapes_only:
            return layer_call(self, *args, **kwargs)
        return tracer.follow(self, layer_call, args, kwargs)

    def symbolic_operation(self: keras.Operation, *args: Any, **kwargs: Any) -> Any:
        outputs = operation_call(self, *args, **kwargs)
        if not tracer.shapes_only:
            tracer.note(self, args, kwargs, outputs)
        return outputs

    def any_layer(self: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        if not tracer.shapes_only and id(self) in tracer.paths and self.weights and not _any_symbolic(args, kwargs):
            args = keras.tree.map_structure(tracer.symbol, args)  # else its weights would become a constant
        return call(self, *args, **kwargs)

    def no_node(**kwargs: Any) -> None:
        """Keras would keep every symbolic call in its layers, and refuse one that returns None beside tensors."""

    keras.layers.Layer.symbolic_call = symbolic_layer
    keras.Operation.symbolic_call = symbolic_operation
    keras.layers.Layer.__call__ = any_layer
    keras.src.layers.layer.Node = keras.src.ops.operation.Node = no_node
    try:
        yield
    finally:
        keras.layers.Layer.symbolic_call = layer_call
        keras.Operation.symbolic_call = operation_call
        keras.layers.Layer.__call__ = call
        keras.src.layers.layer.Node = keras.src.ops.operation.Node = KerasNode


def _any_symbolic(args: Any, kwargs: Any) -> bool:
    return any(isinstance(leaf, keras.KerasTensor) for leaf in keras.tree.flatten((args, kwargs)))


@contextmanager
def _symbolic_variables(layer: keras.layers.Layer, tracer: _Tracer) -> Iterator[None]:
    """The variables that are attributes of a layer are symbolic tensors while it is followed."""

    def swapped(value: Any) -> Any:
        if isinstance(value, keras.Variable):
            return tracer.parameter(value) if id(value) in tracer.variables else value
        if type(value) in (list, tuple, dict) and any(isinstance(v, keras.Variable) for v in keras.tree.flatten(value)):
            return mapped(value, swapped)
        return value

    before = dict(vars(layer))
    kept = {"_trainable_variables", "_non_trainable_variables", "_tracker"}
    changed = {name: swapped(value) for name, value in before.items() if name not in kept}
    changed = {name: value for name, value in changed.items() if value is not before[name]}
    vars(layer).update(changed)
    try:
        yield
    finally:
        vars(layer).update({name: before[name] for name in changed})


def _cannot_follow(path: str, layer: keras.layers.Layer, error: Exception) -> Problem:
    kind = keras_side.kinds_of(layer)[0] if keras_side.kinds_of(layer) else type(layer).__qualname__
    said = keras_side.what_was_said(error)
    return Problem(
        keras=path,
        fact=f"the call of {kind} cannot be followed with symbolic tensors: {type(error).__name__}: {said}",
        fixes=(stub(kind, [role for role, _ in variables_of(layer)]),),
    )


def _cannot_call(model: keras.layers.Layer, error: Exception, problems: list[Problem]) -> ModelError:
    fact = f"{type(error).__name__}: {keras_side.what_was_said(error)}"
    return ModelError(
        lay_out(
            f"{model.name} (keras) cannot be called with symbolic tensors",
            [*problems, Problem(keras=model.name, fact=fact)],
        )
    )


def _last(kind: str) -> str:
    return kind.rpartition(".")[2]


__all__ = ["IsLeaf", "graph_of"]


def leaf_by_name(known: Mapping[str, object]) -> IsLeaf:
    """Layers of these classes, where they are called as these classes are: a subclass with its own `call` is followed.

    Args:
        known: The qualified class names.
    """

    def is_leaf(layer: keras.layers.Layer, kinds: tuple[str, ...]) -> bool:
        if isinstance(layer, keras.layers.Activation):
            return False  # its function is followed
        bases: tuple[Any, ...] = type(layer).__mro__
        for base in bases:
            if issubclass(base, keras.layers.Layer) and keras_side.class_name(base) in known:
                return bool(type(layer).call is base.call)
        return False

    return is_leaf
