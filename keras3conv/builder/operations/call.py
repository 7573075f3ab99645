"""Define the interface of handlers: a handler converts a `Call` of a Keras layer or operation to torch.

A handler passes to `returns` the torch expression that computes the result, and the axis order of the result:

    @handles("keras.ops.concatenate")
    def _concatenate(call: Call) -> None:
        tensors, order = call.aligned(call["xs"])
        call.returns(torch.cat(tensors, dim=tensors[0].position(call["axis"])), order)

Tensors keep their axis order as long as possible: a handler translates the axis arguments (`Value.position`) instead of
permuting the data. If an operation needs the axis order of Keras, `call.keras_order` adds a permutation. Each value is
permuted only once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from keras3conv.builder.program.operation import Submodule, walk
from keras3conv.builder.program.program import Order, Value, identity
from keras3conv.errors import RuleError
from keras3conv.model.graph import Node, Shape, Size
from keras3conv.transforms import Array

Handler = Callable[["Call"], None]

HANDLERS: dict[str, Handler] = {}
"""The handlers (functions that convert calls) by operation or layer class: "keras.ops.add", "keras.layers.Dot"."""


class ProgramBuilder(Protocol):
    """The methods by which handlers add statements to a program; the class that converts the graph implements them."""

    @property
    def anchor(self) -> Value:
        """The first input of the model. A tensor that uses no input, such as `torch.arange(8)`, gets its device."""

    def permuted(self, value: Value, order: Order) -> Value:
        """Return a value in the given axis order; add a permutation if its own order differs."""

    def write(self, expression: Any, results: Sequence[Value], *, path: str, comment: str) -> None:
        """Add a statement to the program that assigns an expression to values.

        Args:
            expression: The right side of the assignment.
            results: The values that the statement computes.
            path: The path of the Keras layer or operation from which the statement comes.
            comment: A comment for the reader of the source code; empty for none.
        """

    def new(self, shape: Shape, order: Order, dtype: str) -> Value:
        """Return a new value of the program for an intermediate result, for which the Keras graph has no tensor.

        Args:
            shape: The shape in the axis order of Keras.
            order: The axis order in torch.
            dtype: The name of the dtype.
        """

    def module(self, kind: str, config: Mapping[str, Any], path: str) -> Submodule:
        """Add a submodule that has no weights from Keras, and return it.

        Args:
            kind: The class, such as "torch.nn.Softmax".
            config: The constructor arguments.
            path: The path of the Keras layer or operation for which it is added; the attribute name is made from it.
        """

    def variable(self, path: str) -> Value:
        """Add the Keras variable with a path ("dense/kernel") as a parameter or buffer, and return its value."""

    def constant(self, array: Array, path: str) -> Value:
        """Add an array as a buffer of the generated module, and return its value; `path` gives the buffer its name."""

    def by_rule(self, call: "Call") -> None:
        """Convert the layer of a call with the rule for the class of the layer (see `keras3conv.rules`)."""

    def rule_module(self, call: "Call", only: str, **config: Any) -> Submodule:
        """Return the submodule to which a rule converts the layer of a call, without a statement that calls it.

        Args:
            call: The call.
            only: The required prefix of the torch class name, such as "torch.nn.".
            config: Arguments that replace those in the layer's configuration: the handler converts these itself.

        Raises:
            RuleError: No rule converts the layer to exactly one submodule of such a class.
        """

    def only_dense_uses(self, name: str) -> bool:
        """Return True if the tensor `name` is used only by Dense layers, directly or through pointwise operations."""


class Call:
    """One call of a Keras layer or operation, with methods that add its torch statements to the program.

    Attributes:
        node: The node of the call in the graph.
        arguments: The arguments by parameter name; tensors are `Value`s.
        builder: The program to which the statements are added.
        returned: The values that the call returns, by the names of the tensors in the graph.
    """

    def __init__(self, node: Node, arguments: Mapping[str, Any], builder: ProgramBuilder) -> None:
        self.node, self.arguments, self.builder = node, arguments, builder
        self.returned: dict[str, Value] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self.arguments:
            raise self.refuse(f"the call has no argument {name}, which the conversion to torch needs")
        return self.arguments[name]

    def get(self, name: str, default: Any = None) -> Any:
        """Return the argument `name` of the call, else that of the layer's constructor, else `default`."""
        return self.arguments.get(name, self.node.config.get(name, default))

    @property
    def tensor(self) -> Value:
        """The first tensor among the arguments of the call."""
        return self.tensors[0]

    @property
    def tensors(self) -> list[Value]:
        """Every tensor among the arguments of the call, in order."""
        return [leaf for leaf in walk(self.arguments) if isinstance(leaf, Value)]

    @property
    def dtype(self) -> str:
        """The dtype of the first output of the call."""
        return self.node.outputs[0].dtype

    @property
    def shape(self) -> Shape:
        """The shape of the first output of the call."""
        return self.node.outputs[0].shape

    def order(self, value: Value, order: Order) -> Value:
        """Return a value in the given axis order; add a permutation if the value has another order."""
        return value if value.order == order else self.builder.permuted(value, order)

    def keras_order(self, value: Value) -> Value:
        """Return a value in the axis order of Keras; add a permutation if the value has another order."""
        return self.order(value, identity(value.rank))

    def aligned(self, values: Sequence[Any]) -> tuple[list[Any], Order]:
        """Return values in one common axis order, and this order, so that torch broadcasts them as Keras does.

        Numbers are returned unchanged. A value with fewer axes gets axes of size 1 instead of the leading axes that
        Keras would add in broadcasting.
        """
        tensors = [value for value in values if isinstance(value, Value)]
        rank = max(value.rank for value in tensors)
        full = [value for value in tensors if value.rank == rank]
        target = next((value.order for value in full if value.order != identity(rank)), identity(rank))
        return [self._aligned(value, target) if isinstance(value, Value) else value for value in values], target

    def _aligned(self, value: Value, target: Order) -> Value:
        missing = len(target) - value.rank
        value = self.order(value, tuple(axis - missing for axis in target if axis >= missing))
        index = [None if axis < missing else slice(None) for axis in target]
        while index and index[0] is None:  # torch adds leading axes itself
            index.pop(0)
        if None not in index:
            return value
        kept = target[len(target) - len(index) :]
        shape = tuple(1 if axis < missing else value.shape[axis - missing] for axis in sorted(kept))
        order = tuple(sorted(kept).index(axis) for axis in kept)
        return self.step(value[tuple(index)], shape=shape, order=order)

    def step(
        self,
        expression: Any,
        *,
        like: Value | None = None,
        shape: Shape | None = None,
        order: Order | None = None,
        dtype: str | None = None,
    ) -> Value:
        """Add a statement that computes an intermediate result of the call, and return the result.

        Args:
            expression: The torch expression that computes the result.
            like: The value whose shape, order and dtype are the defaults; if None, the first value in the expression.
            shape: The shape of the result in the axis order of Keras.
            order: The axis order of the result.
            dtype: The dtype of the result.
        """
        like = like or next(leaf for leaf in walk(expression) if isinstance(leaf, Value))
        shape, order = like.shape if shape is None else shape, like.order if order is None else order
        return self.steps(expression, [(shape, order, dtype or like.dtype)])[0]

    def steps(self, expression: Any, results: Sequence[tuple[Shape, Order, str]]) -> list[Value]:
        """Add one statement that computes several intermediate results of the call, and return the results.

        Args:
            expression: The torch expression that computes the results, a tuple.
            results: The shape, the axis order and the dtype of each result.
        """
        values = [self.builder.new(shape, order, dtype) for shape, order, dtype in results]
        self.builder.write(expression, values, path=self.node.path, comment="")
        return values

    def flat(self, value: Value, shape: Shape = (0,)) -> Value:
        """Add a statement that flattens a value to one axis, in the element order of Keras, and return the result.

        Args:
            value: The value.
            shape: The shape of the result; (0,) if it does not matter, because the result is reduced.
        """
        return self.step(self.keras_order(value).method("flatten"), shape=shape, order=(0,))

    def returns(
        self,
        expression: Any,
        order: Order | Sequence[Order] | None = None,
        *,
        comment: str = "",
        flattened: tuple[int, ...] = (),
    ) -> None:
        """Add the statement that computes the outputs of the call.

        Args:
            expression: The torch expression of the output; for several outputs, one that returns a tuple.
            order: The axis order of the output, by default the order of Keras; for several outputs, an order for each.
            comment: A comment for the reader of the source code.
            flattened: The torch shape before a flatten whose elements torch orders differently than Keras; see
                `Value.flattened`.
        """
        outputs = self.node.outputs
        orders = [order] * len(outputs) if order is None or isinstance(order[0] if order else 0, int) else list(order)
        made = [
            Value(
                name=tensor.name,
                shape=tensor.shape,
                order=identity(len(tensor.shape)) if one is None else tuple(one),  # type: ignore[arg-type]
                dtype=tensor.dtype,
                flattened=flattened,
            )
            for tensor, one in zip(outputs, orders, strict=True)
        ]
        self.builder.write(expression, made, path=self.node.path, comment=comment)
        self.returned = {value.name: value for value in made}

    def passes(self, value: Value, order: Order | None = None) -> None:
        """Let the call return an existing value, so that no statement is added (for a call that computes nothing).

        Args:
            value: The value.
            order: The axis order of the output, if it differs from that of the value: a transpose only changes the
                order.
        """
        tensor = self.node.outputs[0]
        same = replace(value, shape=tensor.shape, order=value.order if order is None else order)
        self.returned = {tensor.name: same}

    def passes_all(self, values: Sequence[Value]) -> None:
        """Let the call return existing values, one for each output, so that no statement is added."""
        pairs = zip(self.node.outputs, values, strict=True)
        self.returned = {tensor.name: replace(value, shape=tensor.shape) for tensor, value in pairs}

    def size(self, value: int | Size) -> int | Size:
        """Return a size unchanged, after a check that the generated code can compute it from the sizes of the inputs.

        Raises:
            RuleError: The size cannot be computed from the sizes of the inputs.
        """
        if isinstance(value, Size) and "unknown" in value.symbols:
            raise RuleError(
                f"{self.node.kind} needs a size that cannot be computed from the sizes of the inputs; give "
                "inputs=..., which fix all sizes"
            )
        return value

    def sizes(self, values: Sequence[int | Size]) -> tuple[int | Size, ...]:
        """Return several sizes unchanged, after the check of `Call.size`, which raises `RuleError`."""
        return tuple(map(self.size, values))

    def refuse(self, reason: str) -> RuleError:
        """Return a `RuleError` with the reason why this call cannot be converted; the handler raises it."""
        return RuleError(f"{self.node.kind}: {reason}")


def handles(*kinds: str) -> Callable[[Handler], Handler]:
    """Return a decorator that registers a function as the handler of Keras operations or layers.

    Args:
        kinds: Their names, such as "keras.ops.concatenate".
    """

    def add(handler: Handler) -> Handler:
        for kind in kinds:
            if kind in HANDLERS:
                raise RuleError(
                    f"two handlers are registered for {kind}, but each operation or layer can have only one"
                )
            HANDLERS[kind] = handler
        return handler

    return add
