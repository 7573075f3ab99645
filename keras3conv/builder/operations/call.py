"""What writes one call of Keras in torch: a handler, given a `Call`.

A handler says which torch expression computes what the call returns, and in which order its axes stand:

    @handles("keras.ops.concatenate")
    def _concatenate(call: Call) -> None:
        tensors, order = call.aligned(call["xs"])
        call.returns(f"torch.cat([{places(tensors)}], dim={tensors[0].place(call['axis'])})", tensors, order)

Tensors keep the order of axes that they have as long as the mathematics lets them: an axis is moved in the arguments
(`Value.place`), not in the data. Where an operation needs the axes as Keras has them, `call.keras_order` writes the
permutation, once for each value.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from keras3conv.builder.program.program import Order, Value, identity
from keras3conv.errors import RuleError
from keras3conv.model.graph import Node, Shape, Size
from keras3conv.transforms import Array

Handler = Callable[["Call"], None]


HANDLERS: dict[str, Handler] = {}
"""The handlers by the kind of the call: "keras.ops.add", "keras.layers.Concatenate"."""


class Desk(Protocol):
    """Where a call is written to."""

    @property
    def anchor(self) -> Value:
        """The model's first input."""

    def permuted(self, value: Value, order: Order) -> Value:
        """The value with its axes in this order."""

    def write(
        self, template: str, inputs: Sequence[Value], made: Sequence[Value], *, module: str, path: str, comment: str
    ) -> None:
        """Adds a statement."""

    def new(self, shape: Shape, order: Order, dtype: str) -> Value:
        """A value that no node of the graph returns: a step on the way."""

    def module(self, kind: str, config: Mapping[str, Any], path: str) -> str:
        """A submodule without tensors of Keras; the name that it got."""

    def variable(self, path: str) -> Value:
        """A variable of Keras as a parameter or a buffer of the module's own."""

    def constant(self, array: Array, path: str) -> Value:
        """An array as a buffer of the module."""

    def by_rule(self, call: "Call") -> None:
        """Writes a layer as the rule library says."""

    def rule_module(self, call: "Call", config: Mapping[str, Any], only: str) -> str:
        """The submodule that the rule library makes of a layer, with other settings in its configuration."""

    def only_a_kernel_sees(self, name: str) -> bool:
        """Whether a tensor of the graph goes into Dense layers only, over what treats every value alike."""


