"""Load a checkpoint without running anything in it, although it names classes that are not allowed.

A training loop stores its arguments and settings beside the tensors, as objects of any class. Each of these becomes a
placeholder that ignores everything it is given; the classes themselves are never imported.
"""

import pickle
import re
from typing import Any

_MOST_NAMES = 100

_DANGEROUS = frozenset(
    {"builtins", "code", "ctypes", "importlib", "nt", "os", "pickle", "posix", "pty", "runpy", "shutil", "socket"}
    | {"subprocess", "sys", "__builtin__"}
)
"""Modules of which a checkpoint has no honest use: their names are refused, although nothing would run."""


class Placeholder:
    """Stands for an object of a class that is not loaded; it has no attributes and no items."""

    def __new__(cls, *_args: Any, **_options: Any) -> "Placeholder":
        """Return a placeholder; ignore all arguments."""
        return super().__new__(cls)

    def __init__(self, *_args: Any, **_options: Any) -> None:
        pass

    def __setstate__(self, _state: Any) -> None:
        pass

    def __setitem__(self, _key: Any, _value: Any) -> None:
        pass


def load(path: Any, device: str) -> tuple[Any, pickle.UnpicklingError | None]:
    """Return the content of a checkpoint, and what torch refused at first if there are placeholders in it.

    Args:
        path: The file.
        device: The device of the tensors: "meta" reads none of their values.
    """
    import torch

    refused: list[str] = []
    first: pickle.UnpicklingError | None = None
    while True:
        try:
            with torch.serialization.safe_globals([(Placeholder, name) for name in refused]):
                return torch.load(path, weights_only=True, map_location=device), first
        except pickle.UnpicklingError as error:
            first = first or error
            found = re.search(r"GLOBAL ([\w.]+) was not an allowed global", str(error))
            name = found[1] if found else ""
            if not name or name in refused or name.partition(".")[0] in _DANGEROUS or len(refused) >= _MOST_NAMES:
                raise first from None
            refused.append(name)


def has_placeholder(value: Any) -> bool:
    """Return whether a value, or an item of it, is a placeholder."""
    if isinstance(value, dict):
        return any(has_placeholder(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(has_placeholder(item) for item in value)
    return isinstance(value, Placeholder)
