"""Choose the axis order of the inputs and outputs of a generated Keras model."""

from keras3conv.builder.program.layouts import Channels
from keras3conv.builder.program.program import Order, Value, identity
from keras3conv.model.graph import Graph, Tensor

_IMAGE_OPERATORS = ("conv", "batch_norm", "pool", "upsample", "instance_norm", "group_norm")


def channels_last(rank: int) -> Order:
    """Return the channels-last axis order for `rank` axes: torch's second axis becomes the last.

    With two axes or fewer it changes nothing.
    """
    return identity(rank) if rank < 3 else (0, *range(2, rank), 1)


def input_order(graph: Graph, tensor: Tensor, channels: Channels) -> Order:
    """Return the axis order in which the Keras model takes an input.

    An image, or a sequence that goes into a convolution, is channels-last or channels-first as `channels` says. Other
    inputs have torch's axis order.

    Args:
        graph: The graph of the torch module.
        tensor: The input in the graph.
        channels: The position of the channel axis of images in the model: "last" or "first".
    """
    rank = len(tensor.shape)
    is_image = rank > 3 or (rank == 3 and _reaches_an_image_operator(graph, tensor))
    return channels_last(rank) if is_image and channels == "last" else identity(rank)


def output_order(value: Value, channels: Channels) -> Order:
    """Return the axis order in which the Keras model returns a value: channels-last for images, else torch's order."""
    is_image = value.rank > 3 and value.order == channels_last(value.rank) and channels == "last"
    return value.order if is_image else identity(value.rank)


def _reaches_an_image_operator(graph: Graph, tensor: Tensor) -> bool:
    """Return whether a tensor reaches a convolution or another operator for images or sequences.

    Only calls that keep the shape may come in between: no reshape, permutation or linear layer.
    """
    reached = {tensor.name}
    for node in graph.nodes:
        if not reached & {*node.inputs}:
            continue
        name = node.kind.split(".")[1]
        if any(word in name for word in _IMAGE_OPERATORS):
            return True
        if node.outputs[0].shape == tensor.shape and name not in ("permute", "transpose", "view", "reshape", "linear"):
            reached.update(output.name for output in node.outputs)
    return False
