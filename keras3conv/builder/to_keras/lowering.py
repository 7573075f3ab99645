"""Convert the call graph of a torch module to a program, the list of statements of a functional Keras model."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from keras3conv.builder.program.layouts import Channels
from keras3conv.builder.program.names import identifier
from keras3conv.builder.program.operation import Dtype, Operation, Submodule, transformed, walk
from keras3conv.builder.program.program import Order, Program, Step, Value, Weight, identity
from keras3conv.builder.to_keras import library
from keras3conv.builder.to_keras.call import WITHOUT_PROMOTION, Call, LayerCall, Placed, ops
from keras3conv.builder.to_keras.finishing import finished
from keras3conv.builder.to_keras.forms import FORMS, Constant, Held, Parts, Unmerged
from keras3conv.builder.to_keras.holding import complex_of, layer_of
from keras3conv.builder.to_keras.layers import Layers, chosen_layers, shared_parameters, with_data_format, with_options
from keras3conv.builder.to_keras.layouts import channels_last, input_order, output_order
from keras3conv.builder.to_keras.lowered import Lowered
from keras3conv.builder.to_keras.on_parts import handled
from keras3conv.builder.to_keras.ordering import ordered
from keras3conv.builder.to_keras.returning import dependent
from keras3conv.builder.to_keras.sizes import numbers_up_to, unknown_after
from keras3conv.builder.to_keras.unmerged import merged
from keras3conv.errors import Problem, RuleError
from keras3conv.model.graph import Graph, Node, Ref, Shape, Size, Tensor, mapped
from keras3conv.rules.obstacle import call_problem
from keras3conv.rules.rule import Config


def lower(graph: Graph, shapes: dict[str, Shape], lines: dict[str, str], channels: Channels = "last") -> Lowered:
    """Return the Keras program of a graph, with a problem for every call that cannot be converted.

    Args:
        graph: The graph of a torch module.
        shapes: The shapes of the constants, by name; they may contain a dynamic size.
        lines: For each call, the line of the user's code that makes it, by the name of the call's first output.
        channels: The position of the channel axis of images in the Keras model: "last" or "first".
    """
    library.load()
    lowering = _Lowering(graph, shapes, channels)
    for node in graph.nodes:
        lowering.node(node, lines.get(node.outputs[0].name, ""))
    program = lowering.program()
    return Lowered(
        program=program,
        placements=tuple(one for one in lowering.layers.placements if one.layer in program.modules),
        problems=tuple(dict.fromkeys(lowering.problems)),
        refused=frozenset(lowering.refused),
        results={name: given for name, given in lowering._given.items() if isinstance(given, Value)},
    )


class _Lowering:
    """A Keras program under construction; it implements the interface `Writer` for handlers."""

    def __init__(self, graph: Graph, shapes: dict[str, Shape], channels: Channels) -> None:
        self.graph, self.channels = graph, channels
        self.values: dict[str, Value] = {}
        self.steps: list[Step] = []
        self.layers = Layers({identifier(graph.input_names.get(one.name, one.name)) for one in graph.inputs})
        self.weights: dict[str, Weight] = {}
        self.problems: list[Problem] = []
        self.refused: set[str] = set()
        self._calls: tuple[str, ...] = ()
        self._path = ""
        self._variables: dict[str, tuple[str, ...]] = {}
        self._variable: tuple[str, ...] = ()
        self._made: dict[object, Value] = {}
        self.example_numbers: set[str] = set()
        self.parts: dict[str, Parts] = {}
        self.before_reshape: dict[Value, Value] = {}
        self._users: dict[str, list[Node]] = {}
        for node in graph.nodes:
            for name in dict.fromkeys(node.inputs):
                self._users.setdefault(name, []).append(node)
        self._given: dict[str, Any] = {
            name: Constant(name=name, array=array, shape=shapes[name]) for name, array in graph.constants.items()
        }
        shared = shared_parameters(graph)
        for parameter in graph.parameters:
            self._given[parameter.tensor.name] = Held(parameter=parameter, is_shared=parameter.tensor.name in shared)
        self._inputs = tuple(self._input(tensor) for tensor in graph.inputs)

    def node(self, node: Node, line: str) -> None:
        """Convert one call of the graph, or record a problem with `line`, the call in the user's code."""
        self._calls, self._path = node.calls, node.path
        self._variable = next(iter(node.variables), ())
        try:
            result = handled(Call(node, mapped(node.arguments, self._argument), self))
        except RuleError as error:
            self.problems.append(call_problem(self.graph.view, node, f"{error}" + (f"; {line}" if line else "")))
            self.refused.add(node.kind)
            result = [self.new(tensor.shape, identity(len(tensor.shape)), tensor.dtype) for tensor in node.outputs]
        results = result if isinstance(result, list | tuple) else [result]
        for place, (tensor, made) in enumerate(zip(node.outputs, results, strict=False)):
            self._given[tensor.name] = made
            if isinstance(made, Value) and place < len(node.variables) > 1:
                self._variables[made.name] = node.variables[place]

    def _argument(self, leaf: Any) -> Any:
        if not isinstance(leaf, Ref):
            return leaf
        found = self._given.get(leaf.name)
        if found is None:
            raise RuleError(f"the argument {leaf.name} is the result of an operator that cannot be converted")
        if isinstance(found, Held) and found.is_complex:
            self._given[leaf.name] = complex_of(self, found)
        return self._given[leaf.name]

    def _input(self, tensor: Tensor) -> Value:
        order = input_order(self.graph, tensor, self.channels)
        value = Value(name=tensor.name, shape=tensor.shape, order=order, dtype=tensor.dtype)
        self.values[value.name] = self._given[tensor.name] = value
        return value

    def users(self, name: str) -> Sequence[Node]:
        return self._users.get(name, [])

    def is_constant(self, value: Value) -> bool:
        return value.name in self.weights

    def image_order(self, rank: int) -> Order:
        return channels_last(rank) if self.channels == "last" else identity(rank)

    def new(self, shape: Shape, order: Order, dtype: str, flattened: tuple[int, ...] = ()) -> Value:
        name = f"v{len(self.values)}"
        self.values[name] = Value(name=name, shape=tuple(shape), order=tuple(order), dtype=dtype, flattened=flattened)
        self._variables[name] = self._variable
        return self.values[name]

    def write(self, expression: Any, results: Sequence[Value]) -> None:
        """Add a step; raise `RuleError` if its expression has a dynamic size, which no Keras operation accepts."""
        if any(isinstance(leaf, Size) for leaf in walk(expression)):
            raise RuleError("a dynamic size is used as a number, but Keras accepts dynamic sizes only in shapes")
        # Constants alone are computed in their own dtype, and beside a scalar torch gives the result their dtype.
        leaves = [leaf for leaf in walk(expression) if isinstance(leaf, Value)]
        is_narrow = all(self.is_constant(leaf) or (not leaf.rank and len(leaves) > 1) for leaf in leaves)
        if is_narrow or (isinstance(expression, Operation) and expression.name in WITHOUT_PROMOTION):
            expression = transformed(expression, self._promoted)
        elif results[0].dtype.startswith("float") and any(
            self.weights[leaf.name].dtype == "float64" for leaf in leaves if self.is_constant(leaf)
        ):
            expression = ops.cast(expression, Dtype("float32"))  # torch and TensorFlow promote to float64
        named = transformed(expression, lambda node: Ref(node.name) if isinstance(node, Value) else node)
        outputs = tuple(value.name for value in results)
        self.steps.append(Step(expression=named, outputs=outputs, path=self._path, calls=self._calls))

    def _promoted(self, node: Any) -> Any:
        """Return an operand of an expression; a floating-point constant is multiplied by ones of the model's dtype."""
        return self._symbolic(node, node.shape) if isinstance(node, Value) and node.dtype.startswith("float") else node

    def value(self, tensor: Any, order: Order | None = None) -> Value:
        if isinstance(tensor, Value):
            return tensor
        if isinstance(tensor, Held):
            return self.held(tensor, order)
        if isinstance(tensor, Constant):
            return self._constant(tensor, order)
        if isinstance(tensor, Unmerged):
            self._made[tensor] = self._made.get(tensor) or merged(self, tensor)
            return self._made[tensor]
        name = type(tensor).__name__
        raise RuleError(f"the operator needs a tensor of real numbers, found {FORMS.get(name, name)}")

    def _constant(self, tensor: Constant, order: Order | None) -> Value:
        order = identity(tensor.array.ndim) if order is None else order
        array = np.asarray(tensor.array, order="C")
        if array.dtype == np.float64 and np.array_equal(array, array.astype(np.float32), equal_nan=True):
            array = array.astype(np.float32)  # else float64: a float64 run needs the exact values
        key = array.tobytes(), array.dtype.name, array.shape, tensor.shape, order
        if key not in self._made:
            made = self._made[key] = self.new(tensor.array.shape, order, tensor.dtype)
            self.weights[made.name] = Weight(
                name=self.layers.new_name(re.sub(r"^[bc]_", "", tensor.name)),
                shape=tensor.array.shape,
                dtype=array.dtype.name,
                trainable=False,
                array=array.transpose(order),
            )
        return self._made[key]

    def ordered(self, value: Value, order: Order) -> Value:
        """Return a value in the given axis order; an earlier permutation of the value is used again."""
        return ordered(self, self._made, value, tuple(order))

    def held(self, parameter: Held, order: Order | None = None, *, for_each_example: bool = False) -> Value:
        """Add an `EinsumDense` whose kernel is the parameter, and return its output, which equals the parameter.

        The layer is called with ones. With `for_each_example` the leading axis of size one becomes the batch axis.
        """
        order = identity(len(parameter.shape)) if order is None else tuple(order)
        key = parameter.path, order, for_each_example
        if key not in self._made:
            calls, self._calls = self._calls, ()
            ones = self._ones(for_each_example)
            self._made[key] = layer_of(self, parameter, order, ones, for_each_example=for_each_example)
            self._calls = calls
        return self._made[key]

    def example_ones(self) -> Value:
        return self._ones(for_each_example=True)

    def _ones(self, for_each_example: bool) -> Value:
        """Return ones that are computed from an input: of shape (batch, 1) with `for_each_example`, else (1, 1)."""
        key = "ones", for_each_example
        if key not in self._made:
            calls, path, self._calls, self._path = self._calls, self._path, (), ""
            first = next(value for value in self._inputs if value.rank)
            index = (slice(None) if for_each_example else 0, *(0,) * (first.rank - 1))
            options = {} if first.dtype.startswith("float") else {"dtype": Dtype("float32")}
            made = self._made[key] = self.new((first.shape[0] if for_each_example else 1, 1), (0, 1), "float32")
            self.write(ops.reshape(ops.ones_like(first[index], **options), (-1, 1)), [made])
            self._variables[made.name] = ("ones",)
            self._calls, self._path = calls, path
        return self._made[key]

    def numbers(self, size: Size) -> Value:
        key = "numbers", size
        if key not in self._made:
            self._made[key] = numbers_up_to(self, size, self._inputs)
        return self._made[key]

    def layer(
        self, kind: str, config: Config, value: Value, weights: Sequence[Placed], name: str, result: Value
    ) -> None:
        own = self.layers.configured(kind, config, weights, name or self._path)
        self.write(Submodule(own)(self._symbolic(value, result.shape)), [result])

    def _symbolic(self, value: Value, result: Shape) -> Value:
        """Return a value that a layer can take: a constant times ones, of batch size if `result` has a batch."""
        if not self.is_constant(value):
            return value
        for_each_example = value.shape[:1] == (1,) and value.order[0] == 0 and isinstance(result[0], Size)
        key = "symbolic", value, for_each_example
        if key not in self._made:
            sizes = (-1 if for_each_example else 1, *(1,) * (value.rank - 1))[: value.rank]
            ones = ops.reshape(self._ones(for_each_example=for_each_example), sizes)
            shape = (result[0], *value.shape[1:]) if for_each_example else value.shape
            made = self._made[key] = self.new(shape, value.order, value.dtype)
            self._variables[made.name] = ()  # the user's variable at this place is that of the layer's output
            self.write(ops.multiply(value, ones), [made])
            self.steps[-1] = replace(self.steps[-1], calls=())  # several layers may use it
        return self._made[key]

    def by_rule(self, call: LayerCall, value: Value, result: Tensor) -> Value:
        value = self.ordered(self._symbolic(value, result.shape), call.order)
        sizes = tuple(size if isinstance(size, int) else None for size in value.shape)
        call = replace(call, config={**call.config, "inputs": (sizes,)})
        rule, specs = chosen_layers(call)
        order = call.order if len(result.shape) == value.rank else identity(len(result.shape))
        owner = max((place for place, spec in enumerate(specs) if spec.kind == rule.keras), default=len(specs) - 1)
        for place, made_spec in enumerate(specs):
            spec = with_options(with_data_format(made_spec, self.channels, value.rank), call.options)
            shape = result.shape if place == len(specs) - 1 else unknown_after(value.shape)
            made = self.new(shape, order, result.dtype)
            if spec.kind.startswith("keras.ops."):
                self.write(ops.named(spec.kind.rpartition(".")[2])(value, **spec.config), [made])
            else:
                name = self.layers.by_rule(call, spec, place, rule if place == owner else None, self._path)
                called = Submodule(name)(value, **call.keywords)
                self.write(called if call.part is None else called[call.part], [made, *call.more])
            value = made
        return value

    def program(self) -> Program:
        """Return the finished program: its outputs in the requested axis order, without dead code."""
        self._calls, self._path = (), ""
        orders: list[Order] = []

        def returned(leaf: Any) -> Any:
            try:
                value = self.value(self._given[leaf.name])
            except RuleError as error:
                fact = f"an output of the module cannot be converted: {error}"
                self.problems.append(Problem(torch=self.graph.name, fact=fact))
                return leaf
            if self.is_constant(value):
                value = dependent(self, value, self._given[leaf.name].shape)
            orders.append(output_order(value, self.channels))
            return Ref(self.ordered(value, orders[-1]).name)

        outputs = () if self.problems else mapped(self.graph.outputs, returned)
        if self.problems:
            return Program(name=self.graph.name, inputs=(), steps=(), outputs=(), values={})
        program = Program(
            name=self.graph.name,
            inputs=self._inputs,
            steps=tuple(self.steps),
            outputs=outputs,
            values=self.values,
            modules=self.layers.modules,
            weights=self.weights,
            input_names=self.graph.input_names,
            output_orders=tuple(orders),
            variables=self._variables,
        )
        return finished(program)
