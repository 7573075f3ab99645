"""Runs each pair of models in a process of its own: what one leaves in memory, or breaks, does not reach the next."""

import importlib
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec

from benchmarks._fidelity import Entry, Result, measure

SOURCES = ("own", "text", "vision")


def entries() -> list[Entry]:
    """Every pair; one more is one more entry in a list of `_fidelity_*.py`."""
    modules = [importlib.import_module(f"benchmarks._fidelity_{source}") for source in SOURCES]
    return [entry for module in modules for entry in module.ENTRIES]


def judged(entry: Entry) -> Result:
    """The result of a pair. One that cannot be built, aligned or judged has a result that says so."""
    if missing := [package for package in entry.needs if find_spec(package) is None]:
        return Result(name=entry.name, misses=(f"not run: {', '.join(missing)} is not installed",))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        future = pool.submit(_measured, entry.name)
        error = future.exception()  # also that the process was killed
    if error is not None:
        return Result(name=entry.name, misses=(f"{type(error).__name__}: {error}",))
    return future.result()


def _measured(name: str) -> Result:
    entry = next(entry for entry in entries() if entry.name == name)
    return measure(entry.name, entry.build())
