"""Make a live model of an architecture without weights, which `model.to_json()` wrote."""

from pathlib import Path

import keras

from keras3conv.errors import ModelError
from keras3conv.formats.keras import json
from keras3conv.formats.keras2.file import Saved, saved_model
from keras3conv.frameworks.keras.files import from_json, load_weights, unloadable
from keras3conv.frameworks.keras.keras2.reading import problems_of, read_model
from keras3conv.messages import lay_out


def load(path: Path, weights: Path | None) -> keras.Model:
    """Return the model of an architecture, with the weights of a file; without a file it has initial weights.

    The architecture may be of Keras 2 or Keras 3; it keeps the meaning that it has in the version that wrote it.

    Args:
        path: The `.json` with the architecture.
        weights: The file of weights; None for initial weights.

    Raises:
        ModelError: Keras cannot make the model, with the reason for each layer; or the weights are of another model.
        FileError: A file cannot be read.
    """
    layers = [(name, layer.kind) for name, layer in json.read(path).walk()]
    saved = saved_model(path)
    problems = list(problems_of(saved, weights) if saved else unloadable(layers, weights or path))
    if problems:
        raise ModelError(lay_out(f"Keras cannot make a model of {path}", problems))
    return made(path, saved, weights)


def made(path: Path, saved: Saved | None, weights: Path | None) -> keras.Model:
    """Return the model of an architecture all of whose layers Keras can make; see `load`.

    Args:
        path: The `.json` with the architecture.
        saved: The architecture, if Keras 2 wrote it; None for Keras 3.
        weights: The file of weights; None for initial weights.
    """
    if saved:
        return read_model(saved, weights)
    model = from_json(path)
    if weights is not None:
        load_weights(model, weights)
    return model
