"""Turn the values that differ between the repetitions of a block (a repeated part) into its constructor arguments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product
from typing import Any

from keras3conv.builder.program.names import identifier, unique
from keras3conv.builder.program.operation import Operation
from keras3conv.builder.program.structure import Argument

_WORDS = {
    "reshape": "size",
    "tile": "times",
    "roll": "shift",
    "pad": "padding",
    "*": "factor",
    "+": "offset",
    "/": "divisor",
}
"""For each operation, the name of the constructor argument that replaces a number in the operation's arguments."""

_LARGEST_FACTOR, _LARGEST_TERM = 128, 8
"""The largest factor or divisor in `2 * units` and `units // 8`, and the largest number in `3 * units // 2`."""

_NO_SIZES = ("stride", "dilation", "kernel", "pad", "shift", "offset", "stop")
"""Parts of the names of arguments from which no size is computed, even if the size happens to be a multiple."""


@dataclass
class Arguments:
    """The constructor arguments of a block, or the variables of a loop, for the values that differ between repetitions.

    Two values of a block share one argument if they are equal to each other in every repetition.

    Attributes:
        named: For each argument, its value in each repetition: {"units": [64, 128]}.
        taken: Names that no argument may have.
        with_multiples: Whether a number that follows from another argument is written as a formula: `2 * units`.
    """

    named: dict[str, list[Any]] = field(default_factory=dict)
    taken: frozenset[str] = frozenset()
    with_multiples: bool = False

    def of(self, values: list[Any], owner: str, name: str) -> Any:
        """Return the expression for a value that may differ between repetitions: the value, or a constructor argument.

        An existing argument with the same values is used; if there is none, a new one is added.

        Args:
            values: The value in each repetition.
            owner: The name of the layer or value that has this value. If `name` is taken, the new argument is named
                after both, such as "conv1_units".
            name: The name of a new argument, such as "units".
        """
        if all(value == values[0] and type(value) is type(values[0]) for value in values):
            return values[0]
        for known, others in self.named.items():
            if others == values:
                return Argument(known)
        if self.with_multiples and (found := self._multiple(values)):
            return found
        if self.with_multiples and all(isinstance(value, tuple) and len(value) == 1 for value in values):
            return (self.of([value[0] for value in values], owner, name),)
        if all(_are_numbers(value, values[0]) for value in values):
            columns = [[*parts] for parts in zip(*values, strict=True)]
            if any(self._is_known(column) for column in columns):
                return tuple(self.of(column, owner, name) for column in columns)
        wanted = name if name not in self.named else f"{owner}_{name}"
        made = unique(identifier(wanted), {*self.named, *self.taken})
        self.named[made] = values
        return Argument(made)

    def _is_known(self, values: list[Any]) -> bool:
        """Return whether `values`, one per repetition of a block, can be written without a new constructor argument.

        That is possible if all values are equal, or if an existing argument or a multiple of it has these values.
        """
        return len({*values}) == 1 or values in self.named.values() or self._multiple(values) is not None

    def _multiple(self, values: list[Any]) -> Argument | None:
        """Return a formula like `2 * units` that computes the values from an existing argument; None without one."""
        if any(type(value) not in (int, float) or value <= 0 for value in values):
            return None
        for known, others in self.named.items():
            if any(word in known for word in _NO_SIZES) or any(
                type(other) is not int or other <= 0 for other in others
            ):
                continue
            if text := _formula(known, others, values):
                return Argument(text)
        return None

    def lifted(self, nodes: Sequence[Any], owner: str, name: str = "number") -> Any:
        """Merge expressions that differ only in literals into one, with constructor arguments for these literals.

        Args:
            nodes: The expression in each repetition.
            owner: The name of the layer or value that has the expressions. If `name` is taken, a new argument is named
                after both, such as "conv1_units".
            name: The name of a new argument, if the operation or keyword gives none.

        Returns:
            The merged expression. New constructor arguments are added to `self.named`, by name.
        """
        first = nodes[0]
        if isinstance(first, Operation):
            word = _WORDS.get(first.name.rpartition(".")[2], name)
            parts = [self.lifted([node.args[place] for node in nodes], owner, word) for place in range(len(first.args))]
            kwargs = {key: self.lifted([node.kwargs[key] for node in nodes], owner, key) for key in first.kwargs}
            return Operation(first.kind, first.name, tuple(parts), kwargs)
        if isinstance(first, Mapping):
            return {key: self.lifted([node[key] for node in nodes], owner, key) for key in first}
        if isinstance(first, slice):
            ends = ("start", "stop", "step")
            return slice(*(self.lifted([getattr(node, end) for node in nodes], owner, end) for end in ends))
        if isinstance(first, tuple | list):
            return type(first)(self.lifted(parts, owner, name) for parts in zip(*nodes, strict=True))
        if name == "number" and isinstance(first, Argument):
            name = "constant"
        return self.of([*nodes], owner, name) if isinstance(first, int | float | Argument) else first


def _formula(name: str, known: list[int], values: list[Any]) -> str:
    """Return a formula, such as "2 * units", that computes `values` from an argument; empty if there is none.

    The formula is a multiple, a fraction, the square, or for floats the root or the inverse root.

    Args:
        name: The name of the argument, such as "units".
        known: Its value in each repetition.
        values: The value that the formula must give in each repetition.
    """
    if any(type(value) is float for value in values):
        return _root_formula(name, known, values)
    factors = {Fraction(value, other) for value, other in zip(values, known, strict=True)}
    if len(factors) > 1:
        return f"{name} ** 2" if values == [other**2 for other in known] else ""
    times, by = factors.pop().as_integer_ratio()
    if 1 in (times, by) and 1 < max(times, by) <= _LARGEST_FACTOR:
        return f"{times} * {name}" if by == 1 else f"{name} // {by}"
    return f"{times} * {name} // {by}" if 1 < max(times, by) <= _LARGEST_TERM else ""


def _root_formula(name: str, known: list[int], values: list[float]) -> str:
    """Return a formula such as "units ** -0.5" or "(units // 8) ** 0.5", as for the scale of an attention; or "".

    Args:
        name: The name of the argument, such as "units".
        known: Its value in each repetition.
        values: The value that the formula must give in each repetition, exactly.
    """
    for by, power in product(range(1, _LARGEST_TERM + 1), (-0.5, 0.5)):
        roots = [(other // by) ** power if other % by == 0 else None for other in known]
        if roots == values:
            return f"{name} ** {power}" if by == 1 else f"({name} // {by}) ** {power}"
    return ""


def _are_numbers(value: Any, other: Any) -> bool:
    """Return whether two values are both tuples of integers of the same length."""
    if not isinstance(value, tuple) or not isinstance(other, tuple) or len(value) != len(other):
        return False
    return len(value) > 1 and all(type(part) is int for part in value)


def type_of(values: Sequence[Any]) -> str:
    """Return the type annotation, such as "int", of a constructor argument that has these values."""
    return " | ".join(dict.fromkeys(_type_of(value) for value in values))


def _type_of(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, tuple):
        inner = " | ".join(dict.fromkeys(map(_type_of, value)))
        return f"tuple[{inner}, ...]"
    return type(value).__name__
