"""Implement `keras3conv.sweep`: check all tasks, run those that have no result yet, and write the tables."""

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from keras3conv.errors import InputError, require
from keras3conv.messages import count
from keras3conv.report.environment import current_environment
from keras3conv.report.overview import Overview, Row
from keras3conv.steps import step
from keras3conv.workflows.sweep.checks import faults_of_factories, faults_of_files
from keras3conv.workflows.sweep.fingerprint import Digests, changed_files, fingerprint, is_done
from keras3conv.workflows.sweep.folder import Results, opened, read_results
from keras3conv.workflows.sweep.local import default_jobs, run_locally
from keras3conv.workflows.sweep.reading import LocatedTask, Sweep, read_file, read_tasks
from keras3conv.workflows.sweep.task import Task

Progress = Callable[[Row, int, int], None]
"""A function to call after every task, with its row (the result), and the numbers of finished and of all tasks."""

Started = Callable[[str, Path], None]
"""A function to call when the process of a task starts, with the name of the task and the path of its log."""

Kept = Callable[[Sequence[Row], Sequence[str]], None]
"""A function to call before the first task runs, with the results of an earlier start that still count.

It also gets the files that have changed since the other results.
"""

_CHECK = "checking the file"

_TABLE_SECONDS = 10.0
"""The interval, in seconds, at which the result tables are rewritten while tasks run."""


@dataclass(frozen=True, kw_only=True)
class _Todo:
    """The tasks of a sweep, divided into those with a valid result from an earlier run, and those that must run.

    `done` has the valid results (rows) by task name, `run` the tasks that must run. `prints` has, by task name, the
    fingerprint of every task, and the digests of the files that the fingerprint covers. `changed` has the files that
    have changed since the results that are not valid any more.
    """

    done: Mapping[str, Row]
    run: tuple[LocatedTask, ...]
    prints: Mapping[str, tuple[str, Digests]]
    changed: tuple[str, ...]


def sweep(  # noqa: PLR0913 - a parameter for every option of a sweep
    tasks: str | PathLike[str] | Sequence[Mapping[str, Any]],
    out: str | PathLike[str],
    *,
    name: str = "sweep",
    jobs: int | None = None,
    ray: str | None = None,
    compare: str | PathLike[str] | None = None,
    retry: bool = False,
    progress: Progress | None = None,
    started: Started | None = None,
    kept: Kept | None = None,
) -> Overview:
    """Align, transfer, convert and validate many models, each task in a separate process.

    Everything is checked before anything runs. A task that crashes or exceeds a limit gives a row with this status. A
    second call runs only tasks without a result, or whose options, files, code or versions changed.

    Args:
        tasks: The path of a sweep file (TOML), or the tasks: dicts with the keys of a sweep file.
        out: The folder of the results, which is made if it is new.
        name: The name of the sweep, if `tasks` is not a path.
        jobs: The number of processes at a time; by default as many as the processors and the memory allow.
        ray: Run the tasks on a Ray cluster: its address, "auto" for the cluster of this machine, or "local".
        compare: The folder of the results of an earlier sweep; the tables begin with what has changed since then.
        retry: Whether to run the tasks again that did not pass.
        progress: A function that is called after every task, with its row, the number of finished and of all tasks.
        started: A function that is called when a task starts on this machine, with its name and the path of its log.
        kept: A function that is called before the first task runs, with the rows that still count and changed files.

    Returns:
        An overview, whose `ok` is True if every task passed. The folder has it as index.html and results.jsonl.

    Raises:
        InputError: Something is wrong with the tasks; the message has all of it, with lines.
        FileError: The folder has other files, or the results of another sweep.
        MissingExtra: jinja2 or Ray is not installed.
        KeyboardInterrupt: The sweep was interrupted; the message has the number of finished tasks.

    Example:
        >>> overview = k3c.sweep("sweep.toml", "results")
        >>> print(overview.tally)
    """
    _require(jobs, ray)
    origin = Path(tasks) if isinstance(tasks, str | PathLike) else None
    with step(_CHECK):
        read = read_tasks(tasks, name) if not isinstance(tasks, str | PathLike) else read_file(Path(tasks))
        faults = faults_of_files(read.placed)
        if read.faults:  # mistakes in the text are reported at once, without importing frameworks
            read.require(faults)
        if faults:
            read.require([*faults, *faults_of_factories(read.placed)])
        earlier = None if compare is None else read_results(Path(compare))
    with opened(Path(out), read.name, origin) as results:
        with step(_CHECK):
            todo = _sorted_out(read, results.rows(), retry=retry)
            read.require(faults_of_factories(todo.run))
        if kept:
            kept(tuple(todo.done.values()), todo.changed)
        return _run(read, todo, results, earlier, _Where(jobs=jobs or read.jobs, ray=ray, started=started), progress)


