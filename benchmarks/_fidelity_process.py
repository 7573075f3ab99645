"""Runs each pair of models in a process of its own: what one leaves in memory, or breaks, does not reach the next."""

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
    """What the process of one pair may use.

    Attributes:
        seconds: The processor time; the process is killed by the system if it uses more.
        gigabytes: The memory for data; an allocation beyond it raises `MemoryError`.
    """

    seconds: int = 1200
    gigabytes: float = 12.0


def entries() -> list[Entry]:
    """Every pair; one more is one more entry in a list of `_fidelity_*.py`."""
    modules = [importlib.import_module(f"benchmarks._fidelity_{source}") for source in SOURCES]
    return [entry for module in modules for entry in module.ENTRIES]


def judge(chosen: Sequence[Entry], jobs: int, limits: Limits, done: Callable[[Result], None]) -> None:
    """Judge pairs, several at a time; each result is handed out when it is there, in one thread at a time."""
    with ThreadPoolExecutor(jobs) as pool:
        for result in pool.map(lambda entry: judged(entry, limits), chosen):
            done(result)


def judged(entry: Entry, limits: Limits | None = None) -> Result:
    """The result of a pair. One that cannot be built, aligned or judged has a result that says so."""
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
    except (Keras3ConvError, *RAISED_BY_MODELS) as error:  # any other ends the process, and the row says so
        result = Result(name=name, misses=(f"{type(error).__name__}: {error}",))
    sender.send(result)
