"""Define the call graph of a model: the calls of layers and operations, and the tensors between them.

The graph is independent of the frameworks: it has class names, plain values and arrays. Shapes and axes are in the
layout of the traced model. A dynamic size (the batch size, the length of a sequence) is a symbolic `Size`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Never

from keras3conv.errors import RuleError
from keras3conv.model.views import ModelView
from keras3conv.transforms import Array

MODULE_CALL = "keras3conv.module.default"
"""The kind of a node for the call of a whole torch module, such as one for which the user has a rule."""

FIRST_VALUE = "keras3conv.first_value.default"
"""The kind of a node that returns a constant with which a loop starts: its first iteration uses it as a variable.

The name of the value that the second iteration uses instead is the argument `following`.
"""


@dataclass(frozen=True, kw_only=True)
class Size:
    """A symbolic size: factor * (product of dynamic sizes) + offset.

    Attributes:
        symbols: The names of the dynamic sizes that are multiplied, for example ("batch",).
        factor: The number that the product is multiplied by.
        offset: The number that is added.
    """

    symbols: tuple[str, ...]
    factor: int = 1
    offset: int = 0

    def __str__(self) -> str:
        factors = [*self.symbols] if self.factor == 1 else [str(self.factor), *self.symbols]
        product = " * ".join(factors)
        if not self.offset:
            return product
        sign = "+" if self.offset > 0 else "-"
        return f"{product} {sign} {abs(self.offset)}"

    def _refuse(self, other: object = None) -> Never:
        """Refuse arithmetic and comparisons with this size, which is symbolic; the caller reports the layer.

        Args:
            other: The other operand, which is ignored.

        Raises:
            RuleError: Always.
        """
        raise RuleError(
            f"a computation that needs a number depends on the dynamic size {self}; the batch size is always dynamic, "
            "and any other size is that of the arrays in inputs=... unless dynamic=... names its axis"
        )

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _refuse
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __truediv__ = __rtruediv__ = _refuse
    __neg__ = __pos__ = __abs__ = __pow__ = __rpow__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = __index__ = __int__ = __float__ = _refuse


Shape = tuple[int | Size, ...]
"""The shape of a tensor: a number or a symbolic size for each axis."""


@dataclass(frozen=True)
class Ref:
    """A reference to a tensor of the call graph, in the arguments of a call; it has the name of the tensor."""

    name: str


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """The description of a tensor in the graph: an input, a parameter, a constant, or an output of a node.

    Attributes:
        name: The name, unique in the graph.
        shape: The shape, in the layout of the traced model.
        dtype: The name of the dtype: "float32", "int32", "bool".
    """

    name: str
    shape: Shape
    dtype: str = "float32"


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A variable that operations use directly, such as a position table that the model's own `call` adds to its input.

    The variables of a layer that is one node are not among the parameters.

    Attributes:
        path: The path in the model, such as "embedding/position_table".
        tensor: The tensor that represents the variable in the graph.
        trainable: Whether an optimiser changes the variable.
    """

    path: str
    tensor: Tensor
    trainable: bool = True


