"""Replace numbers that a layer has computed in float32, such as sqrt(8), by their exact values."""

from dataclasses import replace
from typing import Any

from keras3conv.model.graph import Graph, Node, leaves, mapped

_ROUNDING = 2.0**-22
"""The largest relative difference between a number that was computed in float32 and its exact value."""


def with_exact_numbers(graph: Graph, exact: Graph) -> Graph:
    """Return a graph with the numbers of a second trace in its arguments, where these differ only by rounding.

    Args:
        graph: The graph of a trace in float32.
        exact: The graph of a trace of the same model in float64. If it has other nodes, `graph` is returned unchanged.
    """
    if [node.kinds for node in graph.nodes] != [node.kinds for node in exact.nodes]:
        return graph
    nodes = (_exact(one, other) for one, other in zip(graph.nodes, exact.nodes, strict=True))
    return replace(graph, nodes=tuple(nodes))


def _exact(node: Node, exact: Node) -> Node:
    others = list(leaves(exact.arguments))
    if len(others) != len(list(leaves(node.arguments))):
        return node
    following = iter(others)

    def chosen(value: Any) -> Any:
        other = next(following)
        if type(value) is type(other) is float and abs(value - other) <= _ROUNDING * abs(other):
            return other
        return value

    return replace(node, arguments=mapped(node.arguments, chosen))
