"""Describe the parts of a Keras model that act in training only, and have no torch module.

They are regularizers, constraints, the dropout inside recurrent layers, and the training behaviour of layers that were
converted to their operations in inference mode, such as a batch normalization with a mask.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import keras

from keras3conv.errors import first_of
from keras3conv.frameworks.keras.tree import named_layers
from keras3conv.rules.unsupported import AUGMENTATIONS

_LISTED = 3


def training_only(
    model: keras.layers.Layer, written: Mapping[str, str], entered: Collection[str], losses: Collection[str]
) -> tuple[str, ...]:
    """Return a sentence for each part of a model that acts in training only and is not converted, with its layers.

    Args:
        model: The model.
        written: The paths of layers as the user's code names them, by path: {"encoder/dense_3": "encoder/project"}.
        entered: The paths of the layers that are written as their operations in inference mode.
        losses: The paths of the layers whose code calls `add_loss`.
    """
    layers: dict[str, list[str]] = {}
    for path, layer in named_layers(model):
        added = ["adds a term to the loss by add_loss, which is not converted"] if path in losses else []
        for sentence in (*_sentences(layer), *(_of_operations(layer) if path in entered else ()), *added):
            layers.setdefault(sentence, []).append(written.get(path, path) or layer.name)
    return tuple(f"{first_of(paths, _LISTED)}: {sentence}" for sentence, paths in layers.items())


def penalties(model: keras.layers.Layer) -> tuple[str, ...]:
    """Return a sentence for each regularizer and constraint of a model, with the paths of its layers."""
    layers: dict[str, list[str]] = {}
    for path, layer in named_layers(model):
        for sentence in _penalties(layer):
            layers.setdefault(sentence, []).append(path or layer.name)
    return tuple(f"{first_of(paths, _LISTED)}: {sentence}" for sentence, paths in layers.items())


def _sentences(layer: keras.layers.Layer) -> Iterator[str]:
    if any(type(layer) is getattr(keras.layers, name, None) for name in AUGMENTATIONS):
        yield "augments the inputs in training, and is not converted: augment the data for torch"
    rates = {name: vars(layer).get(name) for name in ("dropout", "recurrent_dropout")}
    if rates["recurrent_dropout"] is not None and any(rates.values()):
        listed = ", ".join(f"{name}={rate:g}" for name, rate in rates.items() if rate)
        yield f"the dropout inside this layer ({listed}) is not converted: torch trains without it"
    yield from _penalties(layer)


def _penalties(layer: keras.layers.Layer) -> Iterator[str]:
    """Yield a sentence for each regularizer and constraint of a layer."""
    for name, value in vars(layer).items():
        if name.startswith("_") or value is None:
            continue
        if name.endswith("_regularizer") and isinstance(value, keras.regularizers.Regularizer):
            yield f"{name} {_written(value)} is a term of the loss in Keras, and not converted{_advice(name, value)}"
        elif name.endswith("_constraint") and isinstance(value, keras.constraints.Constraint):
            yield f"{name} {_written(value)} changes the weights after every step in Keras, and is not converted"


def _of_operations(layer: keras.layers.Layer) -> Iterator[str]:
    """Yield the training behaviour of a layer that was converted to its operations in inference mode, as sentences."""
    if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
        yield (
            "in training Keras normalizes with the statistics of the batch, from which it leaves masked steps out, and "
            "updates the moving statistics; torch always uses the moving statistics"
        )
    if isinstance(layer, keras.layers.SpectralNormalization):
        yield "in training Keras divides the kernel by its spectral norm before every call; torch keeps it as it is"
    if isinstance(layer, keras.layers.Attention) and layer.dropout:
        yield f"the dropout inside this layer (dropout={layer.dropout:g}) is not converted: torch trains without it"


def _written(value: Any) -> str:
    try:
        settings = value.get_config()
    except NotImplementedError:  # a class of the user's own may have no configuration
        settings = {}
    shown = ", ".join(f"{name}={_number(entry)}" for name, entry in settings.items() if isinstance(entry, int | float))
    return f"{type(value).__name__}({shown})"


def _number(value: float) -> str:
    return f"{value:.6g}"


def _advice(name: str, value: Any) -> str:
    if type(value) is keras.regularizers.L2 and not name.startswith("activity"):
        return f"; weight_decay={_number(2 * float(value.l2))} in torch's SGD or Adam does the same"
    return ""
