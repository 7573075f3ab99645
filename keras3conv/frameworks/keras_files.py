"""Keras' own files: a model is loaded from one, and saved to one without ever leaving half of it."""

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import keras

from keras3conv import formats
from keras3conv.errors import InputError, ModelError, Problem, lay_out
from keras3conv.formats.atomic import digest, replacing
from keras3conv.frameworks import keras_side
from keras3conv.model import ModelView
from keras3conv.report import WrittenFile
from keras3conv.transforms import Shape


def load(path: Path) -> keras.Model:
    """Loads a model with its architecture from a `.keras` file or a full-model `.h5`.

    Keras' safe mode stays on: code in the file is never run.

    Raises:
        ModelError: Keras cannot make the model, for example for want of a custom class.
    """
    try:
        return keras.saving.load_model(path, compile=False)
    except (ValueError, TypeError, OSError, KeyError, AttributeError, NotImplementedError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        problem = Problem(
            keras=str(path), fact=first_line, fixes=(f'path/to/file.py:factory --keras-weights "{path}"',)
        )
        raise ModelError(lay_out(f"Keras cannot make a model of {path}", [problem])) from error


def load_weights(model: keras.Model, path: Path) -> None:
    """Loads the weights of a Keras file into a model that was built by code.

    Raises:
        ModelError: The file does not hold exactly the weights of this model, or Keras cannot load it.
        InputError: The file is none of Keras' own.
        FileError: The file cannot be read.
    """
    view = formats.read(path)
    if view.side != "keras":
        raise InputError(f"{path} holds the weights of torch, not of Keras")
    keras_side.require_built(model)
    ours, theirs = _shapes(keras_side.view(model)), _shapes(view)
    headline = f"the weights in {path} are not those of {model.name} (keras)"
    # Keras loads what it finds by its own names, and says nothing of what the file holds besides.
    problems = [
        Problem(fact=f"{number} of shape {shape} in the {there}, {other[shape]} in the {here}")
        for there, shapes, here, other in (("model", ours, "file", theirs), ("file", theirs, "model", ours))
        for shape, number in shapes.items()
        if number > other[shape]
    ]
    if problems:
        raise ModelError(lay_out(headline, problems))
    try:
        model.load_weights(path)
    except (ValueError, TypeError, OSError, KeyError, AttributeError, NotImplementedError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(lay_out(headline, [Problem(fact=first_line)])) from error


def _shapes(view: ModelView) -> Counter[Shape]:
    return Counter(tensor.shape for tensor in view.tensors() if not tensor.is_seed)


def save(model: Any, path: Path, *, overwrite: bool) -> WrittenFile:
    """Saves a model (`.keras`, `.h5`) or its weights (`.weights.h5`), under its name only when it is complete.

    Raises:
        FileError: The file exists, or its folder does not.
    """
    with replacing(path, overwrite=overwrite) as temporary, tempfile.TemporaryDirectory(dir=path.parent) as folder:
        whole = Path(folder) / path.name  # Keras goes by the suffix
        if path.name.endswith(".weights.h5"):
            model.save_weights(whole)
        else:
            model.save(whole)
        whole.replace(temporary)
    return digest(path)
