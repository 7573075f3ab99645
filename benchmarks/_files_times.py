"""Time methods that write files, one after the other in every round, and compare them.

What a method writes is deleted before each timing, and pending pages are written to the disk: a method that replaces a
file would otherwise need new memory while one that truncates it uses the same memory again. A ratio is that of wall
times; the one of processor times stands beside it, because the speed of a disk varies.
"""

import ctypes
import gc
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from benchmarks._paired import SPREAD, Seconds, Work


@dataclass(frozen=True)
class Result:
    """One measured ratio.

    Attributes:
        part: What was measured.
        way: The method that is measured.
        ratio: The wall time of the method divided by that of the reference, as the median over the rounds. If `way`
            names a unit, such as "ms of a processor", a number in this unit.
        limit: The largest accepted ratio; None if there is no limit.
        seconds: The median wall time of the method.
        processor: The ratio of the processor times; 0 if it was not measured.
        spread: The interquartile range of the ratios over the rounds, divided by their median.
    """

    part: str
    way: str
    ratio: float
    limit: float | None = None
    seconds: float = 0.0
    processor: float = 0.0
    spread: float = 0.0

    @property
    def met(self) -> bool:
        """Whether the ratio is within its limit."""
        return self.limit is None or self.ratio <= self.limit

    @property
    def verdict(self) -> str:
        """The result in words: whether the limit is met, and whether the rounds differ too much to tell."""
        if self.limit is None:
            return ""
        found = "met" if self.met else "missed"
        return f"{found}; the rounds differ by {self.spread:.0%}" if self.spread > SPREAD else found


def in_turns(
    ways: Mapping[str, Work], rounds: int, *, outputs: Sequence[Path], warm_up: bool = True
) -> dict[str, list[Seconds]]:
    """Time every method in every round, after a warm-up round; the order of the methods changes with each round.

    A method that leaves much memory to be freed slows the next one down, so no method must always follow the same one.

    Args:
        ways: The methods.
        rounds: The number of rounds.
        outputs: The files that the methods write; they are deleted before each timing.
        warm_up: Whether a round is made before the first one that is timed.
    """
    found: dict[str, list[Seconds]] = {name: [] for name in ways}
    for number in range(int(not warm_up), rounds + 1):
        for name in Random(number).sample(list(ways), len(ways)):
            for path in outputs:
                path.unlink(missing_ok=True)
            # Pending writes and garbage of the previous method must not slow this one down.
            os.sync()
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)
            busy, started = time.process_time(), time.perf_counter()
            ways[name]()
            if number:
                found[name].append((time.process_time() - busy, time.perf_counter() - started))
    return found


def compared(
    part: str, times: Mapping[str, Sequence[Seconds]], reference: str, limits: Mapping[str, float]
) -> list[Result]:
    """Return the ratio of every method to the reference.

    Args:
        part: What was measured.
        times: The times of each method in each round.
        reference: The method by whose time the others are divided.
        limits: The largest accepted ratio, by the name of the method.
    """
    results = []
    for way, seconds in times.items():
        pairs = list(zip(seconds, times[reference], strict=True))
        processor, wall = ([own[place] / other[place] for own, other in pairs] for place in (0, 1))
        low, _, high = statistics.quantiles(wall, n=4) if len(wall) > 1 else (0.0, 0.0, 0.0)
        ratio = statistics.median(wall)
        results.append(
            Result(
                part=f"{part} / {reference}",
                way=way,
                ratio=ratio,
                limit=limits.get(way),
                seconds=statistics.median(wall for _, wall in seconds),
                processor=statistics.median(processor),
                spread=(high - low) / ratio,
            )
        )
    return results
