"""Build a Keras model that holds only one layer of another model, or a few layers that belong together."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras

from keras3conv.frameworks.keras.tree import named_layers
from keras3conv.rules.rule import LayerSpec

Shape = tuple[int | None, ...]

_OWN = "keras.layers."


class Held(keras.layers.Layer):  # type: ignore[misc]
    """A Keras layer that calls copies of several layers of another model, and has the name of their parent there.

    Args:
        layers: The layers to call.
        name: The name of the containing layer.
        joined: Whether all layers take the same input and their outputs are concatenated; else they are called in
            sequence.
    """

    def __init__(self, layers: Sequence[keras.layers.Layer], name: str, *, joined: bool = False) -> None:
        super().__init__(name=name)
        self.inside, self.joined = list(layers), joined

    def call(self, inputs: Any) -> Any:
        """Return the output of the last layer, or the joined outputs of all layers if they take the same input."""
        return _called(self.inside, inputs, joined=self.joined)


def _called(layers: Sequence[keras.layers.Layer], inputs: Any, *, joined: bool) -> Any:
    """Call layers in sequence, or all with the same input, and return the last output or the joined outputs.

    Args:
        layers: The layers.
        inputs: The input; a list of several inputs becomes the positional arguments of the first layer.
        joined: Whether all layers take the same input. Their outputs are then concatenated along one axis, into which
            the axes from the input's last axis on are merged: (2, 3, 4) to (2, 12) for an input (2, 5).
    """
    if joined:
        axes = (-1, *inputs.shape[2:-1])[: len(inputs.shape) - 2]  # without the batch axis and the features
        found = [layer(inputs) for layer in layers]
        return keras.ops.concatenate(
            [keras.layers.Reshape((*axes, _features(part, inputs)))(part) for part in found], -1
        )
    for layer in layers:
        is_whole = isinstance(layer, Held) or not isinstance(inputs, list)
        inputs = layer(inputs) if is_whole else layer(*inputs)
    return inputs


def _features(output: Any, inputs: Any) -> int:
    """Return the number of features of an output: the product of its sizes, without the leading axes of the input.

    It is 12 for an input of shape (2, 5) and an output of shape (2, 3, 4): only the axis of size 2 is a leading one.
    """
    size = 1
    for axis in output.shape[len(inputs.shape) - 1 :]:
        size *= axis
    return size


def alone(
    layers: Mapping[str, keras.layers.Layer],
    shapes: Sequence[Shape],
    dtype: str,
    *,
    joined: bool = False,
    beside: tuple[Sequence[LayerSpec], Sequence[LayerSpec]] = ((), ()),
) -> keras.Model:
    """Return a functional model of copies of some layers, which have the same parent layer; their paths are kept.

    Args:
        layers: The layers by path; they may be on torch's meta device.
        shapes: The shapes of the arguments of the first layer, batch axis first.
        dtype: The dtype of the inputs.
        joined: Whether all layers take the same input and their outputs are concatenated; else they are called in
            sequence.
        beside: Two lists of layers without weights that are created in addition, such as a padding: the layers of the
            first are called before the copies, those of the second after them.
    """
    inside = [_copied(layer, path.rpartition("/")[2]) for path, layer in layers.items()]
    for parent in reversed(next(iter(layers)).split("/")[:-1]):
        inside, joined = [Held(inside, parent, joined=joined)], False
    inputs = [keras.Input(shape[1:], dtype=dtype) for shape in shapes]
    given = inputs if len(inputs) > 1 else inputs[0]
    value = _called([*_made(beside[0])], given, joined=False)
    value = _called(inside, value, joined=joined)
    return keras.Model(given, _called([*_made(beside[1])], value, joined=False))


def _made(specs: Iterable[LayerSpec]) -> Iterable[keras.layers.Layer]:
    for spec in specs:
        if not spec.kind.startswith(_OWN):
            raise ValueError(f"the class {spec.kind} is not a layer of Keras, so no layer of it can be created")
        yield getattr(keras.layers, spec.kind.removeprefix(_OWN))(**spec.config)


def _copied(layer: keras.layers.Layer, name: str) -> keras.layers.Layer:
    """Return a new layer with the configuration and the input shapes of another layer, built, without activation.

    Args:
        layer: The layer to copy; its weights are not copied.
        name: The name of the new layer.
    """
    linear = {"activation": "linear"} if ends_with_activation(layer) else {}
    made = type(layer).from_config({**layer.get_config(), **linear, "name": name})
    built = layer.get_build_config()
    if built:
        made.build_from_config(built)
    return made


def ends_with_activation(layer: keras.layers.Layer) -> bool:
    """Return whether a Keras layer ends with an activation, which is a separate module in torch."""
    activation = vars(layer).get("activation")
    return callable(activation) and activation is not keras.activations.linear


def layers_by_path(model: keras.layers.Layer) -> dict[str, keras.layers.Layer]:
    """Return the layers of a model by path."""
    return dict(named_layers(model))


def argument_shapes(layer: keras.layers.Layer) -> dict[str, Shape]:
    """Return the shapes with which a layer was built, by the name of the argument of `call`, such as "query"."""
    found: dict[str, Any] = layer.get_build_config() or {}
    found = found.get("shapes_dict") or found
    return {
        name.removesuffix("_shape"): tuple(shape)
        for name, shape in found.items()
        if isinstance(shape, tuple | list) and all(size is None or isinstance(size, int) for size in shape)
    }
