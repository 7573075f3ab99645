"""Read an exported program of torch.export as a call graph."""

import operator
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from keras3conv.errors import Problem
from keras3conv.frameworks.torch.decomposing import decomposed
from keras3conv.frameworks.torch.dynamic_sizes import free_sizes, size_of
from keras3conv.frameworks.torch.exporting import Exported, Inner
from keras3conv.frameworks.torch.first_turns import constants_of
from keras3conv.frameworks.torch.folding import is_number
from keras3conv.frameworks.torch.opaque import KIND
from keras3conv.frameworks.torch.program_nodes import (
    bound_arguments,
    calls_of,
    dropout_places,
    is_in_place,
    kind_of,
    line_of,
    module_of,
)
from keras3conv.frameworks.torch.tensors import dtype_name, named_tensors
from keras3conv.frameworks.torch.training_dropouts import ATTENTION, Dropouts
from keras3conv.frameworks.torch.variables import variables_of
from keras3conv.model.graph import Graph, Node, Parameter, Ref, Shape, Tensor
from keras3conv.model.views import ModelView
from keras3conv.rules.obstacle import obstacle

_STATISTICS = ("running_mean", "running_var")
"""The arguments of a batch normalization that are buffers of the layer; they are not constants of the graph."""

_NO_ARGUMENTS = ("layout", "device", "pin_memory", "memory_format", "non_blocking", "out")
"""Arguments about the memory of a tensor, which do not change its values."""


@dataclass(frozen=True, kw_only=True)
class Captured:
    """The call graph of an exported module, with the source lines of its nodes.

    Attributes:
        graph: The calls of operators.
        lines: The line of the user's source code for each node, by the name of its first output.
        shapes: The shape of each constant; an axis along which it repeats one value for each sample of the batch has
            the dynamic batch size.
        problems: The parts that cannot be captured, and side effects of the module.
        inner: The modules that are called by modules that cannot be captured.
        read_from: The program of torch.export and the view of the module; None if the module cannot be captured.
    """

    graph: Graph
    shapes: Mapping[str, Shape]
    lines: Mapping[str, str]
    problems: tuple[Problem, ...]
    inner: tuple[Inner, ...]
    read_from: "Source | None"

    def without(self, operators: Collection[str]) -> "Captured | None":
        """Return the same call graph computed without some operators; None if torch can replace none of them.

        Args:
            operators: The names of the operators to replace.
        """
        if self.read_from is None:
            return None
        kept = {f"aten.{ATTENTION}.default"} if self.read_from.dropouts.rates else frozenset[str]()
        program = decomposed(self.read_from.exported, {*operators} - kept)
        return None if program is None else replace(self.read_from, exported=program).read()


@dataclass(frozen=True, kw_only=True)
class Source:
    """The source of a call graph: the module, its `torch.export` program, its layers, and what it does in training."""

    module: nn.Module
    exported: ExportedProgram
    described: ModelView
    depth: Mapping[str, float]
    dropouts: Dropouts
    capture: Exported
    remembered: tuple[str, ...]
    remarks: tuple[str, ...]

    def read(self) -> Captured:
        """Return the calls of torch operators in the module as a graph, with the source line of each call."""
        return _Reader(self).captured()