class Call:
    """One call of a layer or an operation, and the ways to write it.

    Attributes:
        node: The call in the graph.
        arguments: What it is given, by the names of the parameters; tensors are `Value`s.
    """

    def __init__(self, node: Node, arguments: Mapping[str, Any], desk: Desk) -> None:
        self.node, self.arguments, self._desk = node, arguments, desk
        self.returned: dict[str, Value] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self.arguments:
            raise self.refuse(f"it is not given {name}")
        return self.arguments[name]

    def get(self, name: str, default: Any = None) -> Any:
        """An argument of the call, or else of the layer's constructor."""
        return self.arguments.get(name, self.node.config.get(name, default))

    @property
    def tensor(self) -> Value:
        """The first tensor among the arguments."""
        return self.tensors[0]

    @property
    def tensors(self) -> list[Value]:
        """Every tensor among the arguments, in order."""
        found: list[Value] = []

        def walk(value: Any) -> None:
            if isinstance(value, Value):
                found.append(value)
            elif isinstance(value, Mapping):
                for item in value.values():
                    walk(item)
            elif isinstance(value, tuple | list):
                for item in value:
                    walk(item)

        walk(self.arguments)
        return found

    @property
    def anchor(self) -> Value:
        """The model's first input, which tells the device to what is made of sizes alone."""
        return self._desk.anchor

    @property
    def only_a_kernel_sees_it(self) -> bool:
        """Whether what the call returns goes into Dense layers only, over what treats every value alike."""
        return self._desk.only_a_kernel_sees(self.node.outputs[0].name)

    def order(self, value: Value, order: Order) -> Value:
        """The value with its axes in this order; the permutation is written where it is needed."""
        return value if value.order == order else self._desk.permuted(value, order)

    def keras_order(self, value: Value) -> Value:
        """The value with its axes as Keras has them."""
        return self.order(value, identity(value.rank))

    def aligned(self, values: Sequence[Any]) -> tuple[list[Any], Order]:
        """The values in one order of axes, so that torch broadcasts them as Keras does, and the order of the result.

        Numbers stay as they are. Values of fewer axes get axes of size one where Keras has axes in front of theirs.
        """
        tensors = [value for value in values if isinstance(value, Value)]
        rank = max(value.rank for value in tensors)
        full = [value for value in tensors if value.rank == rank]
        target = next((value.order for value in full if value.order != identity(rank)), identity(rank))
        return [self._aligned(value, target) if isinstance(value, Value) else value for value in values], target

    def _aligned(self, value: Value, target: Order) -> Value:
        missing = len(target) - value.rank
        value = self.order(value, tuple(axis - missing for axis in target if axis >= missing))
        marks = ["None" if axis < missing else ":" for axis in target]
        first = marks.index(":") if ":" in marks else len(marks)  # torch adds axes in front by itself
        if "None" not in marks[first:]:
            return value
        kept = target[first:]
        shape = tuple(1 if axis < missing else value.shape[axis - missing] for axis in sorted(kept))
        order = tuple(sorted(kept).index(axis) for axis in kept)
        return self.step(f"{{0}}[{', '.join(marks[first:])}]", [value], shape=shape, order=order)

    def step(
        self,
        template: str,
        inputs: Sequence[Value],
        *,
        shape: Shape | None = None,
        order: Order | None = None,
        dtype: str | None = None,
        module: str = "",
        comment: str = "",
    ) -> Value:
        """Writes a statement on the way; what it makes is like the first input where nothing else is said."""
        like = inputs[0]
        made = self._desk.new(
            like.shape if shape is None else shape, like.order if order is None else order, dtype or like.dtype
        )
        self._desk.write(template, inputs, [made], module=module, path=self.node.path, comment=comment)
        return made

    def steps(
        self, template: str, inputs: Sequence[Value], made: Sequence[tuple[Shape, Order, str]], *, module: str = ""
    ) -> list[Value]:
        """Writes a statement on the way that makes several values.

        Args:
            template: The expression, of a tuple.
            inputs: The values that it uses.
            made: The shape, the order and the dtype of each.
            module: The submodule that stands for "{module}".
        """
        values = [self._desk.new(shape, order, dtype) for shape, order, dtype in made]
        self._desk.write(template, inputs, values, module=module, path=self.node.path, comment="")
        return values

    def returns(
        self,
        template: str,
        inputs: Sequence[Value],
        order: Order | Sequence[Order] | None = None,
        *,
        module: str = "",
        comment: str = "",
        flattened: tuple[int, ...] = (),
    ) -> None:
        """Writes the statement that makes what the call returns.

        Args:
            template: The expression; "{0}" is the first of the inputs.
            inputs: The values that it uses.
            order: In which order the axes of what it makes stand: as in Keras, if nothing is said. For several results
                one for each.
            module: The submodule that stands for "{module}" in the template.
            comment: Why the statement is what it is, where that is not plain.
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
        self._desk.write(template, inputs, made, module=module, path=self.node.path, comment=comment)
        self.returned = {value.name: value for value in made}

    def passes(self, value: Value, order: Order | None = None) -> None:
        """Says that the call returns what it is given; only that the axes may have other names.

        Args:
            value: What it is given.
            order: The order of the axes of what it returns, where these are not those of what it is given.
        """
        tensor = self.node.outputs[0]
        same = replace(value, shape=tensor.shape, order=value.order if order is None else order)
        self.returned = {tensor.name: same}

    def passes_all(self, values: Sequence[Value]) -> None:
        """Says that the call returns these values, which steps on the way made or which it was given."""
        pairs = zip(self.node.outputs, values, strict=True)
        self.returned = {tensor.name: replace(value, shape=tensor.shape) for tensor, value in pairs}

    def module(self, kind: str, **config: Any) -> str:
        """Makes a submodule without weights, "torch.nn.Softmax"; its name, for `returns(..., module=name)`."""
        return self._desk.module(kind, config, self.node.path)

    def variable(self, role: str) -> Value:
        """A variable of the layer, by its role, as a parameter or a buffer of the module's own."""
        return self._desk.variable(f"{self.node.path}/{role}")

    def constant(self, array: Array, name: str) -> Value:
        """An array as a buffer of the module."""
        return self._desk.constant(array, f"{self.node.path}/{name}")

    def by_rule(self) -> None:
        """Writes the layer as the rule library says: for what a handler leaves to it."""
        self._desk.by_rule(self)

    def rule_module(self, only: str, **config: Any) -> str:
        """The one submodule that the rule library makes of the layer, for a handler that writes how it is called.

        Args:
            only: How the torch classes begin that the handler knows to call: "torch.nn.".
            config: Settings that the handler takes care of, as the rule is to see them.

        Raises:
            RuleError: No such class can say it.
        """
        return self._desk.rule_module(self, config, only)

    def size(self, value: int | Size) -> str:
        """A size as it stands in an expression: a number, or what is made of a free size."""
        if isinstance(value, int):
            return str(value)
        if "unknown" in value.symbols:
            raise RuleError(f"{self.node.kind} needs a size that depends on the inputs in a way that cannot be told")
        product = " * ".join(
            (*((str(value.factor),) if value.factor != 1 else ()), *(f"{{{s}}}" for s in value.symbols))
        )
        return f"{product} {'+' if value.offset > 0 else '-'} {abs(value.offset)}" if value.offset else product

    def sizes(self, values: Sequence[int | Size]) -> str:
        """Several sizes, as they stand in an expression: "{batch}, 16, 8"."""
        return ", ".join(map(self.size, values))

    def refuse(self, reason: str) -> RuleError:
        """The exception that says why this call cannot be written; raise it."""
        return RuleError(f"{self.node.kind}: {reason}")


def handles(*kinds: str) -> Callable[[Handler], Handler]:
    """Registers a handler for calls of these kinds."""

    def add(handler: Handler) -> Handler:
        for kind in kinds:
            if kind in HANDLERS:
                raise RuleError(f"{kind} has two handlers")
            HANDLERS[kind] = handler
        return handler

    return add
