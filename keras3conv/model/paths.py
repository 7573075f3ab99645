"""Define the syntax of layer paths: the separator in torch and in Keras, and the text for several layers."""

from collections.abc import Iterable

from keras3conv.model.views import Side

_BETWEEN_LAYERS = " + "


def separator(side: Side) -> str:
    """Return the character between the names in a layer path: "." in torch, "/" in Keras."""
    return "." if side == "torch" else "/"


def join_layers(paths: Iterable[str]) -> str:
    """Return the paths of several layers as one text, joined by " + ": "q + k + v"."""
    return _BETWEEN_LAYERS.join(paths)


def split_layers(text: str) -> tuple[str, ...]:
    """Return the paths in a text such as "q + k + v"; the inverse of `join_layers`."""
    return tuple(text.split(_BETWEEN_LAYERS))
