"""The neutral architecture that `convert` works on: which layer and which operation is given what, in one framework.

It is data: class names, plain values and arrays. Nothing here knows a framework. Shapes and axes are those of the side
that the graph was read from; a size that is free (the batch, the length of a text) is a `Size`, not a number.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from keras3conv.model.views import ModelView
from keras3conv.transforms import Array


@dataclass(frozen=True, kw_only=True)
class Size:
    """A number that depends on free sizes of the inputs: factor * (their product) + offset.

    Attributes:
        symbols: The free sizes that are multiplied: ("batch",).
        factor: What their product is multiplied with.
        offset: What is added to that.
    """

    symbols: tuple[str, ...]
    factor: int = 1
    offset: int = 0

    def __str__(self) -> str:
        product = " * ".join((*((str(self.factor),) if self.factor != 1 else ()), *self.symbols))
        return f"{product} {'+' if self.offset > 0 else '-'} {abs(self.offset)}" if self.offset else product


Shape = tuple[int | Size, ...]
"""The sizes of a tensor."""


@dataclass(frozen=True)
class Ref:
    """A tensor, by its name in the graph, where it stands in arguments."""

    name: str


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A value that flows through the graph: an input, a parameter, a constant, what a node returns.

    Attributes:
        name: Unique in the graph.
        shape: Its sizes, in the axes of the side that the graph was read from.
        dtype: The name of its dtype: "float32", "int32", "bool".
    """

    name: str
    shape: Shape
    dtype: str = "float32"


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A variable that no layer of a known class owns, and that operations use as it is.

    Attributes:
        path: Its path in the model: "embedding/position_table".
        tensor: The value that it is in the graph.
        trainable: Whether an optimiser changes it.
    """

    path: str
    tensor: Tensor
    trainable: bool = True


@dataclass(frozen=True, kw_only=True)
class Node:
    """One call of a layer or of an operation.

    Attributes:
        kinds: Qualified class names, the most derived first: "keras.layers.Conv2D"; of an operation its public name:
            "keras.ops.add".
        path: The layer's path in the model; of an operation the path of the layer that it is called in, with the
            operation's own name.
        arguments: What it is called with, by the names of its parameters: plain values, `Size`s where these depend on
            free sizes, and `Ref`s, in tuples, lists and dicts.
        config: What the layer was made with.
        outputs: What it returns.
        structure: How what it returns is nested, with `Ref`s.
        calls: The calls that it is made in, from the outermost on: each the path of a layer, a colon and a number.
    """

    kinds: tuple[str, ...]
    path: str
    arguments: Mapping[str, Any]
    outputs: tuple[Tensor, ...]
    structure: Any = None
    config: Mapping[str, Any] = field(default_factory=dict)
    calls: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """The most derived class name."""
        return self.kinds[0]

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the tensors in the arguments, in their order."""
        return tuple(ref.name for ref in refs(self.arguments))


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A model as calls in the order in which they run.

    Attributes:
        name: The model's name.
        view: Its layers and tensors.
        inputs: What it is called with.
        nodes: The calls; each uses only what was there before.
        outputs: How what it returns is nested, with `Ref`s.
        input_structure: How what it is called with is nested, with `Ref`s.
        input_names: What the inputs are called by their names in the graph.
        parameters: Variables that operations use.
        constants: Arrays that operations use, by the name of the tensor.
        sizes: For every free size the input and the axis that tell it.
    """

    name: str
    view: ModelView
    inputs: tuple[Tensor, ...]
    nodes: tuple[Node, ...]
    outputs: Any
    input_structure: Any = None
    input_names: Mapping[str, str] = field(default_factory=dict)
    parameters: tuple[Parameter, ...] = ()
    constants: Mapping[str, Array] = field(default_factory=dict)
    sizes: Mapping[str, tuple[str, int]] = field(default_factory=dict)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by its name, without the constants, which are arrays."""
        found = [*self.inputs, *(parameter.tensor for parameter in self.parameters)]
        found += [tensor for node in self.nodes for tensor in node.outputs]
        return {tensor.name: tensor for tensor in found}

    def pruned(self) -> "Graph":
        """The graph without the calls, parameters and constants that no output depends on.

        What one call of a layer needs inside it, its other calls keep as well: they stay alike.
        """
        alike = self._counterparts()
        kept = self._needed(frozenset())
        while more := {other for place in kept for other in alike.get(place, ())} - kept:
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
        """The places of the nodes that the outputs, or the wanted nodes, depend on."""
        needed = {ref.name for ref in refs(self.outputs)}
        kept: set[int] = set()
        for place in range(len(self.nodes) - 1, -1, -1):
            node = self.nodes[place]
            if place in wanted or any(tensor.name in needed for tensor in node.outputs):
                kept.add(place)
                needed.update(node.inputs)
        return frozenset(kept)

    def _counterparts(self) -> dict[int, tuple[int, ...]]:
        """For every node in a layer that is called again: the same node in all calls of the layer."""
        calls: dict[str, dict[str, list[int]]] = {}
        for place, node in enumerate(self.nodes):
            for call in node.calls:
                calls.setdefault(call.rpartition(":")[0], {}).setdefault(call, []).append(place)
        found: dict[int, tuple[int, ...]] = {}
        for places in (list(one.values()) for one in calls.values() if len(one) > 1):
            if len({tuple(self.nodes[place].kinds for place in one) for one in places}) == 1:
                for same in zip(*places, strict=True):
                    found |= dict.fromkeys(same, tuple({*same, *(o for p in same for o in found.get(p, ()))}))
        return found


def leaves(value: Any) -> Iterator[Any]:
    """What stands in nested tuples, lists, dicts and slices, in order."""
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
    """The tensors that stand in nested arguments, in order."""
    return (leaf for leaf in leaves(value) if isinstance(leaf, Ref))


def mapped(value: Any, function: Callable[[Any], Any]) -> Any:
    """The same structure with a function applied to every leaf; structures become plain tuples, lists and dicts."""
    if isinstance(value, Mapping):
        return {name: mapped(item, function) for name, item in value.items()}
    if isinstance(value, tuple):
        return tuple(mapped(item, function) for item in value)
    if isinstance(value, list):
        return [mapped(item, function) for item in value]
    if isinstance(value, slice):
        return slice(*(mapped(item, function) for item in (value.start, value.stop, value.step)))
    return function(value)
