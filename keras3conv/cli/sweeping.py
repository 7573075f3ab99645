"""Define the commands for many models: `sweep`, and `card`, which describes one conversion for a model hub."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keras3conv.cli.app import FAILED, PASSED, command, note
from keras3conv.cli.options import Debug, Json
from keras3conv.messages import count

if TYPE_CHECKING:
    from keras3conv.report.overview import Row


@command(
    "keras3conv sweep sweep.toml -o results/\n"
    "  keras3conv sweep sweep.toml -o results/ --retry\n"
    "  keras3conv sweep sweep.toml -o new/ --compare results/\n"
    "  keras3conv sweep sweep.toml -o results/ --ray --ray-address ray://head:10001"
)
def sweep(  # noqa: PLR0913 - an argument for every option
    file: Annotated[Path, typer.Argument(metavar="SWEEP.toml", help="The file with the tasks; see docs/sweep.md.")],
    *,
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="FOLDER", help="The folder of the results, new or of this sweep.")
    ],
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes at a time; by default what processors and memory allow.")
    ] = None,
    compare: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The results of an earlier sweep, to show what got worse.")
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Run the tasks again that did not pass.")] = False,
    on_ray: Annotated[bool, typer.Option("--ray", help="Run the tasks on a Ray cluster.")] = False,
    ray_address: Annotated[
        str,
        typer.Option(metavar="ADDRESS", help="The cluster: an address, auto for the one of this machine, or local."),
    ] = "auto",
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """Align, transfer, convert and validate many models, each in a process of its own with limits.

    Everything in the file is checked before anything runs. A second start runs only what is missing or changed. The
    results are in index.html, results.md and results.jsonl of the folder. The exit status is 0 if every task passed,
    1 if a task did not, 2 if the file or the folder cannot be used.
    """
    from keras3conv.report.overview_text import to_text
    from keras3conv.workflows.sweep.run import sweep as run

    names: list[str] = []
    with _interrupted_by_termination(), _progress(names) as progress:
        overview = run(
            file,
            out,
            jobs=jobs,
            ray=ray_address if on_ray else None,
            compare=compare,
            retry=retry,
            progress=progress,
        )
    if kept := len(overview.rows) - len(names):
        note(f"{count(kept, 'task')} had a result already")
    print(overview.to_json() if as_json else to_text(overview))
    note(f"saved {out / 'index.html'}")
    return PASSED if overview.ok else FAILED


@contextmanager
def _interrupted_by_termination() -> Iterator[None]:
    """Treat a request to end the process like Ctrl-C: running tasks are killed, and the tables are written."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _progress(names: list[str]) -> Iterator[Callable[["Row", int, int], None]]:
    """Yield a function that prints a line for each finished task on stderr, above a bar if stderr is a terminal.

    Args:
        names: A list to which the names of the finished tasks are added.
    """
    from keras3conv.report.overview_text import row_line

    def tell_plainly(row: "Row", done: int, total: int) -> None:
        names.append(row.name)
        note(row_line(row, done, total))

    if not sys.stderr.isatty():
        yield tell_plainly
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("sweep"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("sweep", total=None)

        def tell(row: "Row", done: int, total: int) -> None:
            names.append(row.name)
            bar.console.print(row_line(row, done, total), markup=False, highlight=False)
            bar.update(task, completed=done, total=total)

        yield tell


__all__ = ["sweep"]
