"""Turn the values that differ between the repetitions of a block (a repeated part) into its constructor arguments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from keras3conv.builder.program.names import identifier, unique
from keras3conv.builder.program.operation import Operation
from keras3conv.builder.program.structure import Argument

_WORDS = {"reshape": "size", "tile": "times", "roll": "shift", "pad": "padding", "*": "factor", "+": "offset"}
"""For each operation, the name of the constructor argument that replaces a number in the operation's arguments."""

_LARGEST_MULTIPLE = 8


@dataclass
class Arguments:
    """The constructor arguments of a block, or the variables of a loop, for the values that differ between repetitions.

    Values that vary in the same way share one argument.

    Attributes:
        named: For each argument, its value in each repetition.
        taken: Names that no argument may have.
        with_multiples: Whether a number that is always a fixed multiple of another argument is written as a product.
    """

    named: dict[str, list[Any]] = field(default_factory=dict)
    taken: frozenset[str] = frozenset()
    with_multiples: bool = False

    def of(self, values: list[Any], owner: str, name: str) -> Any:
        """Return the expression for a value that may differ between repetitions: the value, or a constructor argument.

        An existing argument with the same values is used; if there is none, a new one is added.

        Args:
            values: The value in each repetition.
            owner: The name of the layer or value that has the value; it precedes the name of the argument if needed.
            name: The name of a new argument.
        """
        if all(value == values[0] and type(value) is type(values[0]) for value in values):
            return values[0]
        for known, others in self.named.items():
            if others == values:
                return Argument(known)
        if self.with_multiples and (found := self._multiple(values)):
            return found
        if all(_are_numbers(value, values[0]) for value in values):
            columns = [[*parts] for parts in zip(*values, strict=True)]
            if any(self._is_known(column) for column in columns):
                return tuple(self.of(column, owner, name) for column in columns)
        wanted = name if name not in self.named else f"{owner}_{name}"
        made = unique(identifier(wanted), {*self.named, *self.taken})
        self.named[made] = values
        return Argument(made)

    def _is_known(self, values: list[Any]) -> bool:
        """Return whether numbers, one per repetition of a block, need no new constructor argument.

        None is needed if the numbers are all equal, or are the values of an existing argument or a multiple of it.
        """
        return len({*values}) == 1 or values in self.named.values() or self._multiple(values) is not None

    def _multiple(self, values: list[Any]) -> Argument | None:
        """Return an existing constructor argument, times or divided by an integer, that has these values; else None.

        Args:
            values: The value in each repetition.
        """
        if any(type(value) is not int or value <= 0 for value in values):
            return None
        for known, others in self.named.items():
            if any(type(other) is not int or other <= 0 for other in others):
                continue
            larger, smaller = (values, others) if values[0] > others[0] else (others, values)
            times = {large // small if large % small == 0 else 0 for large, small in zip(larger, smaller, strict=True)}
            if len(times) == 1 and 1 < (number := times.pop()) <= _LARGEST_MULTIPLE:
                return Argument(f"{number} * {known}" if larger is values else f"{known} // {number}")
        return None

    def lifted(self, nodes: Sequence[Any], owner: str, name: str = "number") -> Any:
        """Merge expressions that differ only in literals into one, with constructor arguments for these literals.

        Args:
            nodes: The expression in each repetition.
            owner: The name of the layer or value that has the expressions; it precedes the name of an argument if
                needed.
            name: The name of a new argument, where the operation or keyword gives none.

        Returns:
            The merged expression. New arguments are added to `named`.
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
        return self.of([*nodes], owner, name) if isinstance(first, int | float | Argument) else first


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


__all__ = ["Arguments", "type_of"]
