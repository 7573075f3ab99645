"""Measure the time that the stages of a workflow take."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from keras3conv.steps import step


class Stages:
    """The seconds that each stage of a workflow (such as "trace") took, by name, in the order of their start."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the time of the `with` block as that of a stage, and show the stage as the current step.

        Times of stages with the same name are added.
        """
        self.seconds.setdefault(name, 0.0)
        start = perf_counter()
        try:
            with step(name):
                yield
        finally:
            self.seconds[name] += perf_counter() - start
