"""Show the current step of a command on stderr: in one line on a terminal, with `--verbose` in a line for each step."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from keras3conv.steps import listening


@contextmanager
def shown(*, verbose: bool, quiet: bool) -> Iterator[None]:
    """Show the steps that run inside the with statement; in a pipe they are shown only with `--verbose`.

    Args:
        verbose: Whether to print every step with its seconds.
        quiet: Whether to show nothing.
    """
    if verbose:
        with listening(_print_seconds):
            yield
    elif quiet or not sys.stderr.isatty():
        yield
    else:
        with _status():
            yield


def _print_seconds(name: str, seconds: float | None) -> None:
    if seconds is not None:
        print(f"{seconds:8.2f} s  {name}", file=sys.stderr)


@contextmanager
def _status() -> Iterator[None]:
    """Show the current step and its seconds on one line, which disappears at the end."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("starting", total=None)

        def show(name: str, seconds: float | None) -> None:
            if seconds is None and ": " in name:
                progress.update(task, description=name)  # the same step goes on
            elif seconds is None:
                progress.reset(task, description=name, total=None)

        with listening(show):
            yield
