"""Compare the times of tasks that run alternately, so that other load on the machine affects all of them equally.

A ratio is the median over the rounds of the time of one task divided by that of another in the same round. Its spread
is the interquartile range of these quotients, divided by the median. A ratio with a spread above the limit is refused,
because it reflects the machine and not the tasks.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

SPREAD = 0.15
"""The largest spread of a valid ratio."""

LEAST = 0.25
"""Seconds of wall time that a timing takes at least: shorter tasks are repeated, so that interruptions weigh less."""

TOLERANCE = 1.2
"""With `--check`, a ratio fails beyond this multiple of its target."""

Work = Callable[[], object]
Seconds = tuple[float, float]
"""The processor time and the wall time of one run."""


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """A measured ratio.

    Attributes:
        group: What was measured: "inference".
        name: The task.
        reference: The task by whose time it is divided.
        processor: The median ratio of the processor times.
        wall: The median ratio of the wall times.
        spread: The spread of the ratios of the processor times.
        milliseconds: The shortest processor time of the task, averaged over the repetitions of one round.
        target: The largest ratio that meets the target; None if there is no target.
        missing: The package that is not installed, for which nothing was measured; empty for a measured ratio.
    """

    group: str
    name: str
    reference: str
    processor: float
    wall: float
    spread: float
    milliseconds: float
    target: float | None = None
    missing: str = ""

    @property
    def is_refused(self) -> bool:
        """True if the rounds differ too much for a valid ratio."""
        return self.spread > SPREAD

    @property
    def verdict(self) -> str:
        """The result in words: whether the ratio meets its target."""
        if self.missing:
            return f"not measured: {self.missing} is not installed"
        if self.is_refused:
            return "refused: the rounds differ too much"
        if self.target is None:
            return ""
        if self.processor <= self.target:
            return "met"
        return "missed" if self.processor > self.target * TOLERANCE else "missed by less than 20 %"

    @property
    def fails(self) -> bool:
        """Whether `--check` fails: the target is missed, or the rounds differ too much to tell."""
        if self.target is None or self.missing:
            return False
        most = self.processor * (1 + self.spread) if self.is_refused else self.processor
        return most > self.target * TOLERANCE

    def row(self) -> dict[str, Any]:
        """The ratio as one line of JSON."""
        return {**asdict(self), "verdict": self.verdict}


def rounds_of(works: Mapping[str, Work], rounds: int) -> dict[str, list[Seconds]]:
    """Return the times of every task in every round, after a warm-up round; each round starts with another task."""
    repetitions = {name: _repetitions(work) for name, work in works.items()}
    found: dict[str, list[Seconds]] = {name: [] for name in works}
    names = list(works)
    for number in range(rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            found[name].append(_time(works[name], repetitions[name]))
    return found


def _time(work: Work, repetitions: int) -> Seconds:
    """Return the processor time and the wall time of a task, averaged over its repetitions."""
    busy, wall = time.process_time(), time.perf_counter()
    for _ in range(repetitions):
        work()
    return (time.process_time() - busy) / repetitions, (time.perf_counter() - wall) / repetitions


def _repetitions(work: Work) -> int:
    """Run a task twice, the first time to warm up, and return how often it fits into the least time of a timing."""
    work()
    _, wall = _time(work, 1)
    return max(1, min(1000, round(LEAST / max(wall, 1e-6))))


def ratio(
    group: str, times: Mapping[str, list[Seconds]], name: str, reference: str, target: float | None = None
) -> Ratio:
    """Return the ratio of two tasks whose times were measured in the same rounds."""
    pairs = list(zip(times[name], times[reference], strict=True))
    processor, wall = ([own[place] / other[place] for own, other in pairs] for place in (0, 1))
    low, middle, high = statistics.quantiles(processor, n=4)
    return Ratio(
        group=group,
        name=name,
        reference=reference,
        processor=middle,
        wall=statistics.median(wall),
        spread=(high - low) / middle,
        milliseconds=1e3 * min(busy for busy, _ in times[name]),
        target=target,
    )


def not_measured(group: str, name: str, reference: str, package: str) -> Ratio:
    """Return the row of a ratio for which a package is not installed."""
    return Ratio(
        group=group, name=name, reference=reference, processor=0, wall=0, spread=0, milliseconds=0, missing=package
    )
