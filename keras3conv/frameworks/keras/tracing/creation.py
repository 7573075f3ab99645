"""Tensors that a call makes of nothing but sizes: positions, masks of ones. While a model is traced they are noted.

Else they would be constants of the sizes that the model happens to be traced with.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any

import keras
import keras.src.ops

CREATIONS = ("arange", "eye", "full", "identity", "ones", "tri", "zeros")
"""The functions of `keras.ops` that make such tensors."""

Note = Callable[[str, Mapping[str, Any], Any], Any]
"""Given the name of a function, its arguments and what it made; returns what stands for that."""


@contextmanager
def noted(note: Note) -> Iterator[None]:
    """For a while, tells of every tensor that is made, and hands on what is returned for it."""
    homes = (keras.ops, keras.src.ops, keras.src.ops.numpy)
    before = [(home, name, getattr(home, name)) for home in homes for name in CREATIONS if hasattr(home, name)]
    try:
        for home, name, function in before:
            setattr(home, name, _noting(name, function, note))
        yield
    finally:
        for home, name, function in before:
            setattr(home, name, function)


def _noting(name: str, function: Callable[..., Any], note: Note) -> Callable[..., Any]:
    signature = inspect.signature(function)

    @wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        if any(isinstance(leaf, keras.KerasTensor) for leaf in keras.tree.flatten((args, kwargs))):
            return function(*args, **kwargs)
        return note(name, bound.arguments, function(*args, **kwargs))

    return called


__all__ = ["CREATIONS", "Note", "noted"]
