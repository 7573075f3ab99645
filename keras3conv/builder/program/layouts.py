"""Choose the axis order in which a generated module takes its inputs and returns its outputs."""

from collections.abc import Sequence
from typing import Literal

from keras3conv.builder.program.program import Order, Value, channels_first, identity
from keras3conv.model.graph import Graph, Node, Tensor

Channels = Literal["first", "last"]
"""The axis order of images in a module: "first" is channels-first, as in torch; "last" is channels-last."""

_GLOBAL = "Global"
"""The text in the class names of layers that pool over all positions, such as "GlobalAveragePooling2D"."""

_SEQUENCE = 3
"""The number of axes of a sequence: batch, steps and channels."""

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
    if data_format == "channels_first" or (data_format == "" and rank == _SEQUENCE):
        return identity(rank)
    return channels_first(rank)


def returns_given_order(graph: Graph, node: Node, tensor: Value) -> bool:
    """Return whether a layer that permutes its input for itself returns its output in the order of that input.

    A normalization of a sequence in Keras' order is such a layer: torch normalizes the second axis, but the layers
    around it have the channels last. The output stays channels-first if it reaches a convolution or pooling.

    Args:
        graph: The graph of the Keras model.
        node: The call of the layer.
        tensor: The input of the layer, before it is permuted.
    """
    output = node.outputs[0]
    is_sequence = tensor.rank == len(output.shape) == _SEQUENCE and tensor.order == identity(_SEQUENCE)
    moves = bool(node.config.get("data_format"))
    return is_sequence and not moves and input_order(graph, output) == identity(_SEQUENCE)


def output_order(value: Value, channels: Channels, inputs: Sequence[Value]) -> Order:
    """Return the axis order in which a module returns a value.

    If `channels` is "first", an image (four axes or more) in channels-first order keeps this order, and so does a
    sequence (three axes), if the module takes a sequence in another order than Keras, too. Otherwise the module returns
    the value in the order of Keras.

    Args:
        value: The value, with its current order.
        channels: The requested position of the channel axis of images: "first" or "last".
        inputs: The inputs of the module.
    """
    sequences = [one for one in inputs if one.rank == _SEQUENCE]
    may_move = value.rank != _SEQUENCE or any(one.order != identity(_SEQUENCE) for one in sequences)
    is_moved = value.order == channels_first(value.rank)
    return value.order if is_moved and may_move and channels == "first" else identity(value.rank)


def _first_data_format(graph: Graph, tensor: Tensor) -> str:
    """Return the `data_format` of the first layer with this argument that a tensor reaches; "" if there is none.

    The search stops at layers that reshape or transpose. It ignores the `data_format` of a global pooling of a
    sequence, which works in any axis order.
    """
    reached = {tensor.name}
    ranks = {name: len(found.shape) for name, found in graph.tensors.items()}
    for node in graph.nodes:
        given = [name for name in node.inputs if name in reached and ranks.get(name) == len(tensor.shape)]
        if not given or node.kind.endswith(_RESHAPING):
            continue
        if node.config.get("data_format") and not (len(tensor.shape) == _SEQUENCE and _GLOBAL in node.kind):
            return str(node.config["data_format"])
        reached.update(output.name for output in node.outputs)
    return ""
