"""Infer the input shape of a Keras 2 Sequential from the weights of its first layer, if the file does not store it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras3conv.formats.keras2.layers import is_training_only, renamed
from keras3conv.formats.keras2.network import MODELS, layers_in, name_of
from keras3conv.transforms import Shape

_RANKS = {
    **{
        f"{kind}{rank}D": rank + 2
        for kind in ("Conv", "SeparableConv", "DepthwiseConv", "ConvLSTM")
        for rank in (1, 2, 3)
    },
    **{f"Conv{rank}DTranspose": rank + 2 for rank in (1, 2, 3)},
    **dict.fromkeys(("LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional"), 3),
    **dict.fromkeys(("Dense", "BatchNormalization", "LayerNormalization", "Normalization"), 2),
}
"""The number of axes of a layer's input, by layer class, for files that do not store the input shape."""

_TRANSPARENT = frozenset({"Dropout", "GaussianNoise", "GaussianDropout", "AlphaDropout", "Activation", "Rescaling"})
"""Layers whose input and output have the same shape."""

_BY_CHANNELS = ("gamma", "beta", "moving_mean", "mean")


def first_shape(
    entries: Sequence[Mapping[str, Any]], built: Any, weight_shapes: Callable[[str], Mapping[str, Shape]]
) -> tuple[int | None, ...] | None:
    """Return the shape of a model's input, with None for dynamic sizes; None if the file does not determine it.

    Args:
        entries: The layers of the model.
        built: The input shape that the file stores, in which sizes may be None; None if it stores none.
        weight_shapes: The shapes of the weights of a layer, by their names in the layer.
    """
    known = list(built) if isinstance(built, list) else None
    layer = _first_with_weights(entries)
    if known and all(size is not None for size in known[1:]):
        return tuple(known)
    channels = None if layer is None else _channels(layer, weight_shapes(name_of(layer)))
    if layer is None or channels is None:
        return tuple(known) if known else None
    class_name = renamed(layer["class_name"])
    if class_name == "Embedding":
        return tuple(known) if known else (None, None)
    if known is None:
        known = [None] * _RANKS.get(class_name, 2)
    first = layer["config"].get("data_format") == "channels_first"
    place = 1 if first else len(known) - 1
    known[place] = channels if known[place] is None else known[place]
    return tuple(known)


def _first_with_weights(entries: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    for entry in entries:
        class_name = renamed(entry["class_name"])
        if class_name in MODELS:
            return _first_with_weights(layers_in(entry["config"]))
        if class_name not in _TRANSPARENT and not is_training_only(entry) and class_name != "InputLayer":
            return entry
    return None


def _channels(layer: Mapping[str, Any], shapes: Mapping[str, Shape]) -> int | None:
    """Return the number of input channels of a layer, inferred from its weights.

    Return 0 for an Embedding, which has no channels, and None if the weights do not determine the number.

    Args:
        layer: The layer in the file, with the keys "class_name" and "config".
        shapes: The shapes of its weights, by name in the layer: {"kernel": (3, 3, 16, 32)}.
    """
    kernel = shapes.get("kernel") or shapes.get("depthwise_kernel")
    if kernel is not None:
        transposed = layer["class_name"].endswith("Transpose")
        return int(kernel[-1 if transposed else -2]) * int(layer["config"].get("groups", 1) or 1)
    for role in _BY_CHANNELS:
        if shapes.get(role):
            return int(shapes[role][-1])
    return None if "embeddings" not in shapes else 0
