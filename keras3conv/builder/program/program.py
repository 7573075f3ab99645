"""Define the program, a generated model as data: its submodules, its parameters, the statements of `forward`.

The types are independent of the frameworks. "Source" is the framework of the original model (Keras), "target" is the
framework of the generated module (torch).
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
"""The source axis at each position of the target: (0, 3, 1, 2) for a Keras image in channels-first order."""


def identity(rank: int) -> Order:
    """Return the axis order of a tensor with the same order in source and target: (0, 1, 2) for a `rank` of 3."""
    return tuple(range(rank))


def channels_first(rank: int) -> Order:
    """Return the channels-first order for a source with channels last: (0, 3, 1, 2) for a `rank` of 4.

    For fewer than three axes it is the identity.
    """
    return identity(rank) if rank < 3 else (0, rank - 1, *range(1, rank - 1))


@dataclass(frozen=True, kw_only=True)
class Value(Expression):
    """A tensor of the program.

    Attributes:
        name: The name, unique in the program.
        shape: The shape in the axis order of the source.
        order: The axis order: for each axis in the target, the index of this axis in the source. (0, 3, 1, 2) is
            channels-first.
        dtype: The name of the dtype.
        flattened: If the value was flattened in another element order than in the source: the target shape (channels,
            *space) before the flatten. Else empty. Such a value may only be the input of a Linear, whose columns are
            reordered.
    """

    name: str
    shape: Shape
    order: Order
    dtype: str = "float32"
    flattened: tuple[int, ...] = ()

    @property
    def rank(self) -> int:
        """The number of axes of the value."""
        return len(self.shape)

    @property
    def target_shape(self) -> Shape:
        """The shape of the value in the axis order of the target framework."""
        return tuple(self.shape[axis] for axis in self.order)

    def position(self, axis: int) -> int:
        """Return the position that a source axis has in the target; a negative axis counts from the end."""
        return self.order.index(axis % self.rank)


@dataclass(frozen=True, kw_only=True)
class Module:
    """A submodule of the generated module.

    Attributes:
        name: The attribute name in the generated module, such as "conv1".
        spec: The class and the constructor arguments.
        source: The path of the source layer that provides the weights; empty if the submodule has no weights.
        rule: The name of the rule that created the submodule; empty if it has no weights.
        flattened: The shape of the input before it was flattened; see `Value.flattened`.
        trainable: Whether an optimizer updates the parameters.
    """

    name: str
    spec: LayerSpec
    source: str = ""
    rule: str = ""
    flattened: tuple[int, ...] = ()
    trainable: bool = True


@dataclass(frozen=True, kw_only=True)
class Weight:
    """A parameter or buffer of the generated module itself, not of a submodule.

    Attributes:
        name: The attribute name in the generated module.
        shape: The shape.
        source: The path of the source variable; empty for a constant.
        array: The values of a constant; None for a variable.
        dtype: The name of the dtype.
        trainable: Whether it is a parameter, which an optimizer updates; else it is a buffer.
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
        expression: The right side: an operation, or a tuple of operations for several outputs, with `Ref`s for values.
        outputs: The names of the values that the statement computes.
        path: The path of the source layer or operation that the statement comes from.
        comment: A comment for the reader of the source code.
        overwrites: Whether a sum may be written in place, as `y += x`, because the first summand is not used elsewhere.
        calls: The calls of source layers that contain the statement; see `graph.Node.calls`.
    """

    expression: Any
    outputs: tuple[str, ...]
    path: str = ""
    comment: str = ""
    overwrites: bool = False
    calls: tuple[str, ...] = ()

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """The names of the values that the statement uses, one entry per use, in the order of the source text."""
        return references(self.expression)

    @cached_property
    def module(self) -> str:
        """The name of the submodule that the statement calls; empty if it calls none."""
        return next((node.name for node in walk(self.expression) if is_module_call(node)), "")

    @cached_property
    def symbols(self) -> frozenset[str]:
        """The dynamic sizes that the statement uses."""
        sizes = (node for node in walk(self.expression) if isinstance(node, Size))
        return frozenset(symbol for size in sizes for symbol in size.symbols)


def is_module_call(node: Any) -> bool:
    """Return True if a node of an expression is the call of a submodule."""
    return isinstance(node, Operation) and node.kind == "module"


@dataclass(frozen=True, kw_only=True)
class Program:
    """A generated module: its statements, and the values, submodules and weights that they use.

    Attributes:
        name: The name of the source model.
        inputs: The arguments of `forward`.
        steps: The statements, in the order in which they run.
        outputs: The return value of `forward`: `Ref`s in nested tuples, lists and dicts.
        values: All values by name.
        modules: The submodules by name.
        weights: The parameters and buffers of the module itself, by the names of their values.
        sizes: For every dynamic size, the name of the input and the index of its axis that have this size.
        input_names: The name of each input in the source model, by the name of its value.
        output_names: The name of each output in the source model, in order; empty if it has none.
        keeps_names: Whether a single input keeps its name as a variable, because the user's code names it so; False to
            call it `x`.
        remarks: Sentences about what the source model does only in training.
        output_orders: The axis order of each output. It differs from the order of the value if the source model only
            renamed axes, as a transpose does.
        variables: The variable names of each value in the source model's code; see `graph.Node.variables`.
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
    output_names: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    keeps_names: bool = False
    output_orders: tuple[Order, ...] = ()
    variables: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def variable(self, name: str, depth: int = -1) -> str:
        """Return the name of the variable in the user's code that holds a value; empty if there is none.

        Args:
            name: The name of the value in the program.
            depth: The nesting depth of the layer call in whose code the name is looked up, as each may use another; -1
                for the innermost call.
        """
        found = self.variables.get(name, ())
        return found[min(depth, len(found) - 1)] if found else ""

    def masks_last(self, step: Step) -> tuple[str, ...]:
        """Return the inputs of a statement, masks (boolean values) last; if it computes a mask itself, masks first."""
        makes_mask = self.values[step.outputs[0]].dtype == "bool"
        return tuple(sorted(step.inputs, key=lambda name: (self.values[name].dtype == "bool") != makes_mask))

    @cached_property
    def makers(self) -> Mapping[str, Step]:
        """The statement that computes each value; inputs and weights have none."""
        return {output: step for step in self.steps for output in step.outputs}

    @cached_property
    def uses(self) -> Counter[str]:
        """The number of uses of each value, as an input of a statement or as an output of the program."""
        used = Counter(name for step in self.steps for name in step.inputs)
        used.update(ref.name for ref in refs(self.outputs))
        return used

    @cached_property
    def last_uses(self) -> Mapping[str, int]:
        """For each value, the index of the last statement that uses it; the number of statements for an output."""
        last = {name: place for place, step in enumerate(self.steps) for name in step.inputs}
        return last | {ref.name: len(self.steps) for ref in refs(self.outputs)}

    def last_use(self, step: Step) -> int:
        """Return the index of the last statement that uses an output of this one (see `last_uses`); -1 if none does."""
        return max((self.last_uses.get(name, -1) for name in step.outputs), default=-1)

    @cached_property
    def module_uses(self) -> Counter[str]:
        """The number of times that the program calls each submodule."""
        return Counter(step.module for step in self.steps if step.module)
