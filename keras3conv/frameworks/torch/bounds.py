"""Observe the bounds of torch functions, such as the limits of a clamp, while a module runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from keras3conv.frameworks.shared.bounds import Bound, BoundsObserver


@contextmanager
def observed_bounds() -> Iterator[list[Bound]]:
    """Collect the bounds (limits of a clamp, the 6 of a ReLU6) of all torch functions that run in the `with` block."""
    observer = BoundsObserver(extremes=_extremes, number=_number, distances=_distances)
    with _FunctionCalls(observer):
        yield observer.bounds


@contextmanager
def observed_slices() -> Iterator[list[Bound]]:
    """Collect the slices that end beyond their axis, in all torch functions that run in the `with` block.

    These include the slices of a Keras model on the torch backend.
    """
    observer = BoundsObserver(extremes=_extremes, number=_number)
    with _Slices(observer):
        yield observer.bounds


class _Slices(TorchFunctionMode):
    def __init__(self, observer: BoundsObserver) -> None:
        super().__init__()
        self.observer = observer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") == "__getitem__" and isinstance(args[0], torch.Tensor):
            self.observer.note_slices(tuple(args[0].shape), args[1])
        return func(*args, **(kwargs or {}))


class _FunctionCalls(TorchFunctionMode):
    def __init__(self, observer: BoundsObserver) -> None:
        super().__init__()
        self.observer = observer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(getattr(func, "__name__", ""))
        if name == "__getitem__" and isinstance(args[0], torch.Tensor):
            self.observer.note_slices(tuple(args[0].shape), args[1])
        self.observer.note(name if name.endswith("__") else name.strip("_"), args, kwargs or {})
        return func(*args, **(kwargs or {}))


def _extremes(value: Any) -> tuple[float, float] | None:
    if not isinstance(value, torch.Tensor) or not value.is_floating_point() or value.numel() <= 1:
        return None
    return _least_and_largest(value.detach())


def _least_and_largest(values: torch.Tensor) -> tuple[float, float]:
    """Return the least and the largest value of a tensor; both are NaN if it has NaN.

    `torch.aminmax` reads the memory once instead of twice, but is ten times slower if the channels are last.
    """
    return float(values.amin()), float(values.amax())


def _distances(first: Any, second: Any) -> tuple[float, float, float, float] | None:
    bounds = _extremes(second)
    if bounds is None or _extremes(first) is None:
        return None
    return *_least_and_largest(first.detach() - second.detach()), *bounds


def _number(value: Any) -> float | None:
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        return float(value)
    return float(value) if isinstance(value, int | float) else None
