"""Convert expressions to source code.

A `Spelling` provides the source code of the leaves of an expression in one framework. Operators, calls, indices and
parentheses are the same in every framework.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from keras3conv.builder.program.operation import INDEX, Dtype, Operation
from keras3conv.builder.program.structure import Argument
from keras3conv.builder.source.formatting import bracketed, literal, quoted
from keras3conv.model.graph import Ref, Size

_ATOM, _POSTFIX, _UNARY = 12, 11, 9

_PRECEDENCE = {
    **dict.fromkeys(("<", ">", "<=", ">=", "==", "!="), 1),
    "|": 2,
    "^": 3,
    "&": 4,
    **dict.fromkeys(("<<", ">>"), 5),
    **dict.fromkeys(("+", "-"), 6),
    **dict.fromkeys(("*", "/", "//", "%", "@"), 7),
    "**": 10,
}
"""The precedence of each binary Python operator; a higher number binds more tightly."""

_NEGATIVE = 0
"""The precedence of a negative number, which gets parentheses as any operand, because `-2 ** x` is `-(2 ** x)`."""


class Spelling(Protocol):
    """The interface for the source code of what an expression is made of (values, modules, dtypes) in one framework."""

    def value(self, name: str) -> str:
        """Return the name of the Python variable that holds a value."""

    def symbol(self, name: str) -> str:
        """Return the name of the Python variable that holds a dynamic size."""

    def module(self, name: str) -> str:
        """Return the source code that names a submodule, such as "self.conv1"."""

    def function(self, name: str) -> str:
        """Return the name by which the source code calls a function, given the imports of the file: "F.relu"."""

    def dtype(self, name: str) -> str:
        """Return the source code of a dtype, such as "torch.float32"."""


def rendered(expression: Any, spelling: Spelling) -> str:
    """Return the source code of an expression; for several outputs, a tuple without parentheses."""
    if isinstance(expression, tuple):
        return ", ".join(rendered(item, spelling) for item in expression)
    return _node(expression, spelling)[0]


def _node(node: Any, spelling: Spelling) -> tuple[str, int]:
    """Return the source code of a node of an expression, and the precedence of its outermost operator."""
    if isinstance(node, Operation):
        return _operation(node, spelling)
    if isinstance(node, Ref):
        return spelling.value(node.name), _ATOM
    if isinstance(node, Dtype):
        return spelling.dtype(node.name), _ATOM
    if isinstance(node, Size):
        return _size(node, spelling)
    if isinstance(node, tuple | list):
        return bracketed(node, [_node(item, spelling)[0] for item in node]), _ATOM
    if isinstance(node, Mapping):
        items = (f"{quoted(str(name))}: {_node(item, spelling)[0]}" for name, item in node.items())
        return f"{{{', '.join(items)}}}", _ATOM
    return literal(node), _precedence(node)


def _precedence(leaf: Any) -> int:
    """Return the precedence of the source code of a plain value: that of "*" for an argument such as `2 * units`."""
    if isinstance(leaf, Argument) and " " in leaf.name:
        return _PRECEDENCE["**" if "**" in leaf.name else "*"]
    return _NEGATIVE if isinstance(leaf, int | float) and leaf < 0 else _ATOM


def _operation(node: Operation, spelling: Spelling) -> tuple[str, int]:
    if node.kind == "operator":
        return _operator(node, spelling)
    if node.kind == "attribute":
        return f"{_operand(node.args[0], _POSTFIX, spelling)}.{node.name}", _POSTFIX
    if node.kind == "method":
        called, args = f"{_operand(node.args[0], _POSTFIX, spelling)}.{node.name}", node.args[1:]
    else:
        called = spelling.module(node.name) if node.kind == "module" else spelling.function(node.name)
        args = node.args
    given = [_node(item, spelling)[0] for item in args]
    given += [f"{name}={_node(item, spelling)[0]}" for name, item in node.kwargs.items()]
    return f"{called}({', '.join(given)})", _POSTFIX


def _operator(node: Operation, spelling: Spelling) -> tuple[str, int]:
    first, *others = node.args
    if node.name == INDEX:
        return f"{_operand(first, _POSTFIX, spelling)}[{_index(others[0], spelling)}]", _POSTFIX
    if not others:
        return f"{node.name}{_operand(first, _UNARY, spelling)}", _UNARY
    binds = _PRECEDENCE[node.name]
    joins_left = node.name != "**" and binds > 1  # a ** b ** c is not (a ** b) ** c, a < b < c is not (a < b) < c
    left = _operand(first, binds if joins_left else binds + 1, spelling)
    return f"{left} {node.name} {_operand(others[0], binds + 1, spelling)}", binds


def _operand(node: Any, least: int, spelling: Spelling) -> str:
    """Return the source code of an operand, in parentheses if its outermost operator binds too weakly.

    Args:
        node: The operand, a node of an expression.
        least: The lowest precedence that needs no parentheses.
        spelling: The source code of the leaves.
    """
    text, binds = _node(node, spelling)
    return text if binds >= least else f"({text})"


def _index(key: Any, spelling: Spelling) -> str:
    if isinstance(key, tuple):
        return ", ".join(_index(item, spelling) for item in key)
    if key is Ellipsis:
        return "..."
    if isinstance(key, slice):
        bounds = ["" if end is None else _node(end, spelling)[0] for end in (key.start, key.stop)]
        step = "" if key.step in (None, 1) else f":{_node(key.step, spelling)[0]}"
        return f"{bounds[0]}:{bounds[1]}{step}"
    return _node(key, spelling)[0]


def _size(size: Size, spelling: Spelling) -> tuple[str, int]:
    factors = [str(size.factor)] if size.factor != 1 else []
    factors += [spelling.symbol(symbol) for symbol in size.symbols]
    product, binds = " * ".join(factors), _ATOM if len(factors) == 1 else _PRECEDENCE["*"]
    if not size.offset:
        return product, binds
    return f"{product} {'+' if size.offset > 0 else '-'} {abs(size.offset)}", _PRECEDENCE["+"]
