"""Put numbers in the call graph for sizes that are tensors, and exact numbers for those computed in float32."""

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any

import keras
import numpy as np

from keras3conv.frameworks.keras.operations import arguments_of, kind_of_operation
from keras3conv.frameworks.keras.values import to_numpy
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


def number_of(operation: keras.Operation, args: Any, kwargs: Any) -> int | None:
    """Return the result of `keras.ops.ndim` or `keras.ops.size` in a trace, as a number; None for other operations.

    Args:
        operation: The operation.
        args: The positional arguments of the call.
        kwargs: The keyword arguments of the call.
    """
    kind = kind_of_operation(operation)
    if kind not in ("keras.ops.ndim", "keras.ops.size"):
        return None
    shape = arguments_of(operation, args, kwargs)["x"].shape
    return len(shape) if kind == "keras.ops.ndim" else prod(shape)


_OF_SIZES: Mapping[str, str] = {"broadcast_to": "shape", "reshape": "newshape", "tile": "repeats"}
"""The argument of an operation that has sizes, by the name of the operation."""


def with_numbers(kind: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of an operation with numbers for sizes that are a tensor, as computed by `call` in a layer.

    Args:
        kind: The public name of the operation, such as "keras.ops.tile".
        arguments: The arguments by parameter name.
    """
    name = _OF_SIZES.get(kind.removeprefix("keras.ops."), "")
    sizes = arguments.get(name)
    if isinstance(sizes, keras.KerasTensor) or not (isinstance(sizes, np.ndarray) or keras.ops.is_tensor(sizes)):
        return dict(arguments)
    return {**arguments, name: to_numpy(sizes).tolist()}
