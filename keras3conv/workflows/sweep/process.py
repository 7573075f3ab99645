"""Run a task in a separate process with limits of time and memory; even a crash gives a result."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from keras3conv.report.overview import Row, RowStatus, StepResult
from keras3conv.workflows.sweep.task import Task
from keras3conv.workflows.sweep.worker import RESULT
from keras3conv.writing.digests import WrittenFile

POLL_SECONDS = 0.1
"""The interval in seconds at which the memory of a process is measured."""

LOG = "log.txt"
"""The name of the file with the output of the process, in the folder of the task."""

_LAST_LINES = 12
_NOISE = ("WARNING: All log messages before absl", "I0000 ", "W0000 ", "E0000 ")


@dataclass(frozen=True, kw_only=True)
class _End:
    """The end of a process: exit status, time, memory, and the limit for which it was killed (empty for none)."""

    code: int
    seconds: float
    peak_memory: int
    killed_for: str = ""


class Stopped(Exception):
    """The sweep was interrupted, so the process of the task was killed, and the task has no result."""


def run_task(task: Task, out: Path, *, memory_limit: int, is_stopped: Callable[[], bool] = lambda: False) -> Row:
    """Run a task in a new process and return its row in the table of results.

    Args:
        task: The task.
        out: An empty folder for the files of the process.
        memory_limit: The memory limit in bytes for a task that sets none.
        is_stopped: Returns whether the sweep was interrupted; it is called several times per second.

    Raises:
        Stopped: The sweep was interrupted.
    """
    limit = task.memory_limit or memory_limit
    (out / "task.json").write_text(json.dumps(task.to_json()), encoding="utf-8")
    end = _supervise(task, out, limit, is_stopped)
    row = Row(
        name=task.name,
        status="crashed",
        sides=task.sides,
        backend=task.backend,
        dtype=task.dtype,
        do=task.do,
        seconds=round(end.seconds, 2),
        peak_memory=end.peak_memory,
        time_limit=task.time_limit,
        memory_limit=limit,
        log=LOG,
    )
    made = out / RESULT
    if end.killed_for or not made.exists():
        status, outcome = _reason(end, task, limit)
        return replace(row, status=status, outcome=outcome, message=_last_lines(out / LOG))
    result = json.loads(made.read_text(encoding="utf-8"))
    made.unlink()
    return _with_result(row, result, out)


def _with_result(row: Row, result: Mapping[str, Any], out: Path) -> Row:
    return replace(
        row,
        status=result["status"],
        outcome=result["outcome"],
        message=result["message"],
        steps=tuple(StepResult(**part) for part in result["steps"]),
        proofs=tuple(StepResult(**part) for part in result["proofs"]),
        files=tuple(WrittenFile(**file) for file in result["files"]),
        report="report.html" if (out / "report.html").exists() else "",
        sources=result["sources"],
    )


def _reason(end: _End, task: Task, limit: int) -> tuple[RowStatus, str]:
    """Return the status of a task whose process wrote no result, such as "timed out", and the reason as a sentence.

    Args:
        end: The exit status of the process, its time and memory, and the limit for which it was killed.
        task: The task.
        limit: The memory limit in bytes.
    """
    if end.killed_for == "time":
        return "timed out", f"the task did not finish within its time limit of {task.time_limit:g} seconds"
    if end.killed_for == "memory":
        return "out of memory", (
            f"the task used {megabytes(end.peak_memory)} of memory, but its limit is {megabytes(limit)}"
        )
    if end.code == -signal.SIGKILL:
        return "out of memory", "the process was killed from outside: the system has probably run out of memory"
    if end.code < 0:
        return "crashed", f"the process of the task was ended by the signal {signal.Signals(-end.code).name}"
    return "crashed", f"the process ended with exit status {end.code} and without a result"


def megabytes(size: int) -> str:
    """Return a number of bytes as text in MiB."""
    return f"{size / 1024**2:,.0f} MiB"


def _supervise(task: Task, out: Path, limit: int, is_stopped: Callable[[], bool]) -> _End:
    """Run the process of a task until it ends, or kill it with all its children when it exceeds a limit.

    Args:
        task: The task.
        out: The folder with `task.json`, in which the process writes.
        limit: The memory limit in bytes; 0 for none.
        is_stopped: Returns whether the sweep was interrupted.

    Raises:
        Stopped: The sweep was interrupted.
    """
    command = [sys.executable, "-m", "keras3conv.workflows.sweep.worker", str(out.resolve()), str(os.getpid())]
    began, peak = time.monotonic(), 0
    with (out / LOG).open("wb") as log:
        process = subprocess.Popen(
            command,
            env=_environment(task),
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    killed_for = ""
    try:
        while not killed_for:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=POLL_SECONDS)
                break
            peak = max(peak, sum(map(_memory, _family(process.pid))))
            if is_stopped():
                raise Stopped
            if time.monotonic() - began > task.time_limit:
                killed_for = "time"
            elif limit and peak > limit:
                killed_for = "memory"
    finally:
        _kill(process)
    return _End(code=process.wait(), seconds=time.monotonic() - began, peak_memory=peak, killed_for=killed_for)


def _environment(task: Task) -> dict[str, str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment["TF_CPP_MIN_LOG_LEVEL"] = "3"
    if task.backend:
        environment["KERAS_BACKEND"] = task.backend
    # Tasks run in parallel: without a limit, each would start as many threads as there are processors.
    environment.setdefault("OMP_NUM_THREADS", str(task.cpus))
    return environment


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill all processes in the session of a process, including children that run on after the process has ended."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _family(pid: int) -> Iterator[int]:
    """Yield the identifiers of a process and all its children, as Linux lists them.

    On other systems, yield only the identifier of the process.
    """
    yield pid
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                yield from _family(int(child))


def _memory(pid: int) -> int:
    """Return the resident memory of a process in bytes; 0 if the system does not report it."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _last_lines(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return "\n".join([line for line in lines if not line.startswith(_NOISE)][-_LAST_LINES:])
