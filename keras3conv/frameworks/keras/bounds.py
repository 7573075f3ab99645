"""Observe the bounds of Keras' backend functions, such as the limits of a clip, while a model runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from keras3conv.frameworks.keras.internals import backend
from keras3conv.frameworks.keras.observing import Original, replaced
from keras3conv.frameworks.keras.values import to_numpy
from keras3conv.frameworks.shared.bounds import FUNCTIONS, Bound, BoundsObserver


@contextmanager
def observed_bounds() -> Iterator[list[Bound]]:
    """Collect the bounds (limits of a clip, maximum of a ReLU) of the backend functions that run in a `with` block."""
    observer = BoundsObserver(extremes=_extremes, number=_number, distances=_distances)

    def call(original: Original, name: str, *args: Any, **kwargs: Any) -> Any:
        observer.note(name, args, kwargs)
        return original(*args, **kwargs)

    found = [
        (module, name, partial(call, getattr(module, name), name))
        for module in (backend.nn, backend.numpy)
        for name in sorted(FUNCTIONS)
        if hasattr(module, name)
    ]
    with replaced(found):
        yield observer.bounds


def _extremes(value: Any) -> tuple[float, float] | None:
    if not backend.is_tensor(value):
        return None
    array = to_numpy(value)
    if array.dtype.kind != "f" or array.size <= 1:
        return None
    return float(array.min()), float(array.max())


def _distances(first: Any, second: Any) -> tuple[float, float, float, float] | None:
    limits = second if isinstance(second, np.ndarray) else to_numpy(second) if backend.is_tensor(second) else None
    if limits is None or not limits.size or _extremes(first) is None:
        return None
    distances = to_numpy(first) - limits
    return float(distances.min()), float(distances.max()), float(limits.min()), float(limits.max())


def _number(value: Any) -> float | None:
    if isinstance(value, int | float | np.number):
        return float(value)
    if backend.is_tensor(value) and value.ndim == 0:
        return float(to_numpy(value))
    return None
