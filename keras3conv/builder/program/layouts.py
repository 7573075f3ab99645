"""Choose the axis order in which a generated module takes its inputs and returns its outputs."""

from typing import Literal

from keras3conv.builder.program.program import Order, Value, channels_first, identity
from keras3conv.model.graph import Graph, Tensor

Channels = Literal["first", "last"]
"""The axis order of images in a module: "first" is channels-first, as in torch; "last" is channels-last."""

_GLOBAL = "Global"
"""The text in the class names of layers that pool over all positions, such as "GlobalAveragePooling2D"."""

_RESHAPING = ("Flatten", "Reshape", "Permute", "reshape", "transpose")


def input_order(graph: Graph, tensor: Tensor) -> Order:
    """Return the axis order in which a channels-first module takes an input.

    An image (four axes or more) is channels-first. A sequence (three axes) is channels-first only if it reaches a layer
    with the argument `data_format`, such as a convolution or a pooling. If the first such layer has
    data_format="channels_first", the input keeps the axis order of Keras.
    """
    rank = len(tensor.shape)
    if rank < 3:
        return identity(rank)
    data_format = _first_data_format(graph, tensor)
    if data_format == "channels_first" or (data_format == "" and rank == 3):
        return identity(rank)
    return channels_first(rank)


def output_order(value: Value, channels: Channels) -> Order:
    """Return the axis order in which a module returns a value.

    If `channels` is "first", a value in channels-first order or in the order of Keras keeps its order. Otherwise the
    module returns the value in the order of Keras.

    Args:
        value: The value, with its current order.
        channels: The requested position of the channel axis of images: "first" or "last".
    """
    is_common = value.order in (identity(value.rank), channels_first(value.rank))
    return value.order if is_common and channels == "first" else identity(value.rank)


def _first_data_format(graph: Graph, tensor: Tensor) -> str:
    """Return the `data_format` of the first layer with this argument that an input reaches; "" if there is none.

    The search stops at layers that reshape or transpose. It ignores the `data_format` of a global pooling of a
    sequence, which works in any axis order.
    """
    reached = {tensor.name}
    ranks = {name: len(found.shape) for name, found in graph.tensors.items()}
    for node in graph.nodes:
        given = [name for name in node.inputs if name in reached and ranks.get(name) == len(tensor.shape)]
        if not given or node.kind.endswith(_RESHAPING):
            continue
        if node.config.get("data_format") and not (len(tensor.shape) == 3 and _GLOBAL in node.kind):
            return str(node.config["data_format"])
        reached.update(output.name for output in node.outputs)
    return ""
