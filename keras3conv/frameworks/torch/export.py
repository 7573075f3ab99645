"""Export a torch module as a call graph with `torch.export`.

The module is exported in evaluation mode, to the operators that it calls (the training IR).
Axis 0 of every input is dynamic where torch allows it. A value that depends on no input and no parameter is a constant.
"""

import inspect
import operator
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sympy  # type: ignore[import-untyped]
import torch
from torch import nn
from torch.export import Dim, ExportedProgram
from torch.utils import _pytree as pytree

from keras3conv.errors import RAISED_BY_MODELS, InputError, Problem, UnsupportedLayerError
from keras3conv.frameworks.torch.causal import causal_masks_unread
from keras3conv.frameworks.torch.depth import captured_depth
from keras3conv.frameworks.torch.derived import with_plain_weights
from keras3conv.frameworks.torch.folding import Constants, is_number
from keras3conv.frameworks.torch.modes import evaluating
from keras3conv.frameworks.torch.module import call_arguments
from keras3conv.frameworks.torch.tensors import named_tensors
from keras3conv.frameworks.torch.variables import variables_of
from keras3conv.frameworks.torch.view import view
from keras3conv.messages import lay_out
from keras3conv.model.graph import Graph, Node, Parameter, Ref, Shape, Size, Tensor
from keras3conv.model.views import ModelView

BATCH = "batch"
"""The name of the dynamic size."""

_STATISTICS = ("running_mean", "running_var")
"""The arguments of a normalization that are buffers of the layer, not constants."""

_NO_ARGUMENTS = ("layout", "device", "pin_memory", "memory_format", "non_blocking", "out")
"""Arguments about the memory of a tensor, which do not change its values."""


@dataclass(frozen=True, kw_only=True)
class Captured:
    """The call graph of a module, with the source lines of its nodes.

    Attributes:
        graph: The calls of operators.
        lines: The line of the user's source code for each node, by the name of its first output.
        shapes: The sizes of each constant, with the dynamic size where it repeats one value for each example.
    """

    graph: Graph
    shapes: Mapping[str, Shape]
    lines: Mapping[str, str]


def capture(module: nn.Module, inputs: object, dynamic: Mapping[str, Sequence[int]] | None = None) -> Captured:
    """Return the call graph of a module for these inputs.

    Args:
        module: The module.
        inputs: Its inputs.
        dynamic: The dynamic axes besides the batch axis, by the name of the input.

    Raises:
        InputError: The inputs are neither a tensor, nor an array, a tuple or a dict.
        UnsupportedLayerError: The module is TorchScript, or torch cannot capture it.
    """
    if isinstance(module, torch.jit.ScriptModule):
        fact = "is TorchScript, which torch.export cannot capture: pass the nn.Module that it was made from"
        raise _refusal(module, Problem(torch=type(module).__name__, fact=fact))
    args, kwargs = call_arguments(module, inputs)
    described = view(module)
    module = with_plain_weights(module)
    with (
        evaluating(module),
        captured_depth(module) as depth,
        causal_masks_unread(),
        torch.no_grad(),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", FutureWarning)  # torch.export warns of its own code, and of that of nn.LSTM
        warnings.filterwarnings("ignore", "The tensor attributes? self", UserWarning)
        exported = _exported(module, args, kwargs, dynamic or {})
        if _writes_into_a_view(exported):
            exported = exported.run_decompositions({})
    return _Reader(module, exported, described, depth).captured()


def _exported(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], dynamic: Mapping[str, Sequence[int]]
) -> ExportedProgram:
    args, kwargs = _with_two_examples((args, kwargs))
    try:
        named = dict(inspect.signature(module.forward).bind(*args, **kwargs).arguments)
    except TypeError as error:
        raise InputError(f"{type(module).__name__} cannot be called with these inputs: {error}") from error
    shapes = pytree.tree_map(lambda leaf: {0: Dim.AUTO} if _has_axes(leaf) else None, named)
    for name, axes in dynamic.items():
        if not isinstance(named.get(name), torch.Tensor):
            known = ", ".join(name for name, value in named.items() if isinstance(value, torch.Tensor))
            raise InputError(f"dynamic names {name!r}, which is not a tensor among the inputs\nInputs:  {known}")
        shapes[name] |= {axis % named[name].ndim: Dim.DYNAMIC for axis in axes}
    try:
        return torch.export.export(module, args, kwargs or None, dynamic_shapes=shapes, strict=False)
    except RAISED_BY_MODELS as error:
        fact = f"torch.export cannot capture it: {_first_line(error)}"
        raise _refusal(module, Problem(torch=type(module).__name__, fact=fact)) from error


