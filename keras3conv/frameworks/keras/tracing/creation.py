"""Record tensors that a traced call creates from sizes, such as positions and masks of ones.

Without a record, such a tensor would become a constant for the sizes of the trace.
"""

import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any

import keras

from keras3conv.frameworks.keras.internals import OPERATION_NAMESPACES
from keras3conv.frameworks.keras.observing import replaced

CREATIONS = ("arange", "eye", "full", "identity", "ones", "tri", "zeros")
"""The functions of `keras.ops` that create such tensors."""

Note = Callable[[str, Mapping[str, Any], Any], Any]
"""A function from the name of a called function, its arguments and its result to the value that replaces the result."""


def creations_recorded(note: Note) -> AbstractContextManager[None]:
    """Pass every tensor that is created while the block runs to `note`, and use the value that it returns."""
    return replaced(
        [
            (module, name, _recording(name, getattr(module, name), note))
            for module in OPERATION_NAMESPACES
            for name in CREATIONS
            if hasattr(module, name)
        ]
    )


def _recording(name: str, function: Callable[..., Any], note: Note) -> Callable[..., Any]:
    signature = inspect.signature(function)

    @wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        if any(isinstance(leaf, keras.KerasTensor) for leaf in keras.tree.flatten((args, kwargs))):
            return function(*args, **kwargs)
        return note(name, bound.arguments, function(*args, **kwargs))

    return called


__all__ = ["CREATIONS", "Note", "creations_recorded"]
