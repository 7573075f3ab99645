"""Read the call order of layers as evidence."""

from keras3conv.model import LayerView


def known(layers: tuple[LayerView, ...]) -> bool:
    """Return whether all of these layers ran, as far as a run tells."""
    return all(layer.calls for layer in layers)


def by_first_call(layers: tuple[LayerView, ...]) -> list[LayerView]:
    """Return the layers in the order of their first calls."""
    return sorted(layers, key=lambda layer: layer.calls[0] if layer.calls else 0)