def _require(jobs: int | None, ray: str | None) -> None:
    """Raise the error of a missing package or a wrong number of processes, before tasks run for hours."""
    require("a sweep", "jinja2", *(["ray"] if ray else []))
    if jobs is not None and jobs < 1:
        raise InputError(f"jobs must be at least 1, but is {jobs}")


@dataclass(frozen=True, kw_only=True)
class _Where:
    """The machines that run the tasks: this one, with a number of processes (0 for the default), or a Ray cluster.

    `started` is called when a task starts on this machine.
    """

    jobs: int
    ray: str | None
    started: Started | None

    def run(self, tasks: Sequence[tuple[Task, Path]]) -> Generator[Row, None, None]:
        if self.ray is None:
            return run_locally(tasks, self.jobs or default_jobs(), self.started)
        from keras3conv.workflows.sweep.on_ray import run_on_ray

        return run_on_ray(tasks, self.ray)


def _sorted_out(read: Sweep, rows: Sequence[Row], *, retry: bool) -> _Todo:
    """Divide the tasks into those with a valid result from an earlier run, and those that must run.

    Args:
        read: The tasks of the sweep.
        rows: The rows (results) of earlier runs.
        retry: Whether tasks that did not pass must run again.
    """
    by_name = {row.name: row for row in rows}
    known = {path: facts for row in rows for path, facts in row.digests.items()}
    prints = {}
    done, run = {}, []
    changed: list[str] = []
    for one in read.placed:
        prints[one.task.name] = fingerprint(one.task, known)
        known |= prints[one.task.name][1]
        row = by_name.get(one.task.name)
        if (
            row is not None
            and is_done(row, one.task, prints[one.task.name][0])
            and (row.status == "passed" or not retry)
        ):
            done[row.name] = row
        else:
            run.append(one)
            changed += changed_files(row, prints[one.task.name][1]) if row is not None else ()
    return _Todo(done=done, run=tuple(run), prints=prints, changed=tuple(dict.fromkeys(changed)))


def _run(
    read: Sweep,
    todo: _Todo,
    results: Results,
    earlier: tuple[Row, ...] | None,
    where: _Where,
    progress: Progress | None,
) -> Overview:
    rows = dict(todo.done)
    total = len(read.placed)

    def overview() -> Overview:
        ordered = tuple(rows.get(one.task.name) or _not_run(one.task) for one in read.placed)
        return Overview(name=read.name, rows=ordered, earlier=earlier, environment=current_environment())

    results.begin_rows()
    results.write_tables(overview())
    written = time.monotonic()
    started = [(one.task, results.begin(one.task.name)) for one in todo.run]
    try:
        with closing(where.run(started)) as running:
            for row in running:
                print_of, digests = todo.prints[row.name]
                rows[row.name] = results.keep(replace(row, fingerprint=print_of, digests=digests))
                if progress:
                    progress(rows[row.name], len(rows), total)
                if time.monotonic() - written > _TABLE_SECONDS:
                    results.write_tables(overview())
                    written = time.monotonic()
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"{len(rows)} of {count(total, 'task')} finished; start the same command again to continue"
        ) from None
    finally:
        results.finish(overview().rows)
        results.write_tables(overview())
    return overview()


def _not_run(task: Task) -> Row:
    return Row(name=task.name, status="not run", sides=task.sides, backend=task.backend, dtype=task.dtype, do=task.do)
