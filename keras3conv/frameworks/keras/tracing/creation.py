"""Record tensors that a traced call creates from sizes, such as positions and masks of ones, or from random numbers.

Without a record, the trace would contain them as constants: with the sizes of the trace, or with the drawn numbers.
"""

import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import lru_cache, wraps
from typing import Any

import keras

from keras3conv.frameworks.keras.internals import OPERATION_NAMESPACES
from keras3conv.frameworks.keras.observing import replaced

CREATIONS = ("arange", "eye", "full", "identity", "ones", "tri", "zeros")
"""The functions of `keras.ops` that create a tensor from sizes."""

DRAWS = ("beta", "binomial", "categorical", "gamma", "normal", "randint", "shuffle", "truncated_normal", "uniform")
"""The functions of `keras.random` that draw random numbers in inference, too (unlike `dropout`)."""

Note = Callable[[str, Mapping[str, Any], Any], Any]
"""A function that replaces the result of a traced function.

It gets the name of the traced function, its arguments and its result, and returns the new result.
"""


def creations_recorded(note: Note) -> AbstractContextManager[None]:
    """Pass every tensor that is created inside the `with` block to a function, and use what it returns in its place.

    Args:
        note: Receives the name of the creating function, its arguments and the tensor; returns the replacement.
    """
    return replaced(
        [
            (module, name, _recording(name, getattr(module, name), note))
            for module in OPERATION_NAMESPACES
            for name in CREATIONS
            if hasattr(module, name)
        ]
    )


def draws_noted(note: Callable[[str], None]) -> AbstractContextManager[None]:
    """Call `note` with the name of every function of `keras.random` that is called inside the `with` block."""

    def noting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            note(f"keras.random.{name}")
            return function(*args, **kwargs)

        return called

    return replaced([(keras.random, name, noting(name, getattr(keras.random, name))) for name in DRAWS])


def numbers_kept() -> AbstractContextManager[None]:
    """Keep Python's numbers exact inside the `with` block: casting one to float32 would round it, in a float64 run too.

    Keras' attention casts its scale, `1 / sqrt(key_dim)`, to the dtype of the query.
    """

    def keeping(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def cast(x: Any, dtype: Any) -> Any:
            is_exact = type(x) is float and keras.backend.standardize_dtype(dtype) in ("float32", "float64")
            return x if is_exact else function(x, dtype)

        return cast

    return replaced(
        [(module, "cast", keeping(module.cast)) for module in OPERATION_NAMESPACES if hasattr(module, "cast")]
    )


_signature = lru_cache(inspect.signature)
"""Return the signature of a function, which Python takes longer to find than to call many of these functions."""


def _recording(name: str, function: Callable[..., Any], note: Note) -> Callable[..., Any]:
    signature = _signature(function)

    @wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        if any(isinstance(leaf, keras.KerasTensor) for leaf in keras.tree.flatten((args, kwargs))):
            return function(*args, **kwargs)
        return note(name, bound.arguments, function(*args, **kwargs))

    return called
