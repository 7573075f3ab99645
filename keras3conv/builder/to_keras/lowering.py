"""Convert the call graph of a torch module to a program, the list of statements of a functional Keras model."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from keras3conv.builder.program.layouts import Channels
from keras3conv.builder.program.names import identifier, unique
from keras3conv.builder.program.operation import Dtype, Operation, Submodule, transformed, walk
from keras3conv.builder.program.program import Module, Order, Program, Step, Value, Weight, identity
from keras3conv.builder.to_keras import library
from keras3conv.builder.to_keras.call import WITHOUT_PROMOTION, Call, LayerCall, Placed, ops
from keras3conv.builder.to_keras.finishing import finished
from keras3conv.builder.to_keras.forms import FORMS, Constant, Held, Parts, Unmerged
from keras3conv.builder.to_keras.holding import complex_of, layer_of
from keras3conv.builder.to_keras.layers import (
    Placement,
    chosen_layers,
    frozen,
    placements,
    shared_parameters,
    with_data_format,
    with_options,
)
from keras3conv.builder.to_keras.layouts import channels_last, input_order, output_order
from keras3conv.builder.to_keras.lowered import Lowered
from keras3conv.builder.to_keras.on_parts import handled
from keras3conv.builder.to_keras.ordering import ordered
from keras3conv.builder.to_keras.returning import dependent
from keras3conv.builder.to_keras.sizes import numbers_up_to, unknown_after
from keras3conv.builder.to_keras.unmerged import merged
from keras3conv.errors import Problem, RuleError
from keras3conv.frameworks.keras.operations import own_names
from keras3conv.model.graph import Graph, Node, Ref, Shape, Size, Tensor, mapped
from keras3conv.rules.obstacle import call_problem
from keras3conv.rules.rule import Config, LayerSpec
from keras3conv.transforms import Axes


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
    program = lowering.program() if not lowering.problems else None
    return Lowered(
        program=program or Program(name=graph.name, inputs=(), steps=(), outputs=(), values={}),
        placements=tuple(lowering.placements),
        problems=tuple(dict.fromkeys(lowering.problems)),
        refused=frozenset(lowering.refused),
        orders={name: given.order for name, given in lowering._given.items() if isinstance(given, Value)},
    )


class _Lowering:
    """A Keras program under construction; it implements the interface `Writer` for handlers."""

    def __init__(self, graph: Graph, shapes: dict[str, Shape], channels: Channels) -> None:
        self.graph, self.channels = graph, channels
        self.values: dict[str, Value] = {}
        self.steps: list[Step] = []
        self.modules: dict[str, Module] = {}
        self.weights: dict[str, Weight] = {}
        self.placements: list[Placement] = []
        self.problems: list[Problem] = []
        self.refused: set[str] = set()
        self._calls: tuple[str, ...] = ()
        self._path = ""
        self._variables: dict[str, tuple[str, ...]] = {}
        self._variable: tuple[str, ...] = ()
        self._names: set[str] = {identifier(graph.input_names.get(one.name, one.name)) for one in graph.inputs}
        self._made: dict[object, Value] = {}
        self._shared: dict[object, str] = {}
        self.example_numbers: set[str] = set()
        self.parts: dict[str, Parts] = {}
        self._before_reshape: dict[Value, Value] = {}
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
        """Return the nodes of the call graph that use a tensor."""
        return self._users.get(name, [])

    def before_reshape(self, value: Value) -> Value | None:
        """Return the value before the reshape that computed a value; None if no reshape computed it."""
        return self._before_reshape.get(value)

    def note_reshape(self, reshaped: Value, value: Value) -> None:
        """Record that a reshape of `value` computed `reshaped`, for a later `before_reshape(reshaped)`."""
        self._before_reshape[reshaped] = value

    def is_constant(self, value: Value) -> bool:
        """Return whether a value is a constant array."""
        return value.name in self.weights

    def image_order(self, rank: int) -> Order:
        """Return the axis order of images in the model: channels-last or channels-first."""
        return channels_last(rank) if self.channels == "last" else identity(rank)

    def new(self, shape: Shape, order: Order, dtype: str, flattened: tuple[int, ...] = ()) -> Value:
        """Return a new variable of the generated code for the result of one operation; see `Writer`."""
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
        elif results[0].dtype.startswith("float") and any(map(self._is_float64, leaves)):
            expression = ops.cast(expression, Dtype("float32"))  # torch and TensorFlow promote to float64
        named = transformed(expression, lambda node: Ref(node.name) if isinstance(node, Value) else node)
        outputs = tuple(value.name for value in results)
        self.steps.append(Step(expression=named, outputs=outputs, path=self._path, calls=self._calls))

    def _promoted(self, node: Any) -> Any:
        """Return an operand of an expression; a floating-point constant is multiplied by ones of the model's dtype."""
        return self._symbolic(node, node.shape) if isinstance(node, Value) and node.dtype.startswith("float") else node

    def _is_float64(self, node: Any) -> bool:
        return isinstance(node, Value) and self.is_constant(node) and self.weights[node.name].dtype == "float64"

    def value(self, tensor: Any, order: Order | None = None) -> Value:
        """Return a tensor argument as a value of the program; first add a constant or parameter to it, in `order`."""
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
            weight = Weight(
                name=self._new_name(re.sub(r"^[bc]_", "", tensor.name)),
                shape=tensor.array.shape,
                dtype=array.dtype.name,
                trainable=False,
                array=array.transpose(order),
            )
            made = self.new(tensor.array.shape, order, tensor.dtype)
            self.weights[made.name] = weight
            self._made[key] = made
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
        """Return a tensor of ones of shape (batch, 1)."""
        return self._ones(for_each_example=True)

    def _ones(self, for_each_example: bool) -> Value:
        """Return ones that are computed from an input: of shape (batch, 1) with `for_each_example`, else (1, 1)."""
        key = "ones", for_each_example
        if key not in self._made:
            calls, path, self._calls, self._path = self._calls, self._path, (), ""
            first = next(value for value in self._inputs if value.rank)
            index = (slice(None) if for_each_example else 0, *(0,) * (first.rank - 1))
            options = {} if first.dtype.startswith("float") else {"dtype": Dtype("float32")}
            made = self.new((first.shape[0] if for_each_example else 1, 1), (0, 1), "float32")
            self.write(ops.reshape(ops.ones_like(first[index], **options), (-1, 1)), [made])
            self._variables[made.name] = ("ones",)
            self._made[key] = made
            self._calls, self._path = calls, path
        return self._made[key]

    def numbers(self, size: Size) -> Value:
        """Return `arange(size)` as a value of the program, for a size that is a dynamic size of an input."""
        key = "numbers", size
        if key not in self._made:
            self._made[key] = numbers_up_to(self, size, self._inputs)
        return self._made[key]

    def layer(
        self, kind: str, config: Config, value: Value, weights: Sequence[Placed], name: str, result: Value
    ) -> None:
        """Add the call of a Keras layer; a layer that was already called with the same parameters is called again."""
        key = (kind, repr(config), tuple(placed.held.path for placed in weights)) if weights else object()
        if key not in self._shared:
            own = self._new_name(name or self._path or kind.rpartition(".")[2])
            self._shared[key] = own
            self.modules[own] = Module(name=own, spec=frozen(LayerSpec(kind=kind, config=config), weights))
            self.placements.extend(
                Placement(
                    layer=own,
                    torch=(placed.held.path,),
                    roles=(placed.role,),
                    transform=placed.transform,
                    rule=placed.rule,
                    owner=placed.held.owner if placed.rule else "",
                )
                for placed in weights
            )
        self.write(Submodule(self._shared[key])(self._symbolic(value, result.shape)), [result])

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
        """Add the calls of the Keras layers that a rule makes from a torch layer; return the output of the last one."""
        value = self.ordered(self._symbolic(value, result.shape), call.order)
        sizes = tuple(size if isinstance(size, int) else None for size in value.shape)
        config = {**call.config, "inputs": (sizes,)}
        rule, specs = chosen_layers(call, config)
        order = call.order if len(result.shape) == value.rank else identity(len(result.shape))
        tensors = tuple(held.path for held in call.tensors.values())
        names = self._shared if call.tensors else {}
        for place, made_spec in enumerate(specs):
            is_last = place == len(specs) - 1
            spec = with_options(with_data_format(made_spec, self.channels, value.rank), call.options)
            made = self.new(result.shape if is_last else unknown_after(value.shape), order, result.dtype)
            if spec.kind.startswith("keras.ops."):
                self.write(ops.named(spec.kind.rpartition(".")[2])(value, **spec.config), [made])
            else:
                key = tensors, place, spec.kind, repr(spec.config)  # a Keras layer accepts any input shape
                if key not in names:
                    names[key] = self._rule_layer(call, rule, specs, place, config, spec)
                called = Submodule(names[key])(value, **call.keywords)
                self.write(called if call.part is None else called[call.part], [made, *call.more])
            value = made
        return value

    def _rule_layer(
        self, call: LayerCall, rule: Any, specs: Sequence[LayerSpec], place: int, config: Config, spec: LayerSpec
    ) -> str:
        """Add the Keras layer `spec`, at the index `place` in a rule's `specs`, with its weights; return its name."""
        owners = [number for number, one in enumerate(specs) if one.kind == rule.keras]
        owner = next((held.owner or held.path for held in call.tensors.values()), self._path)
        is_owner = place == owners[-1]
        short = "pad" if "Padding" in spec.kind else identifier(spec.kind.rpartition(".")[2])
        base = owner or short
        name = self._new_name(base if is_owner else f"{base}_{short}")
        held = list(call.tensors.values())
        placed = [Placed(role="", held=one, transform=Axes("a -> a")) for one in held] if is_owner else []
        self.modules[name] = Module(
            name=name,
            spec=frozen(spec, placed),
            source=owner if is_owner and held else "",
            rule=rule.name if is_owner and held else "",
        )
        if is_owner and held:
            self.placements.extend(placements(rule, call, config, name))
        return name

    def _new_name(self, path: str) -> str:
        name = identifier(path.replace(".", "_"))
        if re.sub(r"_\d+$", "", name) in own_names():  # the name of an unnamed Keras operation
            name = f"{name}_layer"
        name = unique(name, self._names)
        self._names.add(name)
        return name

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

        outputs = mapped(self.graph.outputs, returned)
        if self.problems:
            return Program(name=self.graph.name, inputs=(), steps=(), outputs=(), values={})
        program = finished(
            Program(
                name=self.graph.name,
                inputs=self._inputs,
                steps=tuple(self.steps),
                outputs=outputs,
                values=self.values,
                modules=self.modules,
                weights=self.weights,
                input_names=self.graph.input_names,
                output_orders=tuple(orders),
                variables=self._variables,
            )
        )
        self.placements = [placement for placement in self.placements if placement.layer in program.modules]
        return program
