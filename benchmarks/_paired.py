"""Compare the times of tasks that run alternately, so that other load on the machine affects all of them equally.

In each round the tasks take several short turns, and the times of the turns are added up: a slow phase of the machine,
which lasts from a tenth of a second to seconds, then affects all tasks. A ratio is the median over the rounds of the
time of one task divided by that of another in the same round. Its spread is the interquartile range of these quotients,
divided by the median. A ratio with a spread above the limit is refused, because it reflects the machine and not the
tasks.
"""

import gc
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

SPREAD = 0.15
"""The largest spread of a valid ratio."""

LEAST = 1.0
"""Seconds of wall time that each task takes at least in a round: shorter tasks are repeated."""

TURNS = 8
"""The largest number of turns of each task in a round."""

FEWEST = 2
"""The smallest number of turns, that of tasks which take longer than `LEAST`: A, B, B, A."""

TOLERANCE = 1.2
"""With `--check`, a ratio fails beyond this multiple of its target."""

Work = Callable[[], object]
Seconds = tuple[float, float]
"""The processor time and the wall time of one run."""

Clock = Callable[[], Seconds]
"""A function that returns the processor time and the wall time so far."""


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


def own_clock() -> Seconds:
    """Return the processor time of this process and the wall time."""
    return time.process_time(), time.perf_counter()


def clock_of_children() -> Seconds:
    """Return the processor time of the child processes that ended, and the wall time."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime, time.perf_counter()


def rounds_of(works: Mapping[str, Work], rounds: int, clock: Clock = own_clock) -> dict[str, list[Seconds]]:
    """Return the times of every task in every round, after a warm-up.

    Args:
        works: The tasks by name.
        rounds: The number of rounds.
        clock: Returns the processor time and the wall time so far.
    """
    repetitions, turns = _plan(works, clock)
    found: dict[str, list[Seconds]] = {name: [] for name in works}
    names = list(works)
    for number in range(rounds):
        gc.collect()  # otherwise one task pays for the garbage of another
        first = names[number % len(names) :] + names[: number % len(names)]
        taken = dict.fromkeys(names, (0.0, 0.0))
        for turn in range(turns):
            for name in reversed(first) if turn % 2 else first:
                busy, wall = _time(works[name], repetitions[name], clock)
                taken[name] = taken[name][0] + busy, taken[name][1] + wall
        for name, (busy, wall) in taken.items():
            runs = turns * repetitions[name]
            found[name].append((busy / runs, wall / runs))
    return found


def _time(work: Work, repetitions: int, clock: Clock) -> Seconds:
    """Return the processor time and the wall time of a task that is repeated."""
    busy, wall = clock()
    for _ in range(repetitions):
        work()
    ended = clock()
    return ended[0] - busy, ended[1] - wall


def _plan(works: Mapping[str, Work], clock: Clock) -> tuple[dict[str, int], int]:
    """Run every task twice, the first time to warm up, and return its repetitions in a turn, and the number of turns.

    Tasks that take longer than `LEAST` run only once for this.
    """
    taken = {}
    for name, work in works.items():
        _, taken[name] = _time(work, 1, clock)
        if taken[name] < LEAST:
            _, taken[name] = _time(work, 1, clock)
    repetitions = {name: max(1, min(1000, round(LEAST / TURNS / max(wall, 1e-6)))) for name, wall in taken.items()}
    longest = max(repetitions[name] * wall for name, wall in taken.items())
    return repetitions, max(FEWEST, min(TURNS, round(LEAST / longest)))


PACE = "the pace of the machine"

_SQUARE = np.ones((256, 256), np.float32)


def pace() -> None:
    """Do a fixed piece of work, half of it in the interpreter and half in NumPy, to see how fast the machine is now."""
    names = {str(number): number for number in range(20_000)}
    sorted(names, key=lambda name: -names[name])
    for _ in range(8):
        np.tanh(_SQUARE @ _SQUARE)


def in_seconds(
    group: str, times: Mapping[str, list[Seconds]], name: str, words: str, seconds: float, target: float
) -> Ratio:
    """Return the time of a task divided by a constant number of seconds, on the machine while nothing slows it down.

    A fixed piece of work took turns with the task: it shows how much slower the machine was in each round than in its
    fastest round.

    Args:
        group: What was measured.
        times: The times of the task, and of `pace` or another fixed piece of work under the name `PACE`.
        name: The task.
        words: The seconds in words, for the table.
        seconds: The seconds by which the time is divided.
        target: The largest ratio that meets the target.
    """
    fastest = [min(one[place] for one in times[PACE]) for place in (0, 1)]
    constant = [(seconds * busy / fastest[0], seconds * wall / fastest[1]) for busy, wall in times[PACE]]
    return ratio(group, {name: times[name], words: constant}, name, words, target)


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
