"""Refuse the words of a suggested command for which a user has to write a name."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras3conv.errors import InputError

_MEANING = {
    "ANOTHER-FOLDER": "a new folder",
    "FILE": "your file",
    "FILE.npy": "your file",
    "FILE.npz": "your file of inputs",
    "FILE.py": "your file of code",
    "FOLDER": "a folder for the files",
    "KERAS": "your Keras model",
    "KERAS.py:make": "your file of code and the function in it that returns the Keras model",
    "PLAN.json": "your file of a plan",
    "SOURCE": "the model to read",
    "TORCH": "your torch model",
    "TORCH.py:make": "your file of code and the function in it that returns the module",
}
"""For each placeholder in the commands that messages suggest, the name that a user has to write in its place."""


def refuse_placeholders(arguments: Mapping[str, Any]) -> None:
    """Raise `InputError` if an argument of a command is a placeholder, unless a file has this name.

    Args:
        arguments: The values of the arguments and options, by name. A plan may be saved to PLAN.json.
    """
    for name, value in arguments.items():
        for one in value if isinstance(value, list | tuple) else [value]:
            text = str(one) if isinstance(one, str | Path) else ""
            is_file_to_write = name == "out" and text == "PLAN.json"
            if text in _MEANING and not is_file_to_write and not os.path.lexists(text):
                raise InputError(f"{text} is not a name, but stands for one: write {_MEANING[text]} in its place")
