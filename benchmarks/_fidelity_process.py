"""Run each pair of models in a separate process, so that memory leaks and crashes do not affect the next pair."""

import importlib
import multiprocessing
import resource
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing.connection import Connection

from benchmarks._fidelity import Entry, Result, measure
from keras3conv.errors import RAISED_BY_MODELS, Keras3ConvError

SOURCES = ("own", "text", "vision", "converted")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of the process of one pair.

    Attributes:
        seconds: The processor time; the process is killed by the system if it uses more.
        gigabytes: The memory for data; an allocation beyond it raises `MemoryError`.
    """

    seconds: int = 1200
    gigabytes: float = 12.0


def entries() -> list[Entry]:
    """Return all pairs; to add one, add an entry to a list in a file `_fidelity_*.py`."""
    modules = [importlib.import_module(f"benchmarks._fidelity_{source}") for source in SOURCES]
    return [entry for module in modules for entry in module.ENTRIES]


def judge(chosen: Sequence[Entry], jobs: int, limits: Limits, done: Callable[[Result], None]) -> None:
    """Judge pairs, several in parallel; pass each result to `done` in the calling thread."""
    with ThreadPoolExecutor(jobs) as pool:
        for result in pool.map(lambda entry: judged(entry, limits), chosen):
            done(result)


def judged(entry: Entry, limits: Limits | None = None) -> Result:
    """Return the result of a pair in a new process; if it cannot be built, aligned or judged, with the reason."""
    if missing := [package for package in entry.needs if find_spec(package) is None]:
        return Result(name=entry.name, misses=(f"not run: {', '.join(missing)} is not installed",))
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(entry.name, limits or Limits(), sender))
    process.start()
    sender.close()
    try:
        found: Result = receiver.recv()
    except EOFError:  # the process ended without a result
        process.join()
        code = process.exitcode or 0
        cause = f"signal {-code}" if code < 0 else f"exit status {code}"
        return Result(name=entry.name, misses=(f"the process ended with {cause}, without a result",))
    process.join()
    return found


def _measured(name: str, limits: Limits, sender: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (limits.seconds, limits.seconds))
    resource.setrlimit(resource.RLIMIT_DATA, (int(limits.gigabytes * 2**30),) * 2)
    entry = next(entry for entry in entries() if entry.name == name)
    try:
        result = measure(entry.name, entry.build())
    except (Keras3ConvError, *RAISED_BY_MODELS) as error:  # any other exception ends the process, which the row records
        result = Result(name=name, misses=(f"{type(error).__name__}: {error}",))
    sender.send(result)
