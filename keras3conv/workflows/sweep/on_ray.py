"""Run tasks on a Ray cluster: Ray schedules them, repeats those whose machine is lost, and returns their files."""

import tempfile
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from keras3conv.errors import InputError, message_of
from keras3conv.messages import count
from keras3conv.report.overview import Row, RowStatus
from keras3conv.steps import teller
from keras3conv.workflows.clusters import RETRIES, connected
from keras3conv.workflows.sweep.local import free_memory, processors
from keras3conv.workflows.sweep.process import run_task
from keras3conv.workflows.sweep.task import Task

Files = Mapping[str, bytes]
"""The contents of the files that a task wrote, by their paths in the folder of the task."""


def run_on_ray(tasks: Sequence[tuple[Task, Path]], address: str) -> Generator[Row, None, None]:
    """Run tasks on Ray and yield the row (the result) of each finished task. Closing the iterator cancels the others.

    Each task is a Ray task, whose worker process ends with the task. The worker starts the process of the model, so
    that limits and crashes are handled as in a local run. Ray sees a failure only if a worker or a machine is lost, and
    only then repeats the task.

    Args:
        tasks: The tasks, each with an empty folder, into which this process writes the files of the task.
        address: The address of a cluster; "auto" for the cluster of this machine, "local" for a new one.

    Raises:
        MissingExtra: Ray is not installed.
        InputError: There is no cluster at the address, or none of its machines has the resources that a task needs.
    """
    ray = connected(address, "a sweep on Ray")
    try:
        _require_room(ray, [task for task, _ in tasks])
        remote = ray.remote(max_calls=1, max_retries=RETRIES, retry_exceptions=False)(run_with_files)
        teller()("running", f"{count(len(tasks), 'task')} on Ray")
        pending = {remote.options(**_resources(task)).remote(task): (task, out) for task, out in tasks}
        try:
            while pending:
                (finished,), _ = ray.wait(list(pending), num_returns=1)
                task, out = pending.pop(finished)
                yield _received(ray, finished, task, out)
        finally:
            for reference in pending:
                ray.cancel(reference, force=True)
    finally:
        ray.shutdown()


def run_with_files(task: Task) -> tuple[Row, Files]:
    """Run a task on a machine of the cluster, in a temporary folder; return its row (the result) and its files."""
    with tempfile.TemporaryDirectory(prefix="keras3conv-") as folder:
        out = Path(folder)
        row = run_task(task, out, memory_limit=free_memory() // processors() * task.cpus)
        files = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
        return row, files


def _received(ray: Any, reference: Any, task: Task, out: Path) -> Row:
    """Return the row (the result) of a finished task, and write the files of the task.

    If the worker of the task was lost again and again, the row says so.
    """
    try:
        row, files = ray.get(reference)
    except (ray.exceptions.RayError, OSError) as error:
        first = message_of(error).strip().partition("\n")[0]
        killed = isinstance(error, ray.exceptions.OutOfMemoryError)
        status: RowStatus = "out of memory" if killed else "lost"
        row = Row(name=task.name, status=status, outcome=f"{type(error).__name__}: {first}", message=message_of(error))
        return replace(row, sides=task.sides, backend=task.backend, dtype=task.dtype, do=task.do)
    for name, content in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(content)
    received: Row = row
    return received


def _resources(task: Task) -> dict[str, Any]:
    needed: dict[str, Any] = {"num_cpus": task.cpus, "num_gpus": task.gpus}
    return {**needed, "memory": task.memory_limit} if task.memory_limit else needed


def _require_room(ray: Any, tasks: Sequence[Task]) -> None:
    """Raise `InputError` if a task needs more resources than any machine of the cluster has.

    Without this check, Ray would wait for ever.
    """
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    names = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}
    for task in tasks:
        needed = {names[key]: amount for key, amount in _resources(task).items()}
        if not any(all(machine.get(name, 0) >= amount for name, amount in needed.items()) for machine in machines):
            wanted = ", ".join(f"{name} {amount:g}" for name, amount in needed.items() if amount)
            raise InputError(f"{task.name} needs {wanted}, and no machine of the Ray cluster has that much")
