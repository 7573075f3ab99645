"""From the graph of a Keras model to a torch program, call by call, in the order in which they run."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any

from keras3conv.builder.operations import library as handlers
from keras3conv.builder.operations.call import HANDLERS, Call
from keras3conv.builder.program.layouts import Channels, input_order, output_order
from keras3conv.builder.program.names import identifier, unique
from keras3conv.builder.program.program import Module, Order, Program, Step, Value, Weight, identity
from keras3conv.builder.to_torch.modules import Choice, choose, is_pointwise
from keras3conv.builder.to_torch.padding import padding_at_run_time
from keras3conv.errors import Problem, RuleError
from keras3conv.frameworks.torch.constructors import constructor
from keras3conv.model.graph import Graph, Node, Ref, Shape, Size, mapped, refs
from keras3conv.model.views import LayerView
from keras3conv.rules.rule import LayerSpec
from keras3conv.rules.units import units
from keras3conv.transforms import Array


def lower(
    graph: Graph, channels: Channels = "first", unsupported: frozenset[str] = frozenset()
) -> tuple[Program, tuple[Problem, ...]]:
    """The torch program of a graph, and every call that cannot be written; with problems it is of no use.

    Args:
        graph: The graph of a Keras model.
        unsupported: The paths of the layers that are known already to have no counterpart.
        channels: Whether the module takes and returns images with their channels second or last.
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
    """The program as far as it is written."""

    def __init__(self, graph: Graph, channels: Channels) -> None:
        self.graph, self.channels = graph, channels
        self.layers: dict[str, LayerView] = {layer.path: layer for layer in (*graph.view.layers, *units(graph.view))}
        self.values: dict[str, Value] = {}
        self.made: dict[str, Value] = {}
        self.steps: list[Step] = []
        self.modules: dict[str, Module] = {}
        self.weights: dict[str, Weight] = {}
        self.problems: list[Problem] = []
        self._permuted: dict[tuple[str, Order, tuple[str, ...]], Value] = {}
        self._calls: tuple[str, ...] = ()
        self._made_in: dict[str, tuple[str, ...]] = {}
        self._shared: dict[tuple[str, int], str] = {}
        self._names: set[str] = set()
        self._shapes = {name: tensor.shape for name, tensor in graph.tensors.items()}
        self._inputs = tuple(self._input(tensor.name) for tensor in graph.inputs)
        self._own_weights()

    @property
    def anchor(self) -> Value:
        """The model's first input."""
        return self._inputs[0]

    def node(self, node: Node) -> None:
        """Writes one call, or notes why it cannot be written."""
        self._calls = node.calls
        try:
            call = Call(node, mapped(node.arguments, self._argument), self)
            handler = HANDLERS.get(node.kind)
            if handler is not None:
                handler(call)
            else:
                self.by_rule(call)
        except RuleError as error:
            self.problems.append(Problem(keras=node.path, fact=str(error)))
            self.fail(node)
            return
        self.values.update(call.returned)

    def fail(self, node: Node) -> None:
        """What cannot be written returns values all the same, so that everything after it is looked at too."""
        for tensor in node.outputs:
            order = identity(len(tensor.shape))
            self._note(Value(name=tensor.name, shape=tensor.shape, order=order, dtype=tensor.dtype))

    def by_rule(self, call: Call) -> None:
        """Writes a layer as the rule library says."""
        node = call.node
        if (
            node.path not in self.layers
            or node.kind.startswith(("keras.ops.", "keras.activations."))
            or not call.tensors
        ):
            raise RuleError(f"no handler is known for {node.kind}")
        given = call.tensor
        layer = replace(self.layers[node.path], config=node.config)
        extra = [name for name, value in node.arguments.items() if name != "training" and any(refs(value))][1:]
        extra += [name for name, value in node.arguments.items() if name != "training" and value is True]
        if extra:
            raise RuleError(f"{node.kind} is given {', '.join(extra)}, for which there is no handler")
        layer, given = self._padded(call, layer, given)
        choice = choose(layer, given)
        given = given if choice.order is None else call.order(given, choice.order)
        names = self._modules_of(layer, choice, given)
        order = given.order if given.rank == len(node.outputs[0].shape) else None
        keeps = choice.order is None
        for place, (name, spec) in enumerate(zip(names, choice.specs, strict=True)):
            template = "{module}({0})" if name else _expression(spec)
            if place == len(names) - 1:
                call.returns(template, [given], order, module=name, flattened=given.flattened if keeps else ())
            else:
                given = call.step(template, [given], module=name)

    def _padded(self, call: Call, layer: LayerView, given: Value) -> tuple[LayerView, Value]:
        """The layer without padding="same", and the padded value, where only the run tells how much is padded."""
        calls = (node for node in self.graph.nodes if node.path == call.node.path and node.inputs)
        shapes = {self._shapes.get(node.inputs[0]) for node in calls}
        padding = padding_at_run_time(layer, given, differs=len(shapes) > 1)
        if padding is None:
            return layer, given
        given = call.order(given, padding.order)
        free = Size(symbols=("unknown",))
        shape = tuple(size if axis in padding.order[:2] else free for axis, size in enumerate(given.shape))
        made = call.step(padding.template, [given], shape=shape)
        return replace(layer, config={**(layer.config or {}), "padding": "valid"}), made

    def rule_module(self, call: Call, config: Mapping[str, Any], only: str) -> str:
        """The submodule that the rule library makes of a layer, with other settings in its configuration."""
        node = call.node
        layer = replace(self.layers[node.path], config={**node.config, **config})
        choice = choose(layer, call.tensor, only)
        if len(choice.specs) != 1:
            raise RuleError(f"{node.kind} becomes {len(choice.specs)} layers, and one is needed")
        return self._modules_of(layer, choice, call.tensor)[0]

    def _modules_of(self, layer: LayerView, choice: Choice, given: Value) -> list[str]:
        """The names of the submodules; a layer that is called again is the same submodule."""
        return [
            "" if _expression(spec) else self._module(layer, spec, place, choice, given)
            for place, spec in enumerate(choice.specs)
        ]

    def _module(self, layer: LayerView, spec: LayerSpec, place: int, choice: Choice, given: Value) -> str:
        key = layer.path, place
        if key in self._shared:
            return self._shared[key]
        owns = [number for number, one in enumerate(choice.specs) if one.kind == choice.rule.torch] or [
            len(choice.specs) - 1
        ]
        holds = place in owns and any(not tensor.is_seed for tensor in layer.tensors)
        name = self._new_name(layer.path if place == owns[-1] else f"{layer.path}_{_short(spec.kind)}")
        self._shared[key] = name
        self.modules[name] = Module(
            name=name,
            spec=spec,
            keras=layer.path if holds else "",
            rule=choice.rule.name if holds else "",
            flattened=given.flattened if holds else (),
            trainable=bool((layer.config or {}).get("trainable", True)),
        )
        return name

    def module(self, kind: str, config: Mapping[str, Any], path: str) -> str:
        """A submodule without tensors of Keras; the name that it got."""
        name = self._new_name(path)
        self.modules[name] = Module(name=name, spec=LayerSpec(kind=kind, config=dict(config)))
        return name

    def _new_name(self, path: str) -> str:
        name = unique(identifier(path), self._names)
        self._names.add(name)
        return name

    def permuted(self, value: Value, order: Order) -> Value:
        """The value with its axes in this order; written once for each value, in the call that the value is made in."""
        moved = tuple(value.order.index(axis) for axis in order)
        calls = self._calls if value.name in self.weights else self._shared_calls(value)
        key = value.name, moved, calls if value.name in self.weights else ()
        if key not in self._permuted:
            made = self.new(value.shape, order, value.dtype)
            axes = ", ".join(map(str, moved))
            self._calls, here = calls, self._calls
            self.write(f"{{0}}.permute({axes})", [value], [made], module="", path="", comment="")
            self._calls = here
            self._permuted[key] = made
        return replace(self._permuted[key], shape=value.shape, order=order)

    def _shared_calls(self, value: Value) -> tuple[str, ...]:
        """The calls that both a value and what is written now stand in."""
        pairs = zip(self._made_in.get(value.name, ()), self._calls, strict=False)
        return tuple(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    def new(self, shape: Shape, order: Order, dtype: str) -> Value:
        """A value that no node of the graph returns."""
        value = Value(name=f"t{len(self.made)}", shape=shape, order=order, dtype=dtype)
        self.made[value.name] = value
        return value

    def write(
        self, template: str, inputs: Sequence[Value], made: Sequence[Value], *, module: str, path: str, comment: str
    ) -> None:
        """Adds a statement."""
        self.steps.append(
            Step(
                template=template,
                inputs=tuple(value.name for value in inputs),
                outputs=tuple(value.name for value in made),
                module=module,
                path=path,
                comment=comment,
                calls=self._calls,
            )
        )
        for value in made:
            self._made_in[value.name] = self._calls
            self._note(value)

    def only_a_kernel_sees(self, name: str) -> bool:
        """Whether a tensor of the graph goes into Dense layers only, over what treats every value alike."""
        if any(ref.name == name for ref in refs(self.graph.outputs)):
            return False
        users = [node for node in self.graph.nodes if name in node.inputs]
        return all(
            "keras.layers.Dense" in node.kinds or (is_pointwise(node) and self.only_a_kernel_sees(node.outputs[0].name))
            for node in users
        )

    def _note(self, value: Value) -> None:
        self.values[value.name] = value
        self.made[value.name] = value

    def _argument(self, leaf: Any) -> Any:
        if isinstance(leaf, Ref) and leaf.name not in self.values:
            raise RuleError("a tensor that it was made with is none of the model's own: Keras loses it, too")
        return self.values[leaf.name] if isinstance(leaf, Ref) else leaf

    def _input(self, name: str) -> Value:
        tensor = self.graph.tensors[name]
        order = input_order(self.graph, tensor)
        rank = len(tensor.shape)
        value = Value(
            name=name,
            shape=tensor.shape,
            order=identity(rank) if self.channels == "last" else order,
            dtype=tensor.dtype,
        )
        self._note(value)
        return value

    def variable(self, path: str) -> Value:
        """A variable of Keras as a parameter or a buffer of the module's own."""
        known = {weight.keras: key for key, weight in self.weights.items() if weight.keras}
        if path not in known:
            tensor = next(tensor for tensor in self.graph.view.tensors() if tensor.path == path)
            weight = Weight(
                name=self._new_name(path),
                shape=tensor.shape,
                keras=path,
                dtype=tensor.dtype,
                trainable=tensor.trainable,
            )
            return self._weight(f"w{len(self.weights)}", weight)
        return self.values[known[path]]

    def constant(self, array: Array, path: str) -> Value:
        """An array as a buffer of the module."""
        return self._weight(f"w{len(self.weights)}", _constant(self._new_name(path), array))

    def _weight(self, key: str, weight: Weight) -> Value:
        self.weights[key] = weight
        value = Value(name=key, shape=weight.shape, order=identity(len(weight.shape)), dtype=weight.dtype)
        self._note(value)
        return value

    def _own_weights(self) -> None:
        for parameter in self.graph.parameters:
            tensor = parameter.tensor
            shape = tuple(size for size in tensor.shape if isinstance(size, int))
            weight = Weight(
                name=self._new_name(parameter.path),
                shape=shape,
                keras=parameter.path,
                dtype=tensor.dtype,
                trainable=parameter.trainable,
            )
            self._weight(tensor.name, weight)
        for place, (key, array) in enumerate(self.graph.constants.items()):
            self._weight(key, _constant(self._new_name(f"constant_{place}"), array))

    def program(self) -> Program:
        """What was written, with the outputs in the order of axes that was asked for."""
        self._calls = ()

        def returned(leaf: Any) -> Any:
            if not isinstance(leaf, Ref):
                return leaf
            value = self.values[leaf.name]
            order = output_order(value, self.channels)
            return Ref((value if order == value.order else self.permuted(value, order)).name)

        outputs = mapped(self.graph.outputs, returned)
        orders = (output_order(self.values[ref.name], self.channels) for ref in refs(self.graph.outputs))
        sizes = {symbol: (name, self.values[name].place(axis)) for symbol, (name, axis) in self.graph.sizes.items()}
        return Program(
            name=self.graph.name,
            inputs=self._inputs,
            steps=tuple(self.steps),
            outputs=outputs,
            values=self.made,
            modules=self.modules,
            weights=self.weights,
            sizes=sizes,
            input_names=self.graph.input_names,
            output_orders=tuple(orders),
        )


_AS_FUNCTIONS = {
    "torch.nn.Hardswish": "F.hardswish({0})",
    "torch.nn.ReLU": "F.relu({0})",
    "torch.nn.ReLU6": "F.relu6({0})",
    "torch.nn.SiLU": "F.silu({0})",
    "torch.nn.Sigmoid": "torch.sigmoid({0})",
    "torch.nn.Tanh": "torch.tanh({0})",
}
"""Layers without tensors and settings: what Keras makes of a layer and of an activation's name is written alike."""


def _constant(name: str, array: Array) -> Weight:
    return Weight(name=name, shape=array.shape, dtype=array.dtype.name, trainable=False, array=array)


def _expression(spec: LayerSpec) -> str:
    """The expression for what needs no submodule: a function of torch, a change of shape; empty for a layer."""
    config = spec.config
    if spec.kind in _AS_FUNCTIONS:
        return _AS_FUNCTIONS[spec.kind]
    if spec.kind == "torch.nn.Flatten":
        start, end = config.get("start_dim", 1), config.get("end_dim", -1)
        return f"{{0}}.flatten({start})" if end == -1 else f"{{0}}.flatten({start}, {end})"
    if spec.kind == "torch.nn.Unflatten":
        return f"{{0}}.unflatten({config['dim']}, {tuple(config['unflattened_size'])})"
    if spec.kind.rpartition(".")[2][:1].isupper():
        return ""
    assumed = constructor(spec.kind)
    more = "".join(f", {name}={value!r}" for name, value in config.items() if value != assumed.get(name))
    return f"{spec.kind.replace('torch.nn.functional.', 'F.')}({{0}}{more})"


def _short(kind: str) -> str:
    """What a module beside the main one is called: the activation of a Dense, the padding of a convolution."""
    name = kind.rpartition(".")[2]
    return "pad" if "Pad" in name else identifier(name)


__all__ = ["lower"]
