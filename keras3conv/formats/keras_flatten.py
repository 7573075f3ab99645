"""What a Keras file says of a Flatten: the rows of the kernel after it are in the order (h, w, c)."""

from collections.abc import Iterator, Mapping

from keras3conv.formats.keras_config import LayerConfig
from keras3conv.transforms import Shape

_KEEPS_FEATURES = frozenset(
    {"Activation", "ActivityRegularization", "AlphaDropout", "Dropout", "ELU", "GaussianDropout", "GaussianNoise",
     "Identity", "LeakyReLU", "Masking", "ReLU", "Rescaling", "ThresholdedReLU"}
)  # fmt: skip
"""After these a feature is still the value that was flattened, or a function of it alone."""


def flattened(model: LayerConfig, prefix: str = "") -> dict[str, Shape]:
    """What was flattened into the first input of a layer, for every layer (by its path) of which that is known.

    The shape is without the batch axis; it is empty where something was flattened of which the file does not tell the
    shape.
    """
    found: dict[str, Shape] = {}
    before = {layer.name: source for layer, source in _sources(model)}
    for layer in model.children:
        path = f"{prefix}{layer.name}"
        origin = _origin(layer, before)
        if origin is not None and origin.class_name == "Flatten":
            found[path] = _shape(origin)
        if layer.is_model:
            found |= flattened(layer, f"{path}/")
    return found


def _origin(layer: LayerConfig, before: Mapping[str, LayerConfig | None]) -> LayerConfig | None:
    """The layer that the first input of a layer comes from, as far back as every feature is kept."""
    source = before.get(layer.name)
    for _ in before:  # at most as many steps as there are layers, whatever the file says
        if source is None or source.class_name not in _KEEPS_FEATURES:
            break
        source = before.get(source.name)
    return source


def _sources(model: LayerConfig) -> Iterator[tuple[LayerConfig, LayerConfig | None]]:
    """Every layer with the layer that its first input comes from."""
    if model.class_name == "Sequential":
        yield from zip(model.children, (None, *model.children), strict=False)
        return
    layers = {layer.name: layer for layer in model.children}
    for layer in model.children:
        first = layer.calls[0][0][0] if layer.calls and layer.calls[0] else ""
        yield layer, layers.get(first)


def _shape(layer: LayerConfig) -> Shape:
    """The shape that a Flatten is given, where the file tells it all."""
    shape = layer.inputs[0][1:] if layer.inputs else ()
    return tuple(int(size) for size in shape if size) if all(shape) else ()
