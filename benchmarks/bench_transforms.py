"""Compare the speed of making transposed weights contiguous: plain copy, numpy, `keras3conv.numerics.copying`.

All methods are timed one after the other in every round, and a ratio compares times of the same round, so that other
load on the machine affects all methods equally. Speeds are those of the median; an array is counted once (the bytes of
the result).

    python -m benchmarks bench_transforms --check
    python benchmarks/bench_transforms.py --json result.json --markdown result.md
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from keras3conv.numerics.copying import contiguous

FASTER = 3.0
"""The target for the shapes of transformers and convolutions, as a multiple of numpy's speed."""

NOT_SLOWER = 0.95
"""The target for all other shapes of a megabyte or more: not slower than numpy, up to timing noise."""

OVERHEAD = 5e-6
"""The additional time in seconds that a call may take for a small array."""

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Case:
    """The shape of a stored array and the requested order of its axes."""

    shape: tuple[int, ...]
    order: tuple[int, ...]
    dtype: str = "float32"
    wanted: float = 0.0

    @property
    def size(self) -> int:
        """The size of the array in bytes."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize

    def array(self) -> NDArray[Any]:
        """Return a transposed view of an array in memory."""
        return np.arange(self.size, dtype=np.uint8).view(self.dtype).reshape(self.shape).transpose(self.order)


@dataclass(frozen=True)
class Result:
    """The measured speeds of the three methods in bytes per second, and the speed-up over numpy."""

    case: Case
    copy: float
    numpy: float
    ours: float
    ratio: float
    slower_by: float

    @property
    def target(self) -> str:
        """The target of the case in words: the smallest speed-up, or the largest additional time."""
        if self.case.wanted:
            return f">= {self.case.wanted:g}"
        return f">= {NOT_SLOWER:g}" if self.case.size >= MEGABYTE else f"<= {OVERHEAD * 1e6:g} µs more"

    @property
    def met(self) -> bool:
        """True if the case meets its target."""
        if self.case.wanted:
            return self.ratio >= self.case.wanted
        return self.ratio >= NOT_SLOWER if self.case.size >= MEGABYTE else self.slower_by <= OVERHEAD


SQUARE = (1, 0)
TO_HWIO = (2, 3, 1, 0)
TO_OIHW = (3, 2, 0, 1)

TARGETS = (
    *(Case((size, size), SQUARE, wanted=FASTER) for size in (1024, 3072, 4096)),
    Case((512, 512, 3, 3), TO_HWIO, wanted=FASTER),
    Case((3, 3, 512, 512), TO_OIHW, wanted=FASTER),
)

ORDINARY = (
    *(Case(shape, SQUARE) for shape in ((1000, 1000), (2000, 2000), (1536, 768), (768, 3072), (3072, 768))),
    *(Case(shape, SQUARE) for shape in ((30522, 512), (512, 30522), (1_000_000, 8), (8, 1_000_000))),
    *(Case(shape, TO_HWIO) for shape in ((256, 256, 3, 3), (2048, 512, 1, 1), (256, 128, 5, 5))),
    *(Case(shape, TO_OIHW) for shape in ((3, 3, 256, 256), (1, 1, 512, 2048), (5, 5, 128, 256))),
    *(Case((768, 12, 64), order) for order in ((1, 2, 0), (1, 0, 2), (2, 1, 0), (2, 0, 1), (0, 2, 1))),
    Case((12, 64, 768), (2, 0, 1)),
    Case((8, 3, 3, 64, 128), (4, 3, 0, 1, 2)),
    Case((128, 64, 8, 3, 3), (2, 3, 4, 1, 0)),
    *(Case((2048, 2048), SQUARE, dtype) for dtype in ("int8", "float16", "float64")),
    *(Case((2000, 1500), SQUARE, dtype) for dtype in ("int8", "float16", "float64")),
    *(Case((512, 512, 3, 3), TO_HWIO, dtype) for dtype in ("int8", "float16", "float64")),
    *(Case((3, 3, 512, 512), TO_OIHW, dtype) for dtype in ("int8", "float16", "float64")),
)

SMALL = (
    Case((768,), (0,)),
    Case((16, 16, 3, 3), TO_HWIO),
    Case((3, 3, 16, 16), TO_OIHW),
    Case((64, 3, 7, 7), TO_HWIO),
    Case((7, 7, 3, 64), TO_OIHW),
    Case((64, 64), SQUARE),
)


def measure(case: Case, rounds: int) -> Result:
    """Time the three methods alternately, each equally often first."""
    array = case.array()
    calls: list[Callable[[], object]] = [
        lambda: array.copy(order="K"),
        lambda: np.ascontiguousarray(array),
        lambda: contiguous(array),
    ]
    repeat = max(1, int(2e5 / case.size))
    times: list[list[float]] = [[], [], []]
    for index in range(rounds + 1):
        for way in (0, 1, 2) if index % 2 else (2, 1, 0):
            seconds = _seconds(calls[way], repeat)
            if index:  # a warm-up round, for cold memory
                times[way].append(seconds)
    pairs = list(zip(times[1], times[2], strict=True))
    copy, numpy, ours = (case.size / median(way) for way in times)
    ratio = median(theirs / ours for theirs, ours in pairs)
    return Result(case, copy, numpy, ours, ratio, slower_by=median(ours - theirs for theirs, ours in pairs))


def _seconds(call: Callable[[], object], repeat: int) -> float:
    start = time.perf_counter()
    for _ in range(repeat):
        call()
    return (time.perf_counter() - start) / repeat


def measured(cases: Iterable[Case], rounds: int, tries: int) -> list[Result]:
    """Measure every case; measure one that misses its target again with more rounds, as the machine may be busy."""
    results = []
    for case in cases:
        result = measure(case, rounds)
        for attempt in range(1, tries):
            if result.met:
                break
            result = measure(case, rounds * (attempt + 1))
        results.append(result)
    return results


HEADERS = ("shape", "order", "dtype", "MB", "copy GB/s", "numpy GB/s", "ours GB/s", "ratio", "target", "")


def row(result: Result) -> tuple[str, ...]:
    """Return a result as the cells of a table row."""
    case = result.case
    speeds = (f"{speed / 1e9:.2f}" for speed in (result.copy, result.numpy, result.ours))
    shape, order = " ".join(map(str, case.shape)), " ".join(map(str, case.order))
    verdict = "met" if result.met else "MISSED"
    size = f"{case.size / MEGABYTE:.3g}"
    return (shape, order, case.dtype, size, *speeds, f"{result.ratio:.2f}", result.target, verdict)


def show(results: Iterable[Result]) -> None:
    """Print the table."""
    table = Table(*HEADERS)
    for result in results:
        table.add_row(*row(result), style="" if result.met else "red")
    Console(width=None if sys.stdout.isatty() else 130).print(table)


def to_markdown(results: Iterable[Result]) -> str:
    """Return the table as Markdown."""
    rows = [HEADERS, ("---",) * len(HEADERS), *map(row, results)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def to_json(results: Iterable[Result]) -> str:
    """Return the results as data, with the versions and the machine."""
    machine = {"numpy": np.__version__, "processors": os.cpu_count(), "load": os.getloadavg()[0]}
    rows = [asdict(result) | {"met": result.met} for result in results]
    return json.dumps({"format": 1, "machine": machine, "results": rows}, indent=2) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the results; return 1 if `--check` is given and a target is missed."""
    parser = argparse.ArgumentParser(prog="bench_transforms", description="How fast views become contiguous.")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--markdown", type=Path, help="write the table here")
    parser.add_argument("--check", action="store_true", help="fail if a target is missed")
    parser.add_argument("--rounds", type=int, default=9, help="how often each method is timed (default: 9)")
    parser.add_argument("--quick", action="store_true", help="only the shapes that must be faster")
    options = parser.parse_args(arguments)
    cases = TARGETS if options.quick else TARGETS + ORDINARY + SMALL
    results = measured(cases, options.rounds, tries=4 if options.check else 1)
    show(results)
    if options.json:
        options.json.write_text(to_json(results), encoding="utf-8")
    if options.markdown:
        options.markdown.write_text(to_markdown(results), encoding="utf-8")
    return int(options.check and not all(result.met for result in results))


if __name__ == "__main__":
    sys.exit(main())
