"""Keras' own files: a model is loaded from one, and saved to one without ever leaving half of it."""

import tempfile
from pathlib import Path
from typing import Any

import keras

from keras3conv.errors import ModelError, Problem, lay_out
from keras3conv.formats.atomic import digest, replacing
from keras3conv.report import WrittenFile


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
        problem = Problem(keras=str(path), fact=first_line, fixes=(f'path/to/file.py:factory --keras-weights "{path}"',))
        raise ModelError(lay_out(f"Keras cannot make a model of {path}", [problem])) from error


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
