"""Trace a live Keras model into a call graph, by calling it with symbolic tensors.

This works for functional, sequential, nested and subclassed models and for shared layers. Only shapes are computed.

A model is traced twice with different numbers for its dynamic sizes (the batch size, the length of a sequence). A
number that differs between the two traces becomes a symbolic `Size`. A constant that happens to equal a size does not
differ.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import keras

from keras3conv.errors import Problem
from keras3conv.frameworks.keras import model as keras_side
from keras3conv.frameworks.keras.attributes import attribute_paths
from keras3conv.frameworks.keras.modes import float64_mode
from keras3conv.frameworks.keras.observing import Original, added_losses, layer_calls, symbolic_calls
from keras3conv.frameworks.keras.state import tensors_kept
from keras3conv.frameworks.keras.tracing.comparing import equality_recorded
from keras3conv.frameworks.keras.tracing.composed import composed, differing_loops, loops_of
from keras3conv.frameworks.keras.tracing.creation import creations_recorded, draws_noted, numbers_kept
from keras3conv.frameworks.keras.tracing.endings import output_names
from keras3conv.frameworks.keras.tracing.indexing import every_index
from keras3conv.frameworks.keras.tracing.loops import has_own_cell, unrolled
from keras3conv.frameworks.keras.tracing.merging import DEPENDS, merged
from keras3conv.frameworks.keras.tracing.numbers import number_of, with_exact_numbers
from keras3conv.frameworks.keras.tracing.problems import cannot_call, corrected
from keras3conv.frameworks.keras.tracing.sizes import Sizes, at_accepted_sizes
from keras3conv.frameworks.keras.tracing.traced import Traced
from keras3conv.frameworks.keras.tracing.tracer import IsLeaf, Tracer
from keras3conv.frameworks.keras.tracing.variables import symbolic_variables
from keras3conv.frameworks.keras.training_only import training_only
from keras3conv.frameworks.keras.values import raised_by_keras
from keras3conv.frameworks.keras.view import STANDS_FOR_ITS_BASE
from keras3conv.model.graph import Graph, mapped
from keras3conv.model.views import ModelView


def graph_of(
    model: keras.layers.Layer,
    is_leaf: IsLeaf,
    inputs: Any = None,
    followed: frozenset[str] = frozenset(),
    *,
    shared: bool = True,
) -> tuple[Graph, tuple[Problem, ...]]:
    """Return the call graph of a model, and the problems of layers that cannot be traced.

    Args:
        model: A built model or layer; it is unchanged afterwards.
        is_leaf: Selects the layers that become one node of the graph; of other layers, the inner calls become nodes.
        inputs: Arrays whose shapes are used; all sizes but the batch size are then fixed. If None, the input
            specifications of the model are used, with their dynamic sizes.
        followed: The paths of layers to trace into even if `is_leaf` selects them.
        shared: Whether the inputs share their dynamic sizes. If they need not, the model is first called with different
            numbers for each input; if it does not accept these, the inputs share their sizes.

    Raises:
        ModelError: The model has no input specification, or cannot be called with symbolic tensors.
    """
    keras_side.require_built(model)
    view, written = keras_side.view(model), attribute_paths(model)

    def traced(sizes: Sizes, *, creations: bool) -> tuple[Graph, tuple[Problem, ...]]:
        tracers = [Tracer(model, is_leaf, followed, creations) for _ in range(2)]
        first, second = (_trace(model, tracer, sizes.structure(which), view) for which, tracer in enumerate(tracers))
        loops = differing_loops(first.loops, second.loops)
        graph, problems = (first.graph, loops) if loops else merged(first.graph, second.graph, sizes)
        if first.has_rounded_numbers:
            with float64_mode(model):
                tracer = Tracer(model, is_leaf, followed, creations)
                graph = with_exact_numbers(graph, _trace(model, tracer, sizes.structure(0), view).graph)
        remarks = training_only(model, written, first.entered, first.losses)
        return replace(graph, remarks=remarks), (*first.problems, *problems)

    sizes, (graph, problems) = at_accepted_sizes(
        Sizes.of(model, inputs), Sizes.of(model, inputs, shared=shared), partial(traced, creations=False)
    )
    if any(DEPENDS in problem.fact for problem in problems):
        graph, problems = traced(sizes, creations=True)
    names = {tensor.name: given.name for tensor, given in zip(graph.inputs, sizes.inputs, strict=True)}
    graph = replace(
        graph.pruned(),
        input_names=names,
        keeps_names=sizes.are_named,
        margin=sizes.margin,
        multiple=sizes.multiple,
        written=written,
    )
    return graph, problems


def _trace(model: keras.layers.Layer, tracer: "Tracer", inputs_of_call: Any, view: ModelView) -> Traced:
    inputs = [tensor for tensor in keras.tree.flatten(inputs_of_call) if tensor is not None]
    named = tuple(tracer.named(tensor) for tensor in inputs)
    with ExitStack() as contexts:
        for context in (tensors_kept(model), _traced(tracer), draws_noted(tracer.drawn), numbers_kept(), every_index()):
            contexts.enter_context(context)
        contexts.enter_context(creations_recorded(tracer.created))
        contexts.enter_context(equality_recorded())
        contexts.enter_context(symbolic_variables(tracer.variables, lambda: not tracer.shapes_only))
        try:
            outputs = tracer.call(model, inputs_of_call)
        except raised_by_keras() as error:
            raise cannot_call(model, error, tracer.problems) from error
    graph = Graph(
        name=model.name,
        view=view,
        inputs=named,
        input_structure=mapped(inputs_of_call, tracer.argument),
        nodes=tuple(tracer.nodes),
        outputs=mapped(outputs, tracer.argument),
        output_names=output_names(model),
        parameters=tuple(tracer.parameters.values()),
        constants=tracer.constants,
    )
    return Traced(
        graph=graph,
        problems=tuple(tracer.problems),
        entered=frozenset(tracer.entered),
        losses=frozenset(tracer.losses),
        has_rounded_numbers=tracer.has_rounded_numbers,
        loops=tuple(tracer.loops),
    )


@contextmanager
def _traced(tracer: Tracer) -> Iterator[None]:
    """Let a tracer record all calls of layers and operations inside the `with` block."""

    def on_operation(original: Original, operation: Any, args: Any, kwargs: Any) -> Any:
        if (number := number_of(operation, args, kwargs)) is not None:
            return number
        written_out = unrolled(operation, args, kwargs) or composed(operation, args, kwargs)
        if not tracer.shapes_only and written_out is not None:
            tracer.loops += loops_of(operation, args, kwargs, tracer.inside)
            return written_out()
        outputs = corrected(operation, args, kwargs, original(operation, *args, **kwargs))
        if not tracer.shapes_only:
            tracer.note(operation, args, kwargs, outputs)
        return outputs

    def on_call(original: Original, layer: Any, args: Any, kwargs: Any) -> Any:
        if not tracer.shapes_only and id(layer) in tracer.paths and layer.weights and not _any_symbolic(args, kwargs):
            args = keras.tree.map_structure(tracer.symbol, args)  # or the layer's weights would become a constant
        return original(layer, *args, **kwargs)

    def on_loss(original: Original, layer: Any, args: Any, kwargs: Any) -> None:
        tracer.losses.add(tracer.paths.get(id(layer), layer.name))

    with symbolic_calls(tracer.on_layer, on_operation), layer_calls(on_call), added_losses(on_loss):
        yield


def _any_symbolic(args: Any, kwargs: Any) -> bool:
    return any(isinstance(leaf, keras.KerasTensor) for leaf in keras.tree.flatten((args, kwargs)))


def leaf_by_name(known: Mapping[str, object]) -> IsLeaf:
    """Return a function that selects the layers that become one node: layers of known classes.

    A subclass that overrides `call` is traced into, unless its class sets `stands_for_its_base` to True.
    """

    def is_leaf(layer: keras.layers.Layer, kinds: tuple[str, ...]) -> bool:
        if isinstance(layer, keras.layers.Activation) or has_own_cell(layer):
            return False  # the function of the activation, or the cell, is traced
        bases: tuple[Any, ...] = type(layer).__mro__
        for base in bases:
            if issubclass(base, keras.layers.Layer) and keras_side.class_name(base) in known:
                return bool(type(layer).call is base.call or vars(type(layer)).get(STANDS_FOR_ITS_BASE))
        return False

    return is_leaf