@dataclass
class _Reader:
    """Makes a call graph from an exported module; the attributes are the results so far."""

    source: Source
    names: dict[torch.fx.Node, Any] = field(default_factory=dict)
    inputs: list[Tensor] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    parameters: dict[str, Parameter] = field(default_factory=dict)
    lines: dict[str, str] = field(default_factory=dict)
    outputs: Any = None
    free: dict[Any, str] = field(default_factory=dict)
    rates: dict[torch.fx.Node, float] = field(default_factory=dict)

    def captured(self) -> Captured:
        """Return the call graph; see `Source.read`."""
        signature = self.source.exported.graph_signature
        self.free = free_sizes(self.source.exported)
        self.constants = constants_of(self.source.exported, self._constant_buffers(), frozenset(self.free))
        stored = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        first = _first_paths(self.source.module)
        self.rates = {
            node: rate
            for node, place in dropout_places(self.source.exported)
            if (rate := self.source.dropouts.rate(place))
        }
        for node in self.source.exported.graph.nodes:
            if node in self.constants.values:
                self.names[node] = Ref(node.name)
            elif node.op == "placeholder" and node.name in stored:
                self._parameter(node, first[stored[node.name]], trainable=node.name in signature.inputs_to_parameters)
            elif node.op == "placeholder":
                self._input(node)
            elif node.op == "call_function":
                self._call(node)
            elif node.op == "output":
                self.outputs = self._returned(node)
        return Captured(
            graph=self._graph(),
            shapes={node.name: self._shape(node.meta["val"]) for node, _ in self.constants.arrays()},
            lines=self.lines,
            problems=(*self.source.capture.problems, *self._states()),
            inner=self.source.capture.inner,
            read_from=self.source,
        )

    def _states(self) -> tuple[Problem, ...]:
        """Return a problem for each buffer and attribute that a call changes, so that the next call may differ."""
        signature = self.source.exported.graph_signature
        written = dict.fromkeys((*signature.buffers_to_mutate.values(), *self.source.remembered), "")
        for node in self.source.exported.graph.nodes:
            target = node.args[0] if node.op == "call_function" and is_in_place(node) else None
            if isinstance(target, torch.fx.Node) and target.name in signature.inputs_to_buffers:
                written[signature.inputs_to_buffers[target.name]] = line_of(node)
        fact = (
            "this state is written in evaluation mode, so that the next call computes something else: return it, and "
            "take it back"
        )
        return tuple(
            obstacle(self.source.described, path.rpartition(".")[0], fact + (f"; {line}" if line else ""), path)
            for path, line in sorted(written.items())
        )

    def _constant_buffers(self) -> frozenset[str]:
        """Return the names of the buffers that are constants; the others are updated by a normalization in training."""
        signature = self.source.exported.graph_signature
        updated = {
            argument.name
            for node in self.source.exported.graph.nodes
            for name, argument in bound_arguments(node).items()
            if name in _STATISTICS and isinstance(argument, torch.fx.Node)
        }
        opaque = {
            name
            for name, path in signature.inputs_to_buffers.items()
            if any(path.startswith(f"{owner}.") for owner in self.source.capture.opaque)
        }
        return frozenset(signature.inputs_to_buffers) - updated - opaque

    def _shape(self, value: torch.Tensor) -> Shape:
        return tuple(size_of(size, self.free) for size in value.shape)

    def _tensor(self, name: str, value: torch.Tensor) -> Tensor:
        return Tensor(name=name, shape=self._shape(value), dtype=dtype_name(value.dtype))

    def _parameter(self, node: torch.fx.Node, path: str, *, trainable: bool) -> None:
        if path not in self.parameters:
            tensor = self.source.module.get_parameter(path) if trainable else self.source.module.get_buffer(path)
            value = Tensor(name=node.name, shape=tuple(tensor.shape), dtype=dtype_name(tensor.dtype))
            grows = trainable and tensor.requires_grad
            self.parameters[path] = Parameter(path=path, tensor=value, trainable=grows)
        self.names[node] = Ref(self.parameters[path].tensor.name)

    def _input(self, node: torch.fx.Node) -> None:
        value = node.meta.get("val")
        if not isinstance(value, torch.Tensor):
            self.names[node] = value
            return
        self.inputs.append(self._tensor(node.name, value))
        self.names[node] = Ref(node.name)

    def _call(self, node: torch.fx.Node) -> None:
        value = node.meta.get("val")
        if is_number(value):
            self.names[node] = self.constants.numbers.get(node, size_of(value, self.free))
        elif node.target is operator.getitem:
            whole, place = node.args
            assert isinstance(whole, torch.fx.Node)
            self.names[node] = self.names[whole][place]
        elif isinstance(value, torch.Tensor | tuple | list):
            self._node(node, value)

    def _node(self, node: torch.fx.Node, value: Any) -> None:
        several = not isinstance(value, torch.Tensor)
        tensors = value if several else [value]
        used = {user.args[1] for user in node.users if user.target is operator.getitem and user.users}
        outputs = tuple(
            self._tensor(f"{node.name}_{i}" if several else node.name, one)
            for i, one in enumerate(tensors)
            if one is not None
        )
        refs = [Ref(output.name) for output in outputs]
        calls = tuple(calls_of(node))
        modules = [call.rpartition(":")[0] for call in calls]
        arguments = {
            name: self._argument(item) for name, item in bound_arguments(node).items() if name not in _NO_ARGUMENTS
        }
        if kind_of(node) == KIND:
            arguments |= self._layer(arguments["path"])
        made = Node(
            kinds=(kind_of(node),),
            path=module_of(node),
            arguments=arguments,
            outputs=outputs,
            structure=tuple(refs) if several else refs[0],
            config=self._config(node, used if several else None),
            calls=calls,
            variables=variables_of(node.meta.get("stack_trace") or "", modules, len(outputs)),
        )
        self.nodes.append(made)
        self.lines[outputs[0].name] = line_of(node)
        self.names[node] = refs if several else refs[0]
        if is_in_place(node):
            target = node.args[0]
            assert isinstance(target, torch.fx.Node)
            self.names[target] = self.names[node]

    def _layer(self, path: str) -> dict[str, Any]:
        """Return a dict with the "kinds", "config" and "tensors" of a module that is one operator in the call graph."""
        layer = next(layer for layer in self.source.described.layers if layer.path == path)
        tensors = {
            stored.removeprefix(f"{path}."): Ref(parameter.tensor.name)
            for stored, parameter in self.parameters.items()
            if stored.startswith(f"{path}.")
        }
        return {"kinds": layer.kinds, "config": dict(layer.config or {}), "tensors": tensors}

    def _config(self, node: torch.fx.Node, used: set[Any] | None) -> dict[str, Any]:
        """Return the configuration of a call graph node: the used outputs of its operator, and dropout in training.

        Args:
            node: The node of the exported module.
            used: The indices of the outputs that are used; None if the operator has one output.
        """
        config: dict[str, Any] = {} if used is None else {"used": tuple(sorted(used))}
        config |= {"dropout": self.rates[node]} if node in self.rates else {}
        return config | ({"for_each_example": True} if module_of(node) in self.source.depth else {})

    def _argument(self, leaf: Any) -> Any:
        if isinstance(leaf, torch.fx.Node):
            return self.names[leaf]
        if isinstance(leaf, list | tuple):
            return [self._argument(item) for item in leaf]
        return dtype_name(leaf) if isinstance(leaf, torch.dtype) else size_of(leaf, self.free)

    def _returned(self, node: torch.fx.Node) -> Any:
        """Return the outputs of the exported module as its `forward` returns them: a single one, a tuple, or a dict."""
        signature = self.source.exported.graph_signature
        flat = list(node.args[0])[-len(signature.user_outputs) :]  # type: ignore[arg-type]
        values = [self.names[one] if isinstance(one, torch.fx.Node) else one for one in flat]
        spec = self.source.exported.call_spec.out_spec
        structure = pytree.tree_unflatten(values, spec) if spec is not None else tuple(values)
        if isinstance(structure, Ref):
            return structure
        if isinstance(structure, Mapping) and all(isinstance(one, Ref) for one in structure.values()):
            return dict(structure)
        return tuple(one for one in values if isinstance(one, Ref))

    def _graph(self) -> Graph:
        return Graph(
            name=type(self.source.module).__name__,
            view=self.source.described,
            inputs=tuple(self.inputs),
            nodes=tuple(self.nodes),
            outputs=self.outputs,
            input_names={tensor.name: tensor.name for tensor in self.inputs},
            parameters=tuple(self.parameters.values()),
            constants={node.name: array for node, array in self.constants.arrays()},
            remarks=self.source.remarks,
        ).pruned()


def _first_paths(module: nn.Module) -> dict[str, str]:
    """Return a dict from each path of a parameter or buffer to the first path of it; a tied tensor has several."""
    seen: dict[int, str] = {}
    return {path: seen.setdefault(id(tensor), path) for path, tensor in named_tensors(module)}
