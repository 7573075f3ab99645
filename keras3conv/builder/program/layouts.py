"""In which order a module takes and returns the axes of its inputs and outputs."""

from typing import Literal

from keras3conv.builder.program.program import Order, Value, channels_first, identity
from keras3conv.model.graph import Graph, Tensor

Channels = Literal["first", "last"]
"""Where a module has the channels of images: second, as torch, or last, as Keras."""

_RESHAPING = ("Flatten", "Reshape", "Permute", "reshape", "transpose")


def input_order(graph: Graph, tensor: Tensor) -> Order:
    """The order in which a module with its channels second takes an input.

    An image (four axes or more) has its channels second. A sequence has them there only if a convolution or a pooling
    along it is the first to ask. A Keras layer that has its channels second already is given them so.
    """
    rank = len(tensor.shape)
    if rank < 3:
        return identity(rank)
    asked = _first_data_format(graph, tensor)
    if asked == "channels_first" or (asked == "" and rank == 3):
        return identity(rank)
    return channels_first(rank)


def output_order(value: Value, channels: Channels) -> Order:
    """The order in which a module returns a value: as it is, if that is a layout that a user can name."""
    as_it_is = value.order in (identity(value.rank), channels_first(value.rank))
    return value.order if as_it_is and channels == "first" else identity(value.rank)


def _first_data_format(graph: Graph, tensor: Tensor) -> str:
    """The data format of the first layer that has one and that an input reaches with as many axes as it has."""
    reached = {tensor.name}
    ranks = {name: len(found.shape) for name, found in graph.tensors.items()}
    for node in graph.nodes:
        given = [name for name in node.inputs if name in reached and ranks.get(name) == len(tensor.shape)]
        if not given or node.kind.endswith(_RESHAPING):
            continue
        if node.config.get("data_format"):
            return str(node.config["data_format"])
        reached.update(output.name for output in node.outputs)
    return ""


__all__ = ["Channels", "input_order", "output_order"]
