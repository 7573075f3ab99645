"""Define the interface of handlers, the functions that convert the `Call` of a torch operator to Keras statements."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from keras3conv.builder.program.names import OWN_KERAS_FUNCTIONS
from keras3conv.builder.program.operation import Function
from keras3conv.builder.program.program import Order, Value, identity
from keras3conv.builder.to_keras.forms import Given, Held, Parts
from keras3conv.errors import RuleError
from keras3conv.model.graph import Node, Shape, Size, Tensor
from keras3conv.rules.rule import Config, Rule
from keras3conv.transforms import Transform

ops = Function("keras.ops")

own = Function(OWN_KERAS_FUNCTIONS)
"""The functions that Keras lacks; their source is copied into the generated file."""

_SAMPLING = ("grid_sample", "grid_sample_bicubic", "grid_sample_nearest")

WITHOUT_PROMOTION = frozenset(
    {"-", *(f"keras.ops.{name}" for name in ("conv", "dot_product_attention", "einsum", "split", "subtract"))}
    | {"keras.ops.searchsorted", "keras.ops.take", "keras.ops.take_along_axis"}
    | {f"{OWN_KERAS_FUNCTIONS}.{name}" for name in ("convolve_each", *_SAMPLING)}
)
"""Functions whose operands must have one dtype, as a backend does not promote float32 to float64 in them."""

Result = Given | Sequence[Given | None] | None


class Writer(Protocol):
    """The interface by which handlers (functions that convert calls) add steps to the program under construction.

    Attributes:
        example_numbers: The names of the values that are the sample indices 0 ... batch - 1.
        parts: For each value that was concatenated or stacked from tensors of equal shape, these tensors, by the
            value's name.
        before_reshape: For each value that a reshape computed, the value before it.
    """

    example_numbers: set[str]
    parts: dict[str, Parts]
    before_reshape: dict[Value, Value]

    def value(self, tensor: Any, order: Order | None = None) -> Value:
        """Return a tensor argument as a value of the program; a constant or parameter is first added to the program.

        Args:
            tensor: The argument.
            order: The axis order for a constant or parameter; None for torch's order.
        """

    def ordered(self, value: Value, order: Order) -> Value:
        """Return a value in the given axis order; add a permutation if its own order differs."""

    def write(self, expression: Any, results: Sequence[Value]) -> None:
        """Add a step (a statement of the program) that assigns an expression to values.

        Args:
            expression: The right side of the assignment.
            results: The values that the step computes.
        """

    def new(self, shape: Shape, order: Order, dtype: str, flattened: tuple[int, ...] = ()) -> Value:
        """Return a new value with a unique name, for the result of a step.

        Args:
            shape: The shape in torch's axis order.
            order: The axis order in Keras.
            dtype: The name of the dtype.
            flattened: See `Value.flattened`.
        """

    def image_order(self, rank: int) -> Order:
        """Return the axis order of images with `rank` axes in the model: channels-last or channels-first."""

    def held(self, parameter: Held, order: Order | None = None, *, for_each_example: bool = False) -> Value:
        """Add a layer that owns a parameter and returns it, and return this output.

        Args:
            parameter: The parameter.
            order: The axis order of the output; None for torch's order.
            for_each_example: Whether the leading axis of size one is repeated for each sample, to become the batch
                axis.
        """

    def layer(
        self, kind: str, config: Config, value: Value, weights: "Sequence[Placed]", name: str, result: Value
    ) -> None:
        """Add the call of a Keras layer that a handler configures itself, without a rule.

        Args:
            kind: The class of the layer.
            config: Its constructor arguments.
            value: The input of the layer.
            weights: The variables of the layer, each with the torch parameter for it.
            name: The name for the layer; empty for the name of the torch layer.
            result: The value for its output.
        """

    def by_rule(self, call: "LayerCall", value: Value, result: Tensor) -> Value:
        """Add the calls of the Keras layers to which a rule converts a torch layer; return the output of the last one.

        Args:
            call: The call of the torch layer.
            value: Its input.
            result: The output of the torch layer in the call graph, which has the shape and dtype.
        """

    def example_ones(self) -> Value:
        """Return a tensor of ones of shape (batch, 1)."""

    def numbers(self, size: Size) -> Value:
        """Return `arange(size)` as a value of the program, for a size that is a dynamic size of an input."""

    def is_constant(self, value: Value) -> bool:
        """Return whether a value is a constant array."""

    def users(self, name: str) -> Sequence[Node]:
        """Return the nodes of the call graph that use a tensor."""


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A variable of a Keras layer, with the torch parameter and the transform that give it its values."""

    role: str
    held: Held
    transform: Transform
    rule: str = ""


