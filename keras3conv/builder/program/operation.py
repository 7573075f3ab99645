"""Define expressions, the syntax trees of the statements of a generated module.

The expression `F.relu6(x + 3) / 6` is a tree of `Operation`s. Its leaves are references to values, dynamic sizes,
dtypes and plain Python literals. Handlers build such trees with Python's operators and with `Function`s:

    F = Function("torch.nn.functional") call.returns(F.relu6(x + 3) / 6, x.order)

Expressions are independent of the framework: another target framework needs only other function names and another
source writer.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from keras3conv.model.graph import Ref, leaves, mapped

Kind = Literal["function", "method", "attribute", "module", "operator"]

INDEX = "[]"
"""The operator of an index expression `x[key]`; its arguments are `x` and `key`."""


class Expression:
    """The base class of values and operations: Python's operators applied to an expression create an `Operation`."""

    __iter__ = None  # indexing never raises IndexError, so Python would iterate over an expression forever

    def method(self, name: str, *args: Any, **kwargs: Any) -> "Operation":
        """Return the expression that calls a method: `x.method("sum", dim=1)` is `x.sum(dim=1)`."""
        return Operation("method", name, (self, *args), kwargs)

    def attribute(self, name: str) -> "Operation":
        """Return the expression for an attribute: `x.attribute("dtype")` is `x.dtype`."""
        return Operation("attribute", name, (self,))

    def __getitem__(self, key: Any) -> "Operation":
        return operator(INDEX, self, key)

    def __neg__(self) -> "Operation":
        return operator("-", self)

    def __invert__(self) -> "Operation":
        return operator("~", self)

    def __add__(self, other: Any) -> "Operation":
        return operator("+", self, other)

    def __sub__(self, other: Any) -> "Operation":
        return operator("-", self, other)

    def __mul__(self, other: Any) -> "Operation":
        return operator("*", self, other)

    def __rmul__(self, other: Any) -> "Operation":
        return operator("*", other, self)

    def __truediv__(self, other: Any) -> "Operation":
        return operator("/", self, other)

    def __rtruediv__(self, other: Any) -> "Operation":
        return operator("/", other, self)

    def __mod__(self, other: Any) -> "Operation":
        return operator("%", self, other)

    def __matmul__(self, other: Any) -> "Operation":
        return operator("@", self, other)

    def __pow__(self, other: Any) -> "Operation":
        return operator("**", self, other)

    def __rpow__(self, other: Any) -> "Operation":
        return operator("**", other, self)

    def __lt__(self, other: Any) -> "Operation":
        return operator("<", self, other)

    def __gt__(self, other: Any) -> "Operation":
        return operator(">", self, other)


@dataclass(frozen=True)
class Operation(Expression):
    """An operation and its arguments.

    Attributes:
        kind: "function" for a library function, "method" or "attribute" for one of the first argument, "module" for the
            call of a submodule, "operator" for a Python operator.
        name: The qualified name of the function ("torch.nn.functional.relu"), the name of the method, attribute or
            submodule, or the operator ("+", or `INDEX`).
        args: The positional arguments: operations, `Ref`s, `Size`s, `Dtype`s and literals, nested in tuples, lists,
            dicts and slices.
        kwargs: The keyword arguments.
    """

    kind: Kind
    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Dtype:
    """A dtype as an argument: `Dtype("float32")` is `torch.float32` in PyTorch and "float32" in Keras."""

    name: str


@dataclass(frozen=True)
class Function:
    """The qualified name of a function or a namespace. Calling it creates an `Operation`.

    `Function("torch").linalg.cross(x, y, dim=1)` is `torch.linalg.cross(x, y, dim=1)`.
    """

    name: str

    def __getattr__(self, name: str) -> "Function":
        if name.startswith("__"):
            raise AttributeError(name)
        return self.named(name)

    def named(self, name: str) -> "Function":
        """Return the function `name` of the namespace; `F.named("relu")` is `F.relu`."""
        return Function(f"{self.name}.{name}")

    def __call__(self, *args: Any, **kwargs: Any) -> Operation:  # noqa: D102
        return Operation("function", self.name, args, kwargs)


@dataclass(frozen=True)
class Submodule:
    """A submodule of the generated module; calling this object creates the operation that calls the submodule."""

    name: str

    def __call__(self, *args: Any, **kwargs: Any) -> Operation:  # noqa: D102
        return Operation("module", self.name, args, kwargs)


def operator(sign: str, *operands: Any) -> Operation:
    """Return the operation that applies a Python operator to one or two operands: `operator("+", x, 1)` is `x + 1`."""
    return Operation("operator", sign, operands)


def chained(sign: str, operands: Any) -> Any:
    """Return the expression that joins the operands by one operator, from left to right: `a + b + c`."""
    first, *rest = operands
    for other in rest:
        first = operator(sign, first, other)
    return first


def transformed(expression: Any, function: Callable[[Any], Any]) -> Any:
    """Return the expression with a function applied to every leaf and operation, innermost ones first.

    The result of the function replaces the leaf or operation.
    """

    def node(leaf: Any) -> Any:
        if not isinstance(leaf, Operation):
            return function(leaf)
        return function(replace(leaf, args=mapped(leaf.args, node), kwargs=mapped(leaf.kwargs, node)))

    return mapped(expression, node)


def walk(expression: Any) -> Iterator[Any]:
    """Yield every operation and leaf of an expression, in the order of the source text.

    An operation comes before its arguments.
    """
    for leaf in leaves(expression):
        yield leaf
        if isinstance(leaf, Operation):
            yield from walk(leaf.args)
            yield from walk(leaf.kwargs)


def references(expression: Any) -> tuple[str, ...]:
    """Return the names of the values that an expression uses, one entry per use, in the order of the source text."""
    return tuple(leaf.name for leaf in walk(expression) if isinstance(leaf, Ref))


def signature(expression: Any) -> object:
    """Return a hashable value that is equal for expressions that differ only in the names of the values they use.

    The type of each literal is part of it: 3 and 3.0 are equal in Python, but differ in the source text.
    """
    if isinstance(expression, Operation):
        kwargs = tuple((name, signature(value)) for name, value in expression.kwargs.items())
        return expression.kind, expression.name, signature(expression.args), kwargs
    if isinstance(expression, Mapping):
        return dict, tuple((name, signature(value)) for name, value in expression.items())
    if isinstance(expression, tuple | list):
        return type(expression), tuple(map(signature, expression))
    if isinstance(expression, slice):
        return slice, tuple(map(signature, (expression.start, expression.stop, expression.step)))
    return Ref if isinstance(expression, Ref) else (type(expression), expression)
