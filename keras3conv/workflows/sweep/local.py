"""Run tasks on this machine, with as many parallel processes as the processors and the memory allow."""

import os
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from keras3conv.errors import listed
from keras3conv.report.overview import Row
from keras3conv.steps import teller
from keras3conv.workflows.sweep.process import LOG, run_task
from keras3conv.workflows.sweep.task import Task

MEMORY_OF_A_TASK = 2 * 1024**3
"""The memory in bytes that is reserved for a task without a limit: enough for both frameworks and a small model."""


def processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory() -> int:
    """Return the available memory in bytes; the total memory of the machine if the system does not report it."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def default_jobs() -> int:
    """Return the default number of parallel processes, which the processors and the memory of this machine allow."""
    return max(1, min(processors(), free_memory() // MEMORY_OF_A_TASK))


class _Resources:
    """The processors and the memory of this machine that running tasks do not use."""

    def __init__(self, cpus: int, memory: int) -> None:
        self._all = cpus, memory
        self._cpus, self._memory = cpus, memory
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, cpus: int, memory: int) -> Iterator[None]:
        """Reserve processors and memory during the with statement; wait until they are available.

        Args:
            cpus: The number of processors; if the machine has fewer, all of them.
            memory: The bytes of memory; if the machine has less, all of it.
        """
        cpus, memory = min(cpus, self._all[0]), min(memory, self._all[1])
        with self._changed:
            self._changed.wait_for(lambda: self._cpus >= cpus and self._memory >= memory)
            self._cpus, self._memory = self._cpus - cpus, self._memory - memory
        try:
            yield
        finally:
            with self._changed:
                self._cpus, self._memory = self._cpus + cpus, self._memory + memory
                self._changed.notify_all()


def run_locally(
    tasks: Sequence[tuple[Task, Path]], jobs: int, started: Callable[[str, Path], None] | None = None
) -> Generator[Row, None, None]:
    """Run tasks and yield the row (the result) of each finished task. Closing the iterator kills the running processes.

    Args:
        tasks: The tasks, each with an empty folder for its files.
        jobs: The number of processes at a time.
        started: A function to call, from any thread, when a task starts: with its name and the path of its log.
    """
    memory = free_memory()
    share, resources, stopped = memory // jobs, _Resources(jobs, memory), threading.Event()
    tell, names = teller(), list[str]()

    def run(task: Task, out: Path) -> Row:
        with resources.taken(task.cpus, task.memory_limit or share):
            names.append(task.name)
            tell("running", listed(names, 5))
            if started and not stopped.is_set():
                started(task.name, out / LOG)
            try:
                return run_task(task, out, memory_limit=share, is_stopped=stopped.is_set)
            finally:
                names.remove(task.name)
                if names:
                    tell("running", listed(names, 5))

    with ThreadPoolExecutor(jobs) as pool:
        waiting = iter(tasks)
        pending: set[Future[Row]] = {pool.submit(run, *one) for one in islice(waiting, jobs)}
        try:
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
                # Only now, so that the caller has told the results before the next tasks start.
                pending |= {pool.submit(run, *one) for one in islice(waiting, len(done))}
        finally:
            stopped.set()
            for future in pending:
                future.cancel()
