"""Define the commands for many models: `sweep`, and `card`, which describes one conversion for a model hub."""

import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from keras3conv.cli.app import FAILED, PASSED, command, note
from keras3conv.cli.options import Debug, Json, Overwrite
from keras3conv.errors import listed
from keras3conv.messages import count

if TYPE_CHECKING:
    from keras3conv.report.overview import Row
    from keras3conv.workflows.sweep.run import Progress, Started


@command(
    "keras3conv sweep sweep.toml -o results/\n"
    "  keras3conv sweep sweep.toml -o results/ --retry\n"
    "  keras3conv sweep sweep.toml -o new/ --compare results/\n"
    "  keras3conv sweep sweep.toml -o results/ --ray --ray-address 10.0.0.1:6379",
    on_interrupt="start the same command again to continue",
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
    retry: Annotated[bool, typer.Option("--retry", help="Rerun the tasks that did not pass.")] = False,
    on_ray: Annotated[bool, typer.Option("--ray", help="Run the tasks on a Ray cluster.")] = False,
    ray_address: Annotated[
        str,
        typer.Option(metavar="ADDRESS", help="The cluster: an address, auto for the one of this machine, or local."),
    ] = "auto",
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """Align, transfer, convert and validate many models, each in a separate process with limits.

    Everything in the file is checked before anything runs. A second start runs only what is missing or changed. The
    results are in index.html, results.md and results.jsonl of the folder. The exit status is 0 if every task passed,
    1 if a task did not, 2 if the file or the folder cannot be used.
    """
    from keras3conv.report.overview_text import to_text
    from keras3conv.workflows.sweep.folder import interrupted_tasks
    from keras3conv.workflows.sweep.run import sweep as run

    with _interrupted_by_termination(), _progress() as (progress, started):
        overview = run(
            file,
            out,
            jobs=jobs,
            ray=ray_address if on_ray else None,
            compare=compare,
            retry=retry,
            progress=progress,
            started=started,
            kept=partial(_tell_kept, interrupted_tasks(out)),
        )
    note(f"saved {out / 'index.html'}")
    print(overview.to_json() if as_json else to_text(overview, out))
    return PASSED if overview.ok else FAILED


def _tell_kept(interrupted: Sequence[str], rows: "Sequence[Row]", changed: Sequence[str]) -> None:
    """Print how many tasks have a result already, and are not run, and which files have changed; nothing for none.

    Args:
        interrupted: The tasks that were running when an earlier start was killed.
        rows: The results of an earlier start that still count.
        changed: The files that have changed since the other results.
    """
    if changed:
        named = listed([os.path.relpath(path) for path in changed], 5)
        have = "has" if len(changed) == 1 else "have"
        note(f"{named} {have} changed since the last start: the tasks that read {_it(changed)} run again")
    if not rows and not interrupted:
        return
    failed = [row.name for row in rows if row.status != "passed"]
    again = f", of which {len(failed)} did not pass: --retry runs {_it(failed)} again" if failed else ""
    has = "has" if len(rows) == 1 else "have"
    killed = f"; an earlier start was killed while it ran {listed(interrupted, 5)}: tasks without a result start again"
    note(f"{count(len(rows), 'task')} {has} a result already{again}{killed if interrupted else ''}")


def _it(those: Sequence[object]) -> str:
    return "it" if len(those) == 1 else "them"


@command(
    "keras3conv card net/ --license apache-2.0 --source model.h5 -o net/README.md\n"
    "  keras3conv card net.safetensors --report report.json --license mit"
)
def card(  # noqa: PLR0913 - an argument for every option
    model: Annotated[
        Path, typer.Argument(metavar="FOLDER|FILE", help="A folder or file that convert or transfer wrote.")
    ],
    *,
    licence: Annotated[str, typer.Option("--license", metavar="NAME", help="The licence of the weights.")] = "",
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="The report of validate; by default FOLDER/report.json.")
    ] = None,
    source: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="A file the model was made of; may be repeated.")
    ] = None,
    name: Annotated[
        str, typer.Option(metavar="NAME", help="The name; by default that of the model, folder or file.")
    ] = "",
    base_model: Annotated[
        str, typer.Option(metavar="OWNER/NAME", help="The model on the hub of which this is a conversion.")
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="README.md", help="Save the card here instead of printing it."),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """Write the model card of one conversion, and the line of its files for the table of a model zoo.

    The card has a YAML header as model hubs expect it: the verdicts, the noise floor, files and sources with digests,
    versions, how to load the model. With -o the card is saved, and the lines are printed: name, size, sha256, md5.
    A file whose digest is not that in the report is refused.
    """
    from keras3conv.report import html
    from keras3conv.report.card import registry_line
    from keras3conv.workflows.card import absent_code, make_card, write_card

    made = make_card(model, report=report, sources=source or (), licence=licence, name=name, base_model=base_model)
    lines = [registry_line(file) for file in made.files]
    if not licence:
        note("the card names no licence: a hub asks for one; add --license apache-2.0, or another")
    elif (named := "-".join(licence.lower().split())) != licence:
        note(f"hubs name a licence in small letters, without spaces: --license {quote(named)}")
    for file in made.unnamed:
        note(f"the certificate does not name this file: {file.path}")
    for file in made.unread:
        note(f"the certificate does not name this source: {file.path}; the card says that you name it")
    for absent in absent_code(made, model if model.is_dir() else model.parent):
        note(f"model.py imports {absent}, which is not in the folder: copy it there, and make the card again")
    if out:
        write_card(made, out, overwrite=overwrite)
        note(f"saved {out}")
    if as_json:
        print(json.dumps({"card": html.write_card(made), "files": [vars(file) for file in made.files]}, indent=1))
    else:
        print("\n".join(lines if out else [html.write_card(made), *lines]))
    return PASSED if made.report.ok else FAILED


@contextmanager
def _interrupted_by_termination() -> Iterator[None]:
    """Treat a request to end the process (SIGTERM) like Ctrl-C: kill running tasks, and write the tables."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _progress() -> Iterator[tuple["Progress", "Started | None"]]:
    """Yield two functions: one for each finished task, and one for each task that starts.

    The first prints a line on stderr, above a bar if stderr is a terminal. The second prints a line, too; it is None on
    a terminal, where the tasks that run are shown anyway.
    """
    from keras3conv.report.overview_text import row_line

    def tell_plainly(row: "Row", done: int, total: int) -> None:
        note(row_line(row, done, total))

    if not sys.stderr.isatty():
        yield tell_plainly, lambda name, log: note(f"running {name}, log {log}")
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("sweep"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("sweep", total=None)

        def tell(row: "Row", done: int, total: int) -> None:
            bar.console.print(row_line(row, done, total), markup=False, highlight=False)
            bar.update(task, completed=done, total=total)

        yield tell, None
