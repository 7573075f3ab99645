"""What the constructors of torch's layers are given, and what they assume where they are given nothing."""

import inspect
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any


@cache
def constructor(kind: str) -> Mapping[str, Any]:
    """The parameters of a class by name, each with its default; `inspect.Parameter.empty` where there is none.

    Args:
        kind: The qualified name of a class of torch, or of one of our own layers.
    """
    module, _, name = kind.rpartition(".")
    found = inspect.signature(getattr(import_module(module), name)).parameters
    return {name: parameter.default for name, parameter in found.items()}


def source_of(kind: str) -> str:
    """The text of one of our own layers."""
    module, _, name = kind.rpartition(".")
    return inspect.getsource(getattr(import_module(module), name))


REQUIRED = inspect.Parameter.empty
"""What stands for the default of a parameter that has none."""
