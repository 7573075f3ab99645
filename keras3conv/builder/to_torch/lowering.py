"""Convert the call graph of a Keras model to a torch program, a list of statements, in execution order."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any

from keras3conv.builder.operations import library as handlers
from keras3conv.builder.operations.call import HANDLERS, Call
from keras3conv.builder.program.layouts import Channels, input_order, output_order, returns_given_order
from keras3conv.builder.program.operation import Submodule, transformed
from keras3conv.builder.program.program import Order, Program, Step, Value, identity
from keras3conv.builder.to_torch.members import Members, written
from keras3conv.builder.to_torch.modules import as_function, choose, is_pointwise
from keras3conv.builder.to_torch.padding import padding_at_run_time
from keras3conv.errors import Problem, RuleError, message_of
from keras3conv.model.graph import Graph, Node, Ref, Shape, Size, mapped, refs
from keras3conv.model.views import LayerView
from keras3conv.rules.units import units
from keras3conv.transforms import Array


def lower(
    graph: Graph, channels: Channels = "first", unsupported: frozenset[str] = frozenset()
) -> tuple[Program, tuple[Problem, ...]]:
    """Return the torch program of a graph, and a problem for every call that cannot be converted.

    If there are problems, the program is incomplete and invalid.

    Args:
        graph: The graph of a Keras model.
        channels: The position of the channel axis of images in the inputs and outputs of the module: "first" or "last".
        unsupported: The paths of layers that are known to be unsupported; no further problem is reported for them.
    """
    handlers.load()
    lowering = _Lowering(graph, channels)
    for node in graph.nodes:
        if node.path in unsupported:
            lowering.fail(node)
        else:
            lowering.node(node)
    return lowering.program(), tuple(lowering.problems)


class _Lowering:
    """A torch program under construction; it implements the interface `ProgramBuilder` for handlers."""

    def __init__(self, graph: Graph, channels: Channels) -> None:
        self.graph, self.channels = graph, channels
        self.layers: dict[str, LayerView] = {layer.path: layer for layer in (*graph.view.layers, *units(graph.view))}
        self.values: dict[str, Value] = {}
        self.made: dict[str, Value] = {}
        self.steps: list[Step] = []
        self.problems: list[Problem] = []
        self._permuted: dict[tuple[str, Order, tuple[str, ...]], Value] = {}
        self._calls: tuple[str, ...] = ()
        self._made_in: dict[str, tuple[str, ...]] = {}
        self._members = Members(graph)
        self._first_shapes = _first_shapes(graph)
        self._inputs = tuple(self._input(tensor.name) for tensor in graph.inputs)
        for key in self._members.weights:
            self._weight(key)

    @property
    def anchor(self) -> Value:
        """The first input of the model."""
        return self._inputs[0]

    def node(self, node: Node) -> None:
        """Convert one call of the graph, or record the problem if the call cannot be converted."""
        self._calls = node.calls
        try:
            call = Call(node, mapped(node.arguments, self._argument), self)
            handler = HANDLERS.get(node.kind)
            if handler is not None:
                handler(call)
            else:
                self.by_rule(call)
        except RuleError as error:
            self.problems.append(Problem(keras=node.path, fact=message_of(error)))
            self.fail(node)
            return
        self.values.update(call.returned)

    def fail(self, node: Node) -> None:
        """Record substitute outputs for a call that cannot be converted, so that calls which use them are checked."""
        for tensor in node.outputs:
            order = identity(len(tensor.shape))
            self._note(Value(name=tensor.name, shape=tensor.shape, order=order, dtype=tensor.dtype))

    def by_rule(self, call: Call) -> None:
        """Convert the layer of a call with the rule for the class of the layer (see `keras3conv.rules`)."""
        node = call.node
        is_operation = node.kind.startswith(("keras.ops.", "keras.activations."))
        if node.path not in self.layers or is_operation or not call.tensors:
            raise RuleError(
                f"{node.kind} is not supported: torch has no counterpart for it, and no rule is registered for the "
                "class"
            )
        given = call.tensor
        layer = replace(self.layers[node.path], config=node.config)
        _require_no_extra_arguments(node)
        layer, given = self._padded(call, layer, given)
        choice = choose(layer, given)
        before, given = given, given if choice.order is None else call.order(given, choice.order)
        parts = [
            as_function(spec) or Submodule(self._members.of_layer(layer, choice, place, given))
            for place, spec in enumerate(choice.specs)
        ]
        order = given.order if given.rank == len(node.outputs[0].shape) else None
        is_pointwise_layer = choice.order is None
        for part in parts[:-1]:
            given = call.step(part(given))
        if order is not None and order != before.order and returns_given_order(self.graph, node, before):
            made = call.step(parts[-1](given), shape=call.shape, order=order, dtype=call.dtype)
            call.passes(call.order(made, before.order))
            return
        call.returns(parts[-1](given), order, flattened=given.flattened if is_pointwise_layer else ())

    def _padded(self, call: Call, layer: LayerView, tensor: Value) -> tuple[LayerView, Value]:
        """Add a step that pads the input of a layer, if the padding must be computed at run time.

        Returns:
            The layer with padding="valid" and its padded input; or both unchanged, if no such padding is needed.
        """
        shapes = self._first_shapes.get(call.node.path, ())
        padding = padding_at_run_time(layer, tensor, differs=len(shapes) > 1)
        if padding is None:
            return layer, tensor
        tensor = call.order(tensor, padding.order)
        free = Size(symbols=("unknown",))
        shape = tuple(size if axis in padding.order[:2] else free for axis, size in enumerate(tensor.shape))
        made = call.step(padding.of(tensor), shape=shape)
        return replace(layer, config={**(layer.config or {}), "padding": "valid"}), made

    def rule_module(self, call: Call, only: str, **config: Any) -> Submodule:
        """Return the submodule to which a rule converts the layer of a call; see `ProgramBuilder`."""
        node = call.node
        layer = replace(self.layers[node.path], config={**node.config, **config})
        choice = choose(layer, call.tensor, only)
        if len(choice.specs) != 1:
            raise RuleError(f"{node.kind} becomes {len(choice.specs)} torch layers, but this call needs a single one")
        return Submodule(self._members.of_layer(layer, choice, 0, call.tensor))

    def module(self, kind: str, config: Mapping[str, Any], path: str) -> Submodule:
        """Add a submodule without weights from Keras, such as a Softmax, and return it; see `ProgramBuilder`."""
        return Submodule(self._members.without_weights(kind, config, path))

    def variable(self, path: str) -> Value:
        """Add a Keras variable as a parameter or buffer of the generated module, and return its value."""
        return self._weight(self._members.variable(path))

    def constant(self, array: Array, path: str) -> Value:
        """Add an array as a buffer of the generated module, and return its value."""
        return self._weight(self._members.constant(array, path))

    def _weight(self, key: str) -> Value:
        weight = self._members.weights[key]
        return self._note(Value(name=key, shape=weight.shape, order=identity(len(weight.shape)), dtype=weight.dtype))

    def permuted(self, value: Value, order: Order) -> Value:
        """Return a value in the given axis order; it is permuted once, directly after it is computed, for all uses."""
        moved = tuple(value.order.index(axis) for axis in order)
        calls = self._calls if value.name in self._members.weights else self._shared_calls(value)
        key = value.name, moved, calls if value.name in self._members.weights else ()
        if key not in self._permuted:
            made = self.new(value.shape, order, value.dtype)
            self._calls, here = calls, self._calls
            self.write(value.method("permute", *moved), [made], path="", comment="")
            self._calls = here
            self._permuted[key] = made
            back = tuple(order.index(axis) for axis in value.order)
            self._permuted.setdefault((made.name, back, ()), value)
        return replace(self._permuted[key], shape=value.shape, order=order)

    def _shared_calls(self, value: Value) -> tuple[str, ...]:
        """Return the layer calls that contain both the current statement and the one that computes a value."""
        pairs = zip(self._made_in.get(value.name, ()), self._calls, strict=False)
        return tuple(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    def new(self, shape: Shape, order: Order, dtype: str) -> Value:
        """Return a new value for an intermediate result that is no tensor of the Keras graph; see `ProgramBuilder`."""
        value = Value(name=f"t{len(self.made)}", shape=shape, order=order, dtype=dtype)
        self.made[value.name] = value
        return value

    def write(self, expression: Any, results: Sequence[Value], *, path: str, comment: str) -> None:
        """Add a statement that assigns an expression to the values in `results`; see `ProgramBuilder`."""
        named = transformed(expression, lambda node: Ref(node.name) if isinstance(node, Value) else node)
        outputs = tuple(value.name for value in results)
        made_by = written(self.graph, path)
        self.steps.append(Step(expression=named, outputs=outputs, path=made_by, comment=comment, calls=self._calls))
        for value in results:
            self._made_in[value.name] = self._calls
            self._note(value)

    def only_dense_uses(self, name: str) -> bool:
        """Return True if the tensor `name` is used only by Dense layers, directly or through pointwise operations."""
        if any(ref.name == name for ref in refs(self.graph.outputs)):
            return False
        users = [node for node in self.graph.nodes if name in node.inputs]
        return all(
            "keras.layers.Dense" in node.kinds or (is_pointwise(node) and self.only_dense_uses(node.outputs[0].name))
            for node in users
        )

    def _note(self, value: Value) -> Value:
        self.values[value.name] = self.made[value.name] = value
        return value

    def _argument(self, leaf: Any) -> Any:
        if isinstance(leaf, Ref) and leaf.name not in self.values:
            raise RuleError(
                "an argument of this call is a tensor that is not computed from the model's inputs, so it is in no "
                "file of the model: store it in a variable of a layer"
            )
        return self.values[leaf.name] if isinstance(leaf, Ref) else leaf

    def _input(self, name: str) -> Value:
        tensor = self.graph.tensors[name]
        order = identity(len(tensor.shape)) if self.channels == "last" else input_order(self.graph, tensor)
        return self._note(Value(name=name, shape=tensor.shape, order=order, dtype=tensor.dtype))

    def program(self) -> Program:
        """Return the finished program, with its outputs in the requested axis order."""
        self._calls = ()

        def returned(leaf: Any) -> Any:
            if not isinstance(leaf, Ref):
                return leaf
            value = self.values[leaf.name]
            order = output_order(value, self.channels, self._inputs)
            return Ref((value if order == value.order else self.permuted(value, order)).name)

        outputs = mapped(self.graph.outputs, returned)
        orders = (output_order(self.values[ref.name], self.channels, self._inputs) for ref in refs(self.graph.outputs))
        sizes = {symbol: (name, self.values[name].position(axis)) for symbol, (name, axis) in self.graph.sizes.items()}
        return Program(
            name=self.graph.name,
            inputs=self._inputs,
            steps=tuple(self.steps),
            outputs=outputs,
            values=self.made,
            modules=self._members.modules,
            weights=self._members.weights,
            sizes=sizes,
            input_names=self.graph.input_names,
            output_names=self.graph.output_names,
            remarks=self.graph.remarks,
            keeps_names=self.graph.keeps_names,
            output_orders=tuple(orders),
        )


def _require_no_extra_arguments(node: Node) -> None:
    """Raise `RuleError` if a call has more than one tensor argument, or a flag that is True, other than `training`."""
    arguments = {name: value for name, value in node.arguments.items() if name != "training"}
    extra = [name for name, value in arguments.items() if any(refs(value))][1:]
    extra += [name for name, value in arguments.items() if value is True]
    if extra:
        raise RuleError(
            f"{node.kind} is called with the argument {', '.join(extra)}, which the conversion to torch does not "
            "support"
        )


def _first_shapes(graph: Graph) -> dict[str, set[Shape | None]]:
    """Return the shapes of the first inputs of all calls of a layer, by the path of the layer."""
    shapes = {name: tensor.shape for name, tensor in graph.tensors.items()}
    found: dict[str, set[Shape | None]] = {}
    for node in graph.nodes:
        if node.inputs:
            found.setdefault(node.path, set()).add(shapes.get(node.inputs[0]))
    return found