@dataclass(frozen=True, kw_only=True)
class LayerCall:
    """A torch layer, reconstructed from the arguments of an operator, and the options for its conversion to Keras.

    Attributes:
        kind: The class of the torch layer.
        keras: The beginnings of the names of the Keras classes that it may become, in order of preference: ("Conv2D",
            "DepthwiseConv2D").
        config: The configuration of the torch layer.
        tensors: The parameters of the torch layer, by name ("weight").
        order: The axis order that the Keras layer needs for its input.
        options: Constructor arguments of the Keras layer that the rule does not set.
        keywords: Further keyword arguments of the call of the Keras layer, such as its initial states.
        more: The values for the further outputs of the Keras layer, such as the states of an LSTM.
        part: The index, in the return value of the Keras layer, of the item that holds the outputs; None if it is the
            whole return value.
        rule: The user's rule for this layer; None if it is a layer for which keras3conv has rules.
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
    rule: Rule | None = None


class Call:
    """The call of a torch operator, with methods that add its Keras steps to the program.

    Attributes:
        node: The call in the graph.
        arguments: The arguments by name; each tensor of the graph is replaced by a `Value`, a `Constant` or a `Held`
            parameter.
    """

    def __init__(self, node: Node, arguments: dict[str, Any], writer: Writer) -> None:
        self.node, self.arguments, self.writer = node, arguments, writer

    @property
    def name(self) -> str:
        """The name of the operator without the namespace and the overload, such as "conv2d"."""
        return self.node.kind.split(".")[1]

    @property
    def shape(self) -> Shape:
        """The shape of the first result of the call, in torch's axis order."""
        return self.node.outputs[0].shape

    @property
    def dtype(self) -> str:
        """The dtype of the first result of the call."""
        return self.node.outputs[0].dtype

    def get(self, name: str, default: Any = None) -> Any:
        """Return the argument of the call with this name; the default if the argument is missing or None."""
        found = self.arguments.get(name, default)
        return default if found is None else found

    def value(self, name: str) -> Value:
        """Return the argument `name` as a value of the program, to which a constant or parameter is added first."""
        return self.writer.value(self.arguments[name])

    def held(self, name: str) -> Held | None:
        """Return the argument `name`, a parameter that a Keras layer can own; None if the call has no such argument.

        Raises:
            RuleError: The argument is computed, or shared with another layer.
        """
        found = self.get(name)
        if found is None or (isinstance(found, Held) and not found.is_shared):
            return found
        raise RuleError(
            f"the {name} of {self.name} is computed or shared with another layer, but a Keras layer needs its "
            f"own {name}{PLAIN}"
        )

    def is_held(self, name: str) -> bool:
        """Return True if the argument `name` is missing, or is a parameter that a Keras layer can own (see `held`)."""
        found = self.get(name)
        return found is None or (isinstance(found, Held) and not found.is_shared)

    def step(self, expression: Any, shape: Shape | None = None, order: Order | None = None, dtype: str = "") -> Value:
        """Add a step (a statement of the program) with one result, and return the result.

        Args:
            expression: The expression that computes the result.
            shape: The shape of the result in torch's axis order; by default that of the call's first result.
            order: The axis order of the result in Keras; by default torch's order.
            dtype: The dtype of the result; by default that of the call's first result.
        """
        shape = self.shape if shape is None else shape
        made = self.writer.new(shape, identity(len(shape)) if order is None else order, dtype or self.dtype)
        self.writer.write(expression, [made])
        return made

    def ordered(self, tensor: Any, order: Order) -> Value:
        """Return a tensor argument as a value in the given axis order; add a permutation if its own order differs."""
        return self.writer.ordered(self.writer.value(tensor, order), order)


PLAIN = " (torch's remove_parametrizations, or remove_weight_norm, makes a plain weight of a computed one)"
"""The advice of torch for a weight that is computed."""

Handler = Callable[[Call], Result]

HANDLERS: dict[str, Handler] = {}
"""The handlers (functions that convert calls) by operator: "aten.conv2d", or with an overload "aten.max.dim"."""


def handles(*names: str) -> Callable[[Handler], Handler]:
    """Return a decorator that registers a function as the handler of torch operators, without `aten`: "conv2d"."""

    def register(handler: Handler) -> Handler:
        HANDLERS.update({f"aten.{name}": handler for name in names})
        return handler

    return register


def handler_of(kind: str) -> Handler | None:
    """Return the handler of an operator, "add.Tensor": that of the overload, else that of "add"; None without both."""
    return HANDLERS.get(kind) or HANDLERS.get(kind.rpartition(".")[0])
