"""Tell a listener which step of a long computation runs. Without a listener a step costs nothing.

with listening(print):
    with step("probe"):     # prints "probe None", and at the end "probe 1.25"
        ...
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import perf_counter

Listener = Callable[[str, float | None], None]
"""Called with the name of a step and None when it begins, and with its seconds when it ends."""

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Name a step of the computation for the length of a with statement."""
    listener = _listener.get()
    if listener is None:
        yield
        return
    listener(name, None)
    start = perf_counter()
    try:
        yield
    finally:
        listener(name, perf_counter() - start)


def report_fraction(name: str, done: int, total: int) -> None:
    """Tell the listener which part of a step is done, as a new text for the step: "write: 40%"."""
    listener = _listener.get()
    if listener is not None:
        listener(f"{name}: {done / max(total, 1):.0%}", None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call a listener at the beginning and the end of every step for the length of a with statement."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