@dataclass(frozen=True, kw_only=True)
class Node:
    """One call of a layer or of an operation.

    Attributes:
        kinds: For a layer, the qualified class names, the most derived first: "keras.layers.Conv2D". For an operation,
            its public name, such as "keras.ops.add".
        path: The path of the layer in the model. For an operation, the path of the layer whose `call` contains it,
            followed by the name of the operation.
        arguments: The arguments by parameter name: plain values, `Size`s and `Ref`s, in tuples, lists and dicts.
        config: The arguments of the layer's constructor.
        outputs: The tensors that the call returns.
        structure: The nested structure of the return value, with a `Ref` for each tensor.
        calls: The layer calls that contain this call, the outermost first: the layer's path, a colon and the number of
            the call ("encoder/block:1").
        variables: For each output, the names of the Python variables to which the user's code assigns it: one name for
            the code of each call in `calls`, the outermost first. A name is empty if it is not known.
    """

    kinds: tuple[str, ...]
    path: str
    arguments: Mapping[str, Any]
    outputs: tuple[Tensor, ...]
    structure: Any = None
    config: Mapping[str, Any] = field(default_factory=dict)
    calls: tuple[str, ...] = ()
    variables: tuple[tuple[str, ...], ...] = ()

    @property
    def kind(self) -> str:
        """The qualified name of the layer's class, or the public name of the operation, such as "keras.ops.add"."""
        return self.kinds[0]

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the tensors in the arguments of the call, in order."""
        return tuple(ref.name for ref in refs(self.arguments))


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A model as a sequence of calls, in execution order.

    Attributes:
        name: The name of the model.
        view: The layers and tensors of the model.
        inputs: The input tensors.
        nodes: The calls; each uses only inputs, parameters, constants and outputs of earlier calls.
        outputs: The nested structure of the model's return value, with a `Ref` for each tensor.
        input_structure: The nested structure of the model's inputs, with a `Ref` for each tensor.
        input_names: The name that the model has for each input, by the name of the input's tensor in the graph.
        output_names: The name that the model has for each output, in order; empty if it has none.
        parameters: The variables that operations use directly.
        constants: The arrays that operations use, by the name of the tensor.
        sizes: For every dynamic size, the name of the input and the axis that define it.
        written: For layers whose names Keras generated, the path made of the names of attributes in the user's code, by
            the path in the model: {"encoder/dense_3": "encoder/project"}.
        keeps_names: Whether the names of the inputs are those of arguments in the user's code.
        remarks: Sentences about what the model does in training only, such as a kernel regularizer.
        margin: 0 if the trace used the default numbers for the dynamic sizes. A model that crops its inputs needs
            larger ones; then it is the number that was added to every dynamic size except the batch size.
        multiple: 1 if the model accepts any sizes. A U-Net needs sizes that it can halve; then it is the number of
            which the dynamic sizes of the trace, except the batch size, were multiples.
    """

    name: str
    view: ModelView
    inputs: tuple[Tensor, ...]
    nodes: tuple[Node, ...]
    outputs: Any
    input_structure: Any = None
    input_names: Mapping[str, str] = field(default_factory=dict)
    output_names: tuple[str, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    constants: Mapping[str, Array] = field(default_factory=dict)
    sizes: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    written: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    keeps_names: bool = False
    margin: int = 0
    multiple: int = 1

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The inputs, parameters and node outputs of the graph, by name; constants are arrays and not among them."""
        found = [*self.inputs, *(parameter.tensor for parameter in self.parameters)]
        found += [tensor for node in self.nodes for tensor in node.outputs]
        return {tensor.name: tensor for tensor in found}

    def pruned(self) -> "Graph":
        """Return the graph without the nodes, parameters and constants that no output of the model depends on.

        If a layer is called several times and a node inside it is kept for one of the calls, the corresponding nodes
        of its other calls are kept too, so that every call of the layer has the same nodes.
        """
        counterparts = self._counterparts()
        kept = self._needed(frozenset())
        while True:
            more = {other for place in kept for other in counterparts.get(place, ())} - kept
            if not more:
                break
            kept = self._needed(kept | more)
        nodes = tuple(node for place, node in enumerate(self.nodes) if place in kept)
        needed = {ref.name for ref in refs(self.outputs)} | {name for node in nodes for name in node.inputs}
        return replace(
            self,
            nodes=nodes,
            parameters=tuple(parameter for parameter in self.parameters if parameter.tensor.name in needed),
            constants={name: array for name, array in self.constants.items() if name in needed},
        )

    def _needed(self, wanted: frozenset[int]) -> frozenset[int]:
        """Return the indices of the wanted nodes, and of all nodes that they or the outputs of the model depend on.

        Args:
            wanted: The indices of nodes that are needed in any case.
        """
        needed = {ref.name for ref in refs(self.outputs)}
        kept: set[int] = set()
        for place in range(len(self.nodes) - 1, -1, -1):
            node = self.nodes[place]
            if place in wanted or any(tensor.name in needed for tensor in node.outputs):
                kept.add(place)
                needed.update(node.inputs)
        return frozenset(kept)

    def _counterparts(self) -> dict[int, tuple[int, ...]]:
        """Return for each node inside a layer that is called several times the corresponding nodes of all its calls.

        Keys and values are indices in `nodes`: if nodes 3 and 7 are the first nodes of two calls of one layer, the
        result has {3: (3, 7), 7: (3, 7)}. Layers whose calls differ in their nodes are left out.
        """
        calls_of: dict[str, dict[str, list[int]]] = {}
        for place, node in enumerate(self.nodes):
            for call in node.calls:
                layer = call.rpartition(":")[0]
                calls_of.setdefault(layer, {}).setdefault(call, []).append(place)
        found: dict[int, tuple[int, ...]] = {}
        for calls in calls_of.values():
            kinds = {tuple(self.nodes[place].kinds for place in places) for places in calls.values()}
            if len(calls) == 1 or len(kinds) > 1:
                continue
            for same in zip(*calls.values(), strict=True):
                known = {other for place in same for other in found.get(place, ())}
                found |= dict.fromkeys(same, tuple({*same, *known}))
        return found


def leaves(value: Any) -> Iterator[Any]:
    """Yield the leaves of nested tuples, lists, dicts and slices, in order: the values that are not such containers."""
    if isinstance(value, Mapping):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from leaves(item)
    elif isinstance(value, slice):
        yield from leaves((value.start, value.stop, value.step))
    else:
        yield value


def refs(value: Any) -> Iterator[Ref]:
    """Yield the tensor references in nested arguments, in order."""
    return (leaf for leaf in leaves(value) if isinstance(leaf, Ref))


def mapped(value: Any, function: Callable[[Any], Any]) -> Any:
    """Return a nested structure with a function applied to every leaf; containers become plain tuples, lists, dicts."""
    if isinstance(value, Mapping):
        return {name: mapped(item, function) for name, item in value.items()}
    if isinstance(value, tuple):
        return tuple(mapped(item, function) for item in value)
    if isinstance(value, list):
        return [mapped(item, function) for item in value]
    if isinstance(value, slice):
        return slice(*(mapped(item, function) for item in (value.start, value.stop, value.step)))
    return function(value)
