"""A module as data, before it is source code: its submodules, its parameters and the statements of `forward`.

The types are the same for every pair of frameworks. "Source" is the side that the model comes from, "target" the side
that the program is written for.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from keras3conv.builder.program.operation import Expression, Operation, references, walk
from keras3conv.model.graph import Shape, Size, refs
from keras3conv.rules.rule import LayerSpec
from keras3conv.transforms import Array

Order = tuple[int, ...]
"""The source axis at each position of the target: (0, 3, 1, 2) for a Keras image that torch has channels-first."""


def identity(rank: int) -> Order:
    """Return the order that permutes nothing."""
    return tuple(range(rank))


def channels_first(rank: int) -> Order:
    """Return the order with the last axis second; with two axes or fewer, the order that permutes nothing."""
    return identity(rank) if rank < 3 else (0, rank - 1, *range(1, rank - 1))


@dataclass(frozen=True, kw_only=True)
class Value(Expression):
    """A tensor of the program.

    Attributes:
        name: Unique in the program.
        shape: The sizes in the axis order of the source.
        order: The source axis at each position of the target.
        dtype: The name of its dtype.
        flattened: The shape in the target, (channels, *space), that its features were flattened from, where the source
            flattens them in another order; empty where both have one order. Only the kernel of a Linear may take such a
            value.
    """

    name: str
    shape: Shape
    order: Order
    dtype: str = "float32"
    flattened: tuple[int, ...] = ()

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def target_shape(self) -> Shape:
        """The sizes in the axis order of the target."""
        return tuple(self.shape[axis] for axis in self.order)

    def position(self, axis: int) -> int:
        """Return the position in the target of a source axis, which may be counted from the end."""
        return self.order.index(axis % self.rank)


@dataclass(frozen=True, kw_only=True)
class Module:
    """A submodule.

    Attributes:
        name: Its name in the module: "conv1".
        spec: The class and the arguments of its constructor.
        source: The path of the source layer whose tensors it holds; empty if it holds none.
        rule: The name of the rule that it comes from.
        flattened: The shape that its input features were flattened from, in the order of the target.
        trainable: Whether an optimizer updates its parameters.
    """

    name: str
    spec: LayerSpec
    source: str = ""
    rule: str = ""
    flattened: tuple[int, ...] = ()
    trainable: bool = True


@dataclass(frozen=True, kw_only=True)
class Weight:
    """A parameter or a buffer of the module itself, not of a submodule.

    Attributes:
        name: Its name in the module.
        shape: Its sizes.
        source: The path of the source variable; empty for a constant.
        array: The values of a constant.
        dtype: The name of its dtype.
        trainable: Whether an optimizer updates it. If not, it is a buffer.
    """

    name: str
    shape: tuple[int, ...]
    source: str = ""
    dtype: str = "float32"
    trainable: bool = True
    array: Array | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Step:
    """A statement of `forward`: an assignment.

    Attributes:
        expression: The right side: an operation, or a tuple of them for several outputs. `Ref`s stand for the values.
        outputs: The names of the values that it computes.
        path: The path of the source layer or operation that it comes from.
        comment: A comment for the reader of the source code.
        overwrites: Whether the sum may be written in place, as `y += x`, because nothing else uses the first summand.
        calls: The calls of source layers that it is part of; see `graph.Node.calls`.
    """

    expression: Any
    outputs: tuple[str, ...]
    path: str = ""
    comment: str = ""
    overwrites: bool = False
    calls: tuple[str, ...] = ()

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """The names of the values that it uses, once for each time, in the order of the text."""
        return references(self.expression)

    @cached_property
    def module(self) -> str:
        """The submodule that it calls; empty if it calls none."""
        return next((node.name for node in walk(self.expression) if is_module_call(node)), "")

    @cached_property
    def symbols(self) -> frozenset[str]:
        """The free sizes that it uses."""
        sizes = (node for node in walk(self.expression) if isinstance(node, Size))
        return frozenset(symbol for size in sizes for symbol in size.symbols)


def is_module_call(node: Any) -> bool:
    """Return whether a node of an expression is the call of a submodule."""
    return isinstance(node, Operation) and node.kind == "module"


@dataclass(frozen=True, kw_only=True)
class Program:
    """A module: its statements and what they use.

    Attributes:
        name: The name of the source model.
        inputs: The arguments of `forward`.
        steps: The statements, in the order in which they run.
        outputs: What `forward` returns: `Ref`s in nested tuples, lists and dicts.
        values: Every value by its name.
        modules: The submodules by their names.
        weights: Its own parameters and buffers, by the names of their values.
        sizes: For every free size, the input value and the position of the axis that have it.
        input_names: The names of the inputs in the source model, by the names of their values.
        output_orders: The axis order of each output. It differs from that of the value where an operation of the source
            only renamed the axes, as a transpose does.
    """

    name: str
    inputs: tuple[Value, ...]
    steps: tuple[Step, ...]
    outputs: object
    values: Mapping[str, Value]
    modules: Mapping[str, Module] = field(default_factory=dict)
    weights: Mapping[str, Weight] = field(default_factory=dict)
    sizes: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    input_names: Mapping[str, str] = field(default_factory=dict)
    output_orders: tuple[Order, ...] = ()

    def masks_last(self, step: Step) -> tuple[str, ...]:
        """Return the inputs of a statement, boolean masks after the other ones; before them if the result is a mask."""
        makes_mask = self.values[step.outputs[0]].dtype == "bool"
        return tuple(sorted(step.inputs, key=lambda name: (self.values[name].dtype == "bool") != makes_mask))

    @cached_property
    def makers(self) -> Mapping[str, Step]:
        """The statement that computes each value; inputs and weights have none."""
        return {output: step for step in self.steps for output in step.outputs}

    @cached_property
    def uses(self) -> Counter[str]:
        """The number of times that each value is used or returned."""
        used = Counter(name for step in self.steps for name in step.inputs)
        used.update(ref.name for ref in refs(self.outputs))
        return used

    @cached_property
    def module_uses(self) -> Counter[str]:
        """The number of times that each submodule is called."""
        return Counter(step.module for step in self.steps if step.module)


__all__ = [
    "Module",
    "Order",
    "Program",
    "Step",
    "Value",
    "Weight",
    "channels_first",
    "identity",
    "is_module_call",
]
