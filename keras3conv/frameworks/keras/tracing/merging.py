"""Merge the call graphs of two traces of a model, whose numbers differ where a size is dynamic."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from keras3conv.errors import Problem
from keras3conv.frameworks.keras.tracing.sizes import Sizes
from keras3conv.model.graph import Graph, Node, Size, Tensor, leaves, mapped


def merged(first: Graph, second: Graph, sizes: Sizes) -> tuple[Graph, tuple[Problem, ...]]:
    """Merge the call graphs of two traces, in which the dynamic sizes have different numbers.

    Return the merged graph and its problems. Numbers that differ between the two graphs become symbolic sizes. Every
    other difference becomes a problem.

    Args:
        first: The graph of the trace with the first numbers.
        second: The graph of the same model with the second numbers.
        sizes: The sizes that the numbers represent.
    """
    if [node.kinds for node in first.nodes] != [node.kinds for node in second.nodes]:
        fact = "the layers and operations that run depend on a dynamic size of the inputs"
        return first, (Problem(keras=first.name, fact=fact, fixes=_FIX),)
    problems: list[Problem] = []
    nodes = tuple(_node(one, two, sizes, problems) for one, two in zip(first.nodes, second.nodes, strict=True))
    problems += _constants(first, second)
    graph = replace(
        first,
        nodes=nodes,
        inputs=tuple(_tensor(one, two, sizes) for one, two in zip(first.inputs, second.inputs, strict=True)),
        sizes={symbol: (first.inputs[place].name, axis) for symbol, (place, axis) in sizes.symbols.items()},
    )
    return graph, tuple(problems)


DEPENDS = "that depends on a dynamic size of the inputs"

_FIX = ("k3c.convert(model, inputs=example_input)",)


def _node(one: Node, two: Node, sizes: Sizes, problems: list[Problem]) -> Node:
    others = iter(list(leaves(two.arguments)))

    def merge(value: Any) -> Any:
        other = next(others)
        if value == other and type(value) is type(other):
            return value
        size = sizes.resolve(value, other) if type(value) is type(other) is int else None
        if size is None:
            fact = f"an argument of {one.kind} is {value} or {other}, depending on a dynamic size of the inputs"
            problems.append(Problem(keras=one.path, fact=fact, fixes=_FIX))
        return value if size is None else size

    outputs = tuple(_tensor(a, b, sizes) for a, b in zip(one.outputs, two.outputs, strict=True))
    return replace(one, arguments=mapped(one.arguments, merge), outputs=outputs)


def _tensor(one: Tensor, two: Tensor, sizes: Sizes) -> Tensor:
    """Return a tensor of the call graph with symbolic sizes in place of numbers that differ between two traces.

    If no dynamic size has the two numbers, the size gets the symbol "unknown".

    Args:
        one: The tensor in the first trace, with numbers as sizes.
        two: The same tensor in the second trace.
        sizes: The symbolic sizes that the pairs of numbers represent.
    """
    unknown = Size(symbols=("unknown",))
    shape = (sizes.resolve(a, b) for a, b in zip(one.shape, two.shape, strict=True))  # type: ignore[arg-type]
    return replace(one, shape=tuple(unknown if size is None else size for size in shape))


def _constants(first: Graph, second: Graph) -> Iterator[Problem]:
    for name, array in first.constants.items():
        other = second.constants.get(name)
        if other is None or other.shape != array.shape or not np.array_equal(other, array):
            users = [node.path for node in first.nodes if name in node.inputs] or [first.name]
            fact = f"an argument is a constant of shape {array.shape} {DEPENDS}"
            yield Problem(keras=users[0], fact=fact, fixes=_FIX)
