"""Report the steps of a long computation to a listener, a function; without a listener a step costs nothing.

with listening(print):
    with step("probe"):     # prints "probe None", and at the end "probe 1.25"
        ...
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import perf_counter

Listener = Callable[[str, float | None], None]
"""A function that is called with a step's name and None at its start, and with name and seconds at its end."""

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Report the code in a with statement to the listener as a step, when it starts and when it ends."""
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
    """Report the finished fraction of a step to the listener as a text that replaces the step's name: "write: 40%".

    Args:
        name: The name of the step.
        done: The finished amount, in any unit.
        total: The whole amount, in the same unit.
    """
    listener = _listener.get()
    if listener is not None:
        listener(f"{name}: {done / max(total, 1):.0%}", None)


def teller() -> Callable[[str, str], None]:
    """Return a function that reports the progress of a step to the present listener, also from other threads.

    A thread does not know the listener of the thread that started it. The function takes the name of the step and a
    text: ("running", "a") is reported as "running: a".
    """
    listener = _listener.get()

    def tell(name: str, text: str) -> None:
        if listener is not None:
            listener(f"{name}: {text}", None)

    return tell


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call a listener at the start and the end of every step that runs in the `with` block."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
