"""Find the inputs of a traced model that are indices, whatever their dtype: Keras converts floating-point indices."""

from collections.abc import Mapping

from keras3conv.model.graph import Graph, Node, refs

_PASSING = frozenset(
    f"keras.ops.{name}"
    for name in (
        *("cast", "convert_to_tensor", "copy", "stop_gradient", "reshape", "expand_dims", "squeeze", "transpose"),
        *("get_item", "split", "unstack", "slice", "take", "ravel", "swapaxes", "moveaxis"),
    )
)
"""The operations whose results are elements of their first argument: indices stay indices."""

_INDICES: Mapping[str, str] = {
    "keras.layers.Embedding": "inputs",
    "keras.layers.CategoryEncoding": "inputs",
    "keras.ops.one_hot": "x",
    "keras.ops.take": "indices",
    "keras.ops.take_along_axis": "indices",
}
"""The argument of a layer or operation that has indices, by its kind."""


def index_inputs(graph: Graph) -> frozenset[str]:
    """Return the names of the inputs of a graph that a layer or an operation uses as indices, whole or in parts.

    Args:
        graph: The call graph of a Keras model.
    """
    found = {
        ref.name
        for node in graph.nodes
        for kind in node.kinds
        if kind in _INDICES
        for ref in refs(node.arguments.get(_INDICES[kind]))
    }
    for node in reversed(graph.nodes):
        if node.kind in _PASSING and any(tensor.name in found for tensor in node.outputs):
            found.update(_first_argument(node))
    return frozenset(found) & {tensor.name for tensor in graph.inputs}


def _first_argument(node: Node) -> tuple[str, ...]:
    """Return the name of the tensor in the first argument of a call that has one."""
    return node.inputs[:1]
