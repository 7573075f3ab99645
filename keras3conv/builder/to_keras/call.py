"""The call of a torch operator while it is lowered: its arguments, and the Keras steps that compute its results."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from keras3conv.builder.program.operation import Function
from keras3conv.builder.program.program import Order, Value, identity
from keras3conv.errors import RuleError
from keras3conv.model.graph import Node, Parameter, Shape, Size, Tensor
from keras3conv.rules.rule import Config
from keras3conv.transforms import Array, Transform

ops = Function("keras.ops")


WITHOUT_PROMOTION = frozenset(
    {"-", *(f"keras.ops.{name}" for name in ("conv", "dot_product_attention", "einsum", "split", "subtract"))}
    | {"keras.ops.take", "keras.ops.take_along_axis"}
)
"""Operations in which a backend does not promote float32 to float64."""


@dataclass(frozen=True, kw_only=True)
class Constant:
    """A tensor that depends on no input.

    Attributes:
        name: Its name in the graph.
        array: Its values; an axis that repeats one value for each example has size one.
        shape: Its sizes, with the free size.
    """

    name: str
    array: Array
    shape: Shape

    @property
    def dtype(self) -> str:
        """The name of its dtype; a constant has the precision of the model."""
        return "float32" if self.array.dtype.kind == "f" else self.array.dtype.name


@dataclass(frozen=True, kw_only=True)
class Held:
    """A parameter or a statistic of the module, before an operator uses it.

    Attributes:
        parameter: The parameter.
        is_shared: Whether several layers would hold it; then one layer holds it, and the operators use its output.
    """

    parameter: Parameter
    is_shared: bool = False

    @property
    def path(self) -> str:
        """Its path in the module."""
        return self.parameter.path

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""
        return tuple(size for size in self.parameter.tensor.shape if isinstance(size, int))

    @property
    def owner(self) -> str:
        """The path of the module that has it."""
        return self.path.rpartition(".")[0]


@dataclass(frozen=True, kw_only=True)
class Complex:
    """A tensor of complex numbers, as two values of one shape and axis order.

    Attributes:
        real: The real parts.
        imaginary: The imaginary parts.
    """

    real: Value
    imaginary: Value

    @property
    def shape(self) -> Shape:
        """Its sizes."""
        return self.real.shape

    @property
    def dtype(self) -> str:
        """The name of its dtype."""
        return "complex64"


Given = Value | Constant | Held | Complex
"""What stands for a tensor in the arguments of a call."""

Result = Given | Sequence[Given | None] | None


class Writer(Protocol):
    """What a call needs of the lowering.

    Attributes:
        example_numbers: The names of the values that number the examples of a batch.
    """

    example_numbers: set[str]

    def value(self, given: Any, order: Order | None = None) -> Value:
        """Return anything that stands for a tensor as a value of the program."""

    def ordered(self, value: Value, order: Order) -> Value:
        """Return a value in another axis order."""

    def write(self, expression: Any, made: Sequence[Value]) -> None:
        """Add a step."""

    def new(self, shape: Shape, order: Order, dtype: str, flattened: tuple[int, ...] = ()) -> Value:
        """Return a new value."""

    def image_order(self, rank: int) -> Order:
        """Return the axis order of images in the model."""

    def held(self, parameter: Held, order: Order | None = None, *, for_each_example: bool = False) -> Value:
        """Return a parameter as the output of a layer that holds it."""

    def layer(
        self, kind: str, config: Config, value: Value, weights: "Sequence[Placed]", name: str, result: Value
    ) -> None:
        """Call a Keras layer that is written down directly."""

    def by_rule(self, call: "LayerCall", value: Value, result: Tensor) -> Value:
        """Call the Keras layers that the rule library makes of a torch layer."""

    def example_ones(self) -> Value:
        """Return ones of shape (batch, 1)."""

    def numbers(self, size: Size) -> Value:
        """Return the numbers from 0 to a free size of an input."""

    def before_reshape(self, value: Value) -> Value | None:
        """Return the value that a value was reshaped from; None if it is no result of a reshape."""

    def note_reshape(self, made: Value, value: Value) -> None:
        """Note that a value was reshaped from another."""

    def is_constant(self, value: Value) -> bool:
        """Return whether a value is an array."""

    def users(self, name: str) -> Sequence[Node]:
        """Return the calls that use a tensor."""


@dataclass(frozen=True, kw_only=True)
class Placed:
    """Where a parameter goes.

    Attributes:
        role: The name of the variable in the Keras layer.
        held: The parameter.
        transform: From the parameter to the variable.
        rule: The rule for the two layers; empty if none knows them.
    """

    role: str
    held: Held
    transform: Transform
    rule: str = ""


@dataclass(frozen=True, kw_only=True)
class LayerCall:
    """A torch layer, from the arguments of its operator.

    Attributes:
        kind: The class of the torch layer.
        keras: The beginning of the names of the Keras classes that may compute it.
        config: Its configuration.
        tensors: Its tensors, by role.
        order: The axis order that the Keras layer needs.
        options: Arguments of the Keras layer that the rule does not set.
        keywords: Further arguments of the call.
        more: The values that the layer returns besides its output.
        part: The part of what the layer returns that has these values; None for all of it.
    """

    kind: str
    keras: tuple[str, ...]
    config: Config
    tensors: dict[str, Held]
    order: Order
    options: Config = field(default_factory=dict)
    keywords: dict[str, list[Value]] = field(default_factory=dict)
    more: tuple[Value, ...] = ()
    part: int | None = None


class Call:
    """The call of an operator.

    Attributes:
        node: The call in the graph.
        arguments: Its arguments by name, with values in the place of references.
    """

    def __init__(self, node: Node, arguments: dict[str, Any], writer: Writer) -> None:
        self.node, self.arguments, self.writer = node, arguments, writer

    @property
    def name(self) -> str:
        """The name of the operator without the namespace and the overload: "conv2d"."""
        return self.node.kind.split(".")[1]

    @property
    def shape(self) -> Shape:
        """The sizes of the first result, in the axes of torch."""
        return self.node.outputs[0].shape

    @property
    def dtype(self) -> str:
        """The dtype of the first result."""
        return self.node.outputs[0].dtype

    def get(self, name: str, default: Any = None) -> Any:
        """Return an argument; the default if it is left out."""
        found = self.arguments.get(name, default)
        return default if found is None else found

    def value(self, name: str) -> Value:
        """Return an argument as a value of the program."""
        return self.writer.value(self.arguments[name])

    def held(self, name: str) -> Held | None:
        """Return an argument that is a parameter which a Keras layer may hold; None if it is left out.

        Raises:
            RuleError: The argument is computed, or shared with another layer.
        """
        found = self.get(name)
        if found is None or (isinstance(found, Held) and not found.is_shared):
            return found
        raise RuleError(f"{self.name} with a computed or shared {name}: a Keras layer holds its {name} itself")

    def is_held(self, name: str) -> bool:
        """Return whether an argument is left out, or a parameter that a layer may hold."""
        found = self.get(name)
        return found is None or (isinstance(found, Held) and not found.is_shared)

    def step(self, expression: Any, shape: Shape | None = None, order: Order | None = None, dtype: str = "") -> Value:
        """Add a step with one result, by default of the shape of the call."""
        shape = self.shape if shape is None else shape
        made = self.writer.new(shape, identity(len(shape)) if order is None else order, dtype or self.dtype)
        self.writer.write(expression, [made])
        return made

    def ordered(self, given: Any, order: Order) -> Value:
        """Return anything that stands for a tensor as a value in an axis order."""
        return self.writer.ordered(self.writer.value(given, order), order)


Handler = Callable[[Call], Result]

HANDLERS: dict[str, Handler] = {}
"""The handlers by the names of the operators: "aten.conv2d", or with its overload "aten.max.dim"."""


def handles(*names: str) -> Callable[[Handler], Handler]:
    """Register a function for operators of `aten`."""

    def register(handler: Handler) -> Handler:
        HANDLERS.update({f"aten.{name}": handler for name in names})
        return handler

    return register


def handler_of(kind: str) -> Handler | None:
    """Return the handler of an operator: that of its overload, or that of all overloads."""
    return HANDLERS.get(kind) or HANDLERS.get(kind.rpartition(".")[0])


__all__ = [
    "WITHOUT_PROMOTION",
    "Call",
    "Complex",
    "Constant",
    "Given",
    "Held",
    "LayerCall",
    "Placed",
    "Result",
    "handler_of",
    "handles",
    "ops",
]
