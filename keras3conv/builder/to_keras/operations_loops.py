"""Convert the operator that returns the constant with which a loop starts; the export inserts it into the graph."""

from dataclasses import replace

from keras3conv.builder.program.program import identity
from keras3conv.builder.to_keras.call import HANDLERS, Call, Result
from keras3conv.builder.to_keras.forms import Constant
from keras3conv.builder.to_keras.lowered import Lowered
from keras3conv.builder.to_keras.returning import dependent
from keras3conv.model.graph import FIRST_VALUE, Graph


def with_orders(graph: Graph, lowered: Lowered) -> Graph:
    """Return a graph whose loops start with constants in the axis order of the values that follow in later iterations.

    If the constants have this axis order already, the same graph is returned.

    Args:
        graph: The graph of a torch module.
        lowered: The result of its conversion, which has the axis orders.
    """
    nodes = []
    for node in graph.nodes:
        following = lowered.results.get(node.arguments["following"]) if node.kind == FIRST_VALUE else None
        order = following.order if following else None
        is_new = following is not None and order != lowered.results.get(node.outputs[0].name, following).order
        nodes.append(replace(node, config={**node.config, "order": order}) if is_new else node)
    return (
        graph
        if all(one is node for one, node in zip(nodes, graph.nodes, strict=True))
        else replace(graph, nodes=tuple(nodes))
    )


def _first_value(call: Call) -> Result:
    """Convert the operator to the first value of its loop: a constant, repeated for each sample of the batch."""
    given = call.arguments["self"]
    if not isinstance(given, Constant):
        return given  # type: ignore[no-any-return]
    order = call.node.config.get("order", identity(len(call.shape)))
    return dependent(call.writer, call.writer.value(given, order), call.shape)


HANDLERS[FIRST_VALUE.rpartition(".")[0]] = _first_value
