"""Which side a model is of, without importing a framework to find out."""

import sys
from pathlib import Path
from typing import Any, Literal

from keras3conv.errors import InputError
from keras3conv.model.views import Side

Form = Literal["live", "file"]


def side_and_form(model: Any, argument: str = "model") -> tuple[Side, Form]:
    """The side of a live model or of a file, and which of the two it is.

    An object is of a framework only if that framework has been imported; so nothing is imported here.

    Raises:
        InputError: It is neither a module, nor a Keras model, nor a path.
        FileError: It is a path with a suffix that no format has.
    """
    if isinstance(model, str | Path):
        from keras3conv import formats

        return formats.side_of(Path(model)), "file"
    # On the torch backend a Keras layer is a torch module too, so Keras is asked first.
    if "keras" in sys.modules:
        from keras3conv.frameworks.keras import model as keras_side

        if keras_side.is_model(model):
            return "keras", "live"
    if "torch" in sys.modules:
        from keras3conv.frameworks.torch import module as torch_side

        if torch_side.is_module(model):
            return "torch", "live"
    raise InputError(
        f"{argument} is a {type(model).__name__}: it must be a torch module, a Keras model, or the path of a file"
    )
