"""Build a Keras model that holds only one layer of another model, or a few layers in sequence."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras3conv.frameworks.keras.tree import named_layers

Shape = tuple[int | None, ...]


class Held(keras.layers.Layer):  # type: ignore[misc]
    """A layer with the name of a parent, that calls the layers inside it in sequence.

    Args:
        layers: The layers inside.
        name: The name.
    """

    def __init__(self, layers: Sequence[keras.layers.Layer], name: str) -> None:
        super().__init__(name=name)
        self.inside = list(layers)

    def call(self, inputs: Any) -> Any:
        """Return the output of the last layer."""
        return _called(self.inside, inputs)


def _called(layers: Sequence[keras.layers.Layer], inputs: Any) -> Any:
    """Call layers in sequence; the first one with positional arguments if there are several inputs."""
    for layer in layers:
        is_whole = isinstance(layer, Held) or not isinstance(inputs, list)
        inputs = layer(inputs) if is_whole else layer(*inputs)
    return inputs


def alone(layers: Mapping[str, keras.layers.Layer], shapes: Sequence[Shape], dtype: str) -> keras.Model:
    """Return a functional model of copies of layers of one parent, called in sequence, under the same paths.

    Args:
        layers: The layers by path; they may be on torch's meta device.
        shapes: The shapes of the arguments of the first layer, batch axis first.
        dtype: The dtype of the inputs.

    Raises:
        ValueError, TypeError, NotImplementedError: A layer cannot be made again from its configuration.
    """
    inside = [_copied(layer, path.rpartition("/")[2]) for path, layer in layers.items()]
    for parent in reversed(next(iter(layers)).split("/")[:-1]):
        inside = [Held(inside, parent)]
    inputs = [keras.Input(shape[1:], dtype=dtype) for shape in shapes]
    given = inputs if len(inputs) > 1 else inputs[0]
    return keras.Model(given, _called(inside, given))


def _copied(layer: keras.layers.Layer, name: str) -> keras.layers.Layer:
    """Return a new layer with the configuration of another one, built for the same shapes."""
    made = type(layer).from_config({**layer.get_config(), "name": name})
    built = layer.get_build_config()
    if built:
        made.build_from_config(built)
    return made


def layers_by_path(model: keras.layers.Layer) -> dict[str, keras.layers.Layer]:
    """Return the layers of a model by path."""
    return dict(named_layers(model))


def argument_shapes(layer: keras.layers.Layer) -> dict[str, Shape]:
    """Return the shape of every argument with which a layer was built, by the name of the argument: "query"."""
    found: dict[str, Any] = layer.get_build_config() or {}
    found = found.get("shapes_dict") or found
    return {
        name.removesuffix("_shape"): tuple(shape)
        for name, shape in found.items()
        if isinstance(shape, tuple | list) and all(size is None or isinstance(size, int) for size in shape)
    }


__all__ = ["alone", "argument_shapes", "layers_by_path"]
