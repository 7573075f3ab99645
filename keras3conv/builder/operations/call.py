"""The interface of handlers: a handler gets a `Call` of a Keras layer or operation and writes it in torch.

A handler says which expression computes the result of the call, and in which order its axes are:

    @handles("keras.ops.concatenate")
    def _concatenate(call: Call) -> None:
        tensors, order = call.aligned(call["xs"])
        call.returns(torch.cat(tensors, dim=tensors[0].position(call["axis"])), order)

Tensors keep their axis order as long as possible: the arguments are translated (`Value.position`), and the data is not
moved. Where an operation needs the axis order of Keras, `call.keras_order` adds a permutation, once for each value.
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
"""The handlers by the kind of the call: "keras.ops.add", "keras.layers.Concatenate"."""


class ProgramBuilder(Protocol):
    """The program under construction, as a call sees it."""

    @property
    def anchor(self) -> Value:
        """The first input of the model."""

    def permuted(self, value: Value, order: Order) -> Value:
        """Return the value in another axis order."""

    def write(self, expression: Any, made: Sequence[Value], *, path: str, comment: str) -> None:
        """Add a statement."""

    def new(self, shape: Shape, order: Order, dtype: str) -> Value:
        """Return a new value that no node of the graph returns: an intermediate result."""

    def module(self, kind: str, config: Mapping[str, Any], path: str) -> Submodule:
        """Add a submodule without Keras tensors."""

    def variable(self, path: str) -> Value:
        """Return a Keras variable as a parameter or a buffer of the module itself."""

    def constant(self, array: Array, path: str) -> Value:
        """Return an array as a buffer of the module."""

    def by_rule(self, call: "Call") -> None:
        """Write a layer with the rule library."""

    def rule_module(self, call: "Call", config: Mapping[str, Any], only: str) -> Submodule:
        """Return the submodule that the rule library makes of a layer with a changed configuration."""

    def only_dense_uses(self, name: str) -> bool:
        """Return whether a tensor of the graph goes into Dense layers only, perhaps through pointwise operations."""


class Call:
    """One call of a layer or an operation, and the ways to write it.

    Attributes:
        node: The call in the graph.
        arguments: Its arguments by the names of the parameters; tensors are `Value`s.
        returned: The values that it returns, by the names of the tensors of the graph.
    """

    def __init__(self, node: Node, arguments: Mapping[str, Any], builder: ProgramBuilder) -> None:
        self.node, self.arguments, self._builder = node, arguments, builder
        self.returned: dict[str, Value] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self.arguments:
            raise self.refuse(f"the argument {name} is missing")
        return self.arguments[name]

    def get(self, name: str, default: Any = None) -> Any:
        """Return an argument of the call, or else of the layer's constructor."""
        return self.arguments.get(name, self.node.config.get(name, default))

    @property
    def tensor(self) -> Value:
        """The first tensor among the arguments."""
        return self.tensors[0]

    @property
    def tensors(self) -> list[Value]:
        """Every tensor among the arguments, in order."""
        return [leaf for leaf in walk(self.arguments) if isinstance(leaf, Value)]

    @property
    def anchor(self) -> Value:
        """The first input of the model: it has the device for tensors that are made from sizes alone."""
        return self._builder.anchor

    @property
    def dtype(self) -> str:
        """The dtype of what the call returns first."""
        return self.node.outputs[0].dtype

    @property
    def shape(self) -> Shape:
        """The shape of what the call returns first."""
        return self.node.outputs[0].shape

    @property
    def only_dense_uses_it(self) -> bool:
        """Whether the result goes into Dense layers only, perhaps through pointwise operations."""
        return self._builder.only_dense_uses(self.node.outputs[0].name)

    def order(self, value: Value, order: Order) -> Value:
        """Return the value in this axis order, with a permutation if it needs one."""
        return value if value.order == order else self._builder.permuted(value, order)

    def keras_order(self, value: Value) -> Value:
        """Return the value in the axis order of Keras."""
        return self.order(value, identity(value.rank))

    def aligned(self, values: Sequence[Any]) -> tuple[list[Any], Order]:
        """Return the values in one axis order, so that torch broadcasts them as Keras does, and that order.

        Numbers stay as they are. Values with fewer axes get axes of size one for the leading axes that Keras would add.
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
        """Add a statement for an intermediate result.

        Args:
            expression: The operation.
            like: The value whose shape, order and dtype the result has, unless they are given; the first in the
                expression by default.
            shape: The shape of the result in the axes of Keras.
            order: Its axis order.
            dtype: Its dtype.
        """
        like = like or next(leaf for leaf in walk(expression) if isinstance(leaf, Value))
        made = self._builder.new(
            like.shape if shape is None else shape, like.order if order is None else order, dtype or like.dtype
        )
        self._builder.write(expression, [made], path=self.node.path, comment="")
        return made

    def steps(self, expression: Any, made: Sequence[tuple[Shape, Order, str]]) -> list[Value]:
        """Add a statement for several intermediate results, each with its shape, axis order and dtype."""
        values = [self._builder.new(shape, order, dtype) for shape, order, dtype in made]
        self._builder.write(expression, values, path=self.node.path, comment="")
        return values

    def flat(self, value: Value, shape: Shape = (0,)) -> Value:
        """Add a statement that flattens a value, in the order of Keras, to one axis."""
        return self.step(self.keras_order(value).method("flatten"), shape=shape, order=(0,))

    def returns(
        self,
        expression: Any,
        order: Order | Sequence[Order] | None = None,
        *,
        comment: str = "",
        flattened: tuple[int, ...] = (),
    ) -> None:
        """Add the statement that computes what the call returns.

        Args:
            expression: The operation, or a tuple of them for several results.
            order: The axis order of the result, by default that of Keras; for several results, one for each.
            comment: A comment for the reader of the source code.
            flattened: See `Value.flattened`.
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
        self._builder.write(expression, made, path=self.node.path, comment=comment)
        self.returned = {value.name: value for value in made}

    def passes(self, value: Value, order: Order | None = None) -> None:
        """Return a value as it is; only its axes may have other names.

        Args:
            value: The value.
            order: The axis order of the result, if it is not that of the value.
        """
        tensor = self.node.outputs[0]
        same = replace(value, shape=tensor.shape, order=value.order if order is None else order)
        self.returned = {tensor.name: same}

    def passes_all(self, values: Sequence[Value]) -> None:
        """Return several values as they are, one for each result."""
        pairs = zip(self.node.outputs, values, strict=True)
        self.returned = {tensor.name: replace(value, shape=tensor.shape) for tensor, value in pairs}

    def module(self, kind: str, **config: Any) -> Submodule:
        """Add a submodule without Keras tensors, such as "torch.nn.Softmax"."""
        return self._builder.module(kind, config, self.node.path)

    def variable(self, role: str) -> Value:
        """Return a variable of the layer, by its role, as a parameter or a buffer of the module itself."""
        return self._builder.variable(f"{self.node.path}/{role}")

    def constant(self, array: Array, name: str) -> Value:
        """Return an array as a buffer of the module."""
        return self._builder.constant(array, f"{self.node.path}/{name}")

    def by_rule(self) -> None:
        """Write the layer with the rule library, for the cases that a handler does not treat itself."""
        self._builder.by_rule(self)

    def rule_module(self, only: str, **config: Any) -> Submodule:
        """Return the one submodule that the rule library makes of the layer, for a handler that calls it itself.

        Args:
            only: The prefix of the torch classes that the handler can call: "torch.nn.".
            config: Changes to the layer's configuration, for settings that the handler treats itself.

        Raises:
            RuleError: No such class computes what the layer does.
        """
        return self._builder.rule_module(self, config, only)

    def size(self, value: int | Size) -> int | Size:
        """Return a size as an argument.

        Raises:
            RuleError: It depends on the inputs in a way that was not traced.
        """
        if isinstance(value, Size) and "unknown" in value.symbols:
            raise RuleError(f"{self.node.kind} needs a size that depends on the inputs in a way that cannot be traced")
        return value

    def sizes(self, values: Sequence[int | Size]) -> tuple[int | Size, ...]:
        """Return several sizes as arguments."""
        return tuple(map(self.size, values))

    def refuse(self, reason: str) -> RuleError:
        """Return the exception that says why this call cannot be written; the handler raises it."""
        return RuleError(f"{self.node.kind}: {reason}")


def handles(*kinds: str) -> Callable[[Handler], Handler]:
    """Register a handler for calls of these kinds."""

    def add(handler: Handler) -> Handler:
        for kind in kinds:
            if kind in HANDLERS:
                raise RuleError(f"{kind} has two handlers")
            HANDLERS[kind] = handler
        return handler

    return add


__all__ = ["HANDLERS", "Call", "Handler", "ProgramBuilder", "handles"]
