"""Compares the times of works that are run in turns: other work on the machine then disturbs all of them alike.

A ratio is the median over the rounds of the time of one work divided by that of another in the same round. Its spread
is the distance between the quartiles of these quotients, divided by the median. A ratio whose spread is above the limit
is refused, for it says more about the machine than about the works.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

SPREAD = 0.15
"""The largest spread of a ratio that counts."""

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
        name: The work.
        reference: The work that it is divided by.
        processor: The median ratio of the processor times.
        wall: The median ratio of the wall times.
        spread: The spread of the ratios of the processor times.
        milliseconds: The shortest processor time of the work.
        target: The ratio that is wanted; None where nothing is promised.
    """

    group: str
    name: str
    reference: str
    processor: float
    wall: float
    spread: float
    milliseconds: float
    target: float | None = None

    @property
    def is_refused(self) -> bool:
        """Whether the rounds differ too much to say anything."""
        return self.spread > SPREAD

    @property
    def verdict(self) -> str:
        """What the ratio says about its target."""
        if self.is_refused:
            return "refused: the rounds differ too much"
        if self.target is None:
            return ""
        if self.processor <= self.target:
            return "met"
        return "missed" if self.processor > self.target * TOLERANCE else "missed by less than 20 %"

    @property
    def fails(self) -> bool:
        """Whether `--check` fails: the target is missed, or the rounds differ so much that it may be."""
        if self.target is None:
            return False
        most = self.processor * (1 + self.spread) if self.is_refused else self.processor
        return most > self.target * TOLERANCE

    def row(self) -> dict[str, Any]:
        """The ratio as one line of JSON."""
        return {**asdict(self), "verdict": self.verdict}


def rounds_of(works: Mapping[str, Work], rounds: int) -> dict[str, list[Seconds]]:
    """The times of every work in every round, after a round that warms up; each round starts with another work."""
    for work in works.values():
        work()
    found: dict[str, list[Seconds]] = {name: [] for name in works}
    names = list(works)
    for number in range(rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            busy, wall = time.process_time(), time.perf_counter()
            works[name]()
            found[name].append((time.process_time() - busy, time.perf_counter() - wall))
    return found


def ratio(
    group: str, times: Mapping[str, list[Seconds]], name: str, reference: str, target: float | None = None
) -> Ratio:
    """The ratio of two works whose times were measured in the same rounds."""
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
