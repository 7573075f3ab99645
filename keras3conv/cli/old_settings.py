"""Find the settings of a Keras 2 file that have another meaning in Keras 3; the command `inspect` lists them."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keras3conv.frameworks.adapter import Adapter

_MODELS = (".h5", ".hdf5", ".keras")
"""The suffixes of the files that may hold an architecture of Keras 2."""


def settings_read_as_keras_2(model: "Adapter") -> tuple[tuple[str, str], ...]:
    """Return the layers of a Keras 2 file with settings that mean something else in Keras 3, each with the change."""
    from keras3conv.formats.keras2.changes import changed_settings
    from keras3conv.formats.keras2.file import saved_model

    if model.is_live or model.side != "keras" or not os.fspath(model.source).lower().endswith(_MODELS):
        return ()
    saved = saved_model(model.source)
    return changed_settings(saved.config) if saved else ()
