"""What the constructors of torch's layers are given, and what they assume where they are given nothing."""

import inspect
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any


@cache
def constructor(kind: str) -> Mapping[str, Any]:
    """The parameters of a class by name, each with its default; `inspect.Parameter.empty` where there is none.

    Of a function as well; one that is written in C says nothing of its parameters, so none is known.

    Args:
        kind: The qualified name of a class or a function of torch, or of one of our own layers.
    """
    module, _, name = kind.rpartition(".")
    cls = getattr(import_module(module), name)
    if inspect.isbuiltin(cls):
        return {}
    found = {name: parameter.default for name, parameter in inspect.signature(cls).parameters.items()}
    if "args" not in found:
        return found
    # A recurrent layer hands everything on to its base class, but for its own name and what only one of them has.
    handed = {name: parameter.default for name, parameter in inspect.signature(cls.__base__).parameters.items()}
    return {name: default for name, default in handed.items() if name != "mode"} | {"nonlinearity": "tanh"}


def source_of(kind: str) -> str:
    """The text of one of our own layers."""
    module, _, name = kind.rpartition(".")
    return inspect.getsource(getattr(import_module(module), name))


REQUIRED = inspect.Parameter.empty
"""What stands for the default of a parameter that has none."""