def _with_two_examples(given: Any) -> Any:
    """Return the inputs with two samples if they have one, because torch treats a size of one as static."""
    tensors = [leaf for leaf in pytree.tree_leaves(given) if _has_axes(leaf)]
    if not tensors or any(tensor.shape[0] != 1 for tensor in tensors):
        return given
    return pytree.tree_map(lambda leaf: torch.cat([leaf, leaf]) if _has_axes(leaf) else leaf, given)


def _has_axes(leaf: object) -> bool:
    return isinstance(leaf, torch.Tensor) and leaf.ndim > 0


def _refusal(module: nn.Module, problem: Problem) -> UnsupportedLayerError:
    headline = f"{type(module).__name__} (torch) cannot be converted to Keras"
    return UnsupportedLayerError(lay_out(headline, (problem,)))


def _first_line(error: Exception) -> str:
    """Return the first line of an exception and, where torch names it, the user's line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    user = [line for line in lines if line.startswith('File "') and "/torch/" not in line]
    return "; ".join([lines[0] if lines else type(error).__name__, *user[-1:]])


def _writes_into_a_view(exported: ExportedProgram) -> bool:
    """Return whether an operator writes into memory that another value of the graph shares."""
    viewed = {node for node in exported.graph.nodes if _is_view(node)}
    viewed |= {node.args[0] for node in viewed if node.args}
    return any(_is_in_place(node) and node.args[0] in viewed for node in exported.graph.nodes)


def _is_view(node: torch.fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    aliases = [result.alias_info for result in schema.returns] if schema else []
    return any(alias is not None and not alias.is_write for alias in aliases)


def _is_in_place(node: torch.fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return bool(schema and schema.is_mutable and node.args)


@dataclass
class _Reader:
    """The call graph under construction."""

    module: nn.Module
    exported: ExportedProgram
    described: ModelView
    depth: Mapping[str, float]
    names: dict[torch.fx.Node, Any] = field(default_factory=dict)
    inputs: list[Tensor] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    parameters: dict[str, Parameter] = field(default_factory=dict)
    lines: dict[str, str] = field(default_factory=dict)
    outputs: Any = None
    free: dict[Any, str] = field(default_factory=dict)

    def captured(self) -> Captured:
        """Return the graph and the source lines."""
        signature = self.exported.graph_signature
        self.free = _free_sizes(self.exported)
        self.constants = Constants(self.exported, self._constant_buffers(), frozenset(self.free))
        stored = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        first = _first_paths(self.module)
        for node in self.exported.graph.nodes:
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
        shapes = {node.name: self._shape(node.meta["val"]) for node, _ in self.constants.arrays()}
        return Captured(graph=self._graph(), shapes=shapes, lines=self.lines)

    def _constant_buffers(self) -> frozenset[str]:
        """Return the buffers that no normalization updates."""
        signature = self.exported.graph_signature
        updated = {
            argument.name
            for node in self.exported.graph.nodes
            for name, argument in _bound(node).items()
            if name in _STATISTICS and isinstance(argument, torch.fx.Node)
        }
        return frozenset(signature.inputs_to_buffers) - updated

    def _shape(self, value: torch.Tensor) -> Shape:
        return tuple(size_of(size, self.free) for size in value.shape)

    def _tensor(self, name: str, value: torch.Tensor) -> Tensor:
        return Tensor(name=name, shape=self._shape(value), dtype=_dtype(value.dtype))

    def _parameter(self, node: torch.fx.Node, path: str, *, trainable: bool) -> None:
        if path not in self.parameters:
            tensor = self.module.get_parameter(path) if trainable else self.module.get_buffer(path)
            found = Tensor(name=node.name, shape=tuple(tensor.shape), dtype=_dtype(tensor.dtype))
            grows = trainable and tensor.requires_grad
            self.parameters[path] = Parameter(path=path, tensor=found, trainable=grows)
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
            self.names[node] = size_of(value, self.free)
        elif node.target is operator.getitem:
            whole, place = node.args
            assert isinstance(whole, torch.fx.Node)
            self.names[node] = self.names[whole][place]
        elif isinstance(value, torch.Tensor | tuple | list):
            self._node(node, value)

    def _node(self, node: torch.fx.Node, value: Any) -> None:
        tensors = [value] if isinstance(value, torch.Tensor) else value
        several = not isinstance(value, torch.Tensor)
        used = {user.args[1] for user in node.users if user.target is operator.getitem and user.users}
        outputs = tuple(
            self._tensor(f"{node.name}_{i}" if several else node.name, one) for i, one in enumerate(tensors)
        )
        refs = [Ref(output.name) for output in outputs]
        calls = tuple(_calls(node))
        module = calls[-1].rpartition(":")[0] if calls else ""
        arguments = {name: self._argument(item) for name, item in _bound(node).items() if name not in _NO_ARGUMENTS}
        made = Node(
            kinds=(_kind(node),),
            path=module,
            arguments=arguments,
            outputs=outputs,
            structure=tuple(refs) if several else refs[0],
            config=self._config(module, used if several else None),
            calls=calls,
            variables=variables_of(
                node.meta.get("stack_trace") or "", [call.rpartition(":")[0] for call in calls], len(outputs)
            ),
        )
        self.nodes.append(made)
        self.lines[outputs[0].name] = _line(node)
        self.names[node] = refs if several else refs[0]
        if _is_in_place(node):
            target = node.args[0]
            assert isinstance(target, torch.fx.Node)
            self.names[target] = self.names[node]

    def _config(self, module: str, used: set[Any] | None) -> dict[str, Any]:
        """Return which outputs of an operator are used, and whether it is a stochastic depth."""
        config: dict[str, Any] = {} if used is None else {"used": tuple(sorted(used))}
        return config | ({"for_each_example": True} if module in self.depth else {})

    def _argument(self, leaf: Any) -> Any:
        if isinstance(leaf, torch.fx.Node):
            return self.names[leaf]
        if isinstance(leaf, list | tuple):
            return [self._argument(item) for item in leaf]
        return _dtype(leaf) if isinstance(leaf, torch.dtype) else size_of(leaf, self.free)

    def _returned(self, node: torch.fx.Node) -> Any:
        """Return the outputs of the module: one, a tuple, or a dict by name."""
        signature = self.exported.graph_signature
        flat = list(node.args[0])[-len(signature.user_outputs) :]  # type: ignore[arg-type]
        values = [self.names[one] if isinstance(one, torch.fx.Node) else one for one in flat]
        spec = self.exported.call_spec.out_spec
        structure = pytree.tree_unflatten(values, spec) if spec is not None else tuple(values)
        if isinstance(structure, Ref):
            return structure
        if isinstance(structure, Mapping) and all(isinstance(one, Ref) for one in structure.values()):
            return dict(structure)
        return tuple(one for one in values if isinstance(one, Ref))

    def _graph(self) -> Graph:
        arrays = {node.name: array for node, array in self.constants.arrays()}
        return Graph(
            name=type(self.module).__name__,
            view=self.described,
            inputs=tuple(self.inputs),
            nodes=tuple(self.nodes),
            outputs=self.outputs,
            input_names={tensor.name: tensor.name for tensor in self.inputs},
            parameters=tuple(self.parameters.values()),
            constants=arrays,
        ).pruned()


def _first_paths(module: nn.Module) -> dict[str, str]:
    """Return the first path of every parameter and buffer; a tied tensor has several paths."""
    seen: dict[int, str] = {}
    return {path: seen.setdefault(id(tensor), path) for path, tensor in named_tensors(module)}


def _bound(node: torch.fx.Node) -> dict[str, Any]:
    """Return the given arguments of an operator by name."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return {}
    names = [argument.name for argument in schema.arguments]
    return dict(zip(names, node.args, strict=False)) | dict(node.kwargs)


