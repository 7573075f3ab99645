"""Evidence of order: which layer runs when, or at least, which stands first."""

from keras3conv.model import LayerView


def known(layers: tuple[LayerView, ...]) -> bool:
    """Whether it is known when these layers run, and every one of them does."""
    return all(layer.calls for layer in layers)


def by_first_call(layers: tuple[LayerView, ...]) -> list[LayerView]:
    """The layers in the order in which they first run."""
    return sorted(layers, key=lambda layer: layer.calls[0] if layer.calls else 0)
