"""Look up the parameters and defaults of the constructors of torch layers."""

import inspect
from collections.abc import Collection, Mapping
from functools import cache
from importlib import import_module
from typing import Any


@cache
def constructor(kind: str) -> Mapping[str, Any]:
    """Return a dict from the parameters of a class or function to their defaults, `REQUIRED` if there is no default.

    The result is empty for a function written in C, which has no signature.

    Args:
        kind: The qualified name of a class or a function of torch, or of a layer of keras3conv.
    """
    module, _, name = kind.rpartition(".")
    cls = getattr(import_module(module), name)
    if inspect.isbuiltin(cls):
        return {}
    found = {name: parameter.default for name, parameter in inspect.signature(cls).parameters.items()}
    if "args" not in found:
        return found
    # A recurrent layer passes its arguments to its base class, except the mode and those of a single class.
    handed = {name: parameter.default for name, parameter in inspect.signature(cls.__base__).parameters.items()}
    return {name: default for name, default in handed.items() if name != "mode"} | {"nonlinearity": "tanh"}


def misfit(kind: str, names: Collection[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the required parameters of a class that are not given, and the given names that are no parameters."""
    module, _, name = kind.rpartition(".")
    parameters = inspect.signature(getattr(import_module(module), name)).parameters.values()
    named = [one for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    missing = tuple(one.name for one in named if one.default is REQUIRED and one.name not in names)
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return missing, ()
    return missing, tuple(name for name in names if name not in {one.name for one in named})


def source_of(kind: str) -> str:
    """Return the source code of a torch module that keras3conv defines, by its qualified name."""
    module, _, name = kind.rpartition(".")
    return inspect.getsource(getattr(import_module(module), name))


REQUIRED = inspect.Parameter.empty
"""The value that `constructor` returns for a parameter without a default."""