def _kind(node: torch.fx.Node) -> str:
    """Return the name of an operator; an in-place operator has the name of its counterpart that is not in place."""
    name = str(node.target)
    namespace, _, rest = name.partition(".")
    base, _, overload = rest.partition(".")
    base = base[:-1] if _is_in_place(node) and base.endswith("_") and not base.startswith("__") else base
    return f"{namespace}.{base}.{overload}"


def _free_sizes(exported: ExportedProgram) -> dict[Any, str]:
    """Return the names of the dynamic sizes other than the batch: "x_2" for axis 2 of the input x."""
    inputs = {*exported.graph_signature.user_inputs}
    found: dict[Any, str] = {}
    batch: set[Any] = set()
    for node in exported.graph.nodes:
        value = node.meta.get("val")
        if node.op != "placeholder" or node.name not in inputs or not isinstance(value, torch.Tensor):
            continue
        sizes: list[Any] = list(value.shape)
        for axis, size in enumerate(sizes):
            if isinstance(size, torch.SymInt):
                for symbol in size.node.expr.free_symbols:
                    batch |= {symbol} if axis == 0 else set()
                    found.setdefault(symbol, f"{node.name}_{axis}")
    return {symbol: name for symbol, name in found.items() if symbol not in batch}


def size_of(value: Any, free: Mapping[Any, str]) -> Any:
    """Return a symbolic size as a `Size`, a fixed one as a number, and any other value as it is.

    Args:
        value: The size.
        free: The names of the dynamic sizes other than the batch.
    """
    if isinstance(value, torch.SymFloat | torch.SymBool):
        return Size(symbols=("unknown", str(value)))
    if not isinstance(value, torch.SymInt):
        return value
    expression = sympy.expand(value.node.expr)
    if expression.is_Integer:
        return int(expression)
    offset, product = expression.as_independent(*expression.free_symbols, as_Add=True)
    factor, rest = product.as_coeff_Mul()
    parts = sympy.Mul.make_args(rest)
    if not all(part.is_Symbol for part in parts) or not factor.is_Integer or not offset.is_Integer:
        return Size(symbols=("unknown", str(expression)))
    names = sorted(free.get(part, BATCH) for part in parts)
    return Size(symbols=tuple(names), factor=int(factor), offset=int(offset))


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _calls(node: torch.fx.Node) -> Iterator[str]:
    """Yield the calls of modules that contain a node, the outermost first."""
    for key, (path, _) in (node.meta.get("nn_module_stack") or {}).items():
        if path and not key.startswith("_empty"):
            yield f"{path}:{key.rpartition('@')[2] if '@' in key else '0'}"


def _line(node: torch.fx.Node) -> str:
    """Return the last line of the user's code that led to a node."""
    frames = [line.strip() for line in (node.meta.get("stack_trace") or "").splitlines()]
    places = [place for place, line in enumerate(frames) if line.startswith('File "') and "/torch/" not in line]
    return " ".join(frames[places[-1] : places[-1] + 2]) if places else ""


__all__ = ["BATCH", "Captured", "capture"]
