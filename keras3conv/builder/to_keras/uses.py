"""Look ahead to the uses of a tensor, to choose an axis order in which none of them needs a permutation."""

from keras3conv.builder.program.program import Value
from keras3conv.builder.to_keras.call import Call
from keras3conv.builder.to_keras.layouts import channels_last
from keras3conv.model.graph import Shape

_POINTWISE_NAMES = ("relu", "dropout", "gelu", "silu", "sigmoid", "tanh", "hardswish", "contiguous", "clone", "detach")
_RESHAPES = ("view", "reshape", "_unsafe_view", "flatten", "unsqueeze")


def is_flattened_for_dense(call: Call, value: Value, shape: Shape) -> bool:
    """Return True if a reshape flattens a channels-last image, and only Dense layers use the result.

    In this case the rows of the Dense kernels are permuted instead of the image.

    Args:
        call: The call of the reshape.
        value: The image.
        shape: The new shape in torch's axis order.
    """
    fixed = all(isinstance(size, int) for size in value.shape[1:])
    is_flat = len(shape) == 2 and shape[0] == value.shape[0] and value.order == channels_last(value.rank)
    return fixed and is_flat and value.rank > 2 and _only_dense_uses(call, call.node.outputs[0].name)


def _only_dense_uses(call: Call, name: str) -> bool:
    users = call.writer.users(name)
    for node in users:
        kind = node.kind.split(".")[1]
        is_dense = kind == "linear" and node.inputs[0] == name
        if not is_dense and not (kind in _POINTWISE_NAMES and _only_dense_uses(call, node.outputs[0].name)):
            return False
    return bool(users)


def puts_last_axis_first(call: Call) -> bool:
    """Return whether the only use of a call's result is a permutation that moves its last axis to the front.

    Calls that change only the other axes, such as a reshape, may come between them.
    """
    name, rank = call.node.outputs[0].name, len(call.shape)
    last = call.shape[-1]
    while len(users := call.writer.users(name)) == 1:
        (node,) = users
        kind, output = node.kind.split(".")[1], node.outputs[0]
        if kind == "permute":
            dims = [dim % rank for dim in node.arguments["dims"]]
            return rank > 1 and dims == [rank - 1, *range(rank - 1)]
        keeps_last = kind in (*_POINTWISE_NAMES, "to", "index", *_RESHAPES) and output.shape[-1:] == (last,)
        if not keeps_last:
            return False
        name, rank = output.name, len(output.shape)
    return False
