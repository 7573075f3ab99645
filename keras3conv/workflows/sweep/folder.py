"""Store the results of a sweep in a folder: one line of JSON per finished task, tables, and the files of tasks."""

import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from keras3conv.errors import FileError, InputError
from keras3conv.report.overview import Overview, Row, read_rows
from keras3conv.workflows.sweep.process import LOG
from keras3conv.writing.outputs import replacing

ROWS, FORMER = "results.jsonl", "former.jsonl"
_IDENTITY = "sweep.json"
_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Results:
    """The results folder of one sweep, locked against other processes."""

    path: Path

    def rows(self) -> tuple[Row, ...]:
        """Return the results of earlier runs; an incomplete last line, which a killed process has left, is deleted."""
        file = self.path / ROWS
        if not file.exists():
            return ()
        content = file.read_bytes()
        complete = content[: content.rfind(b"\n") + 1]
        if len(complete) < len(content):
            _write(file, complete.decode())
        return read_rows(complete.decode().splitlines(), str(file))

    def begin_rows(self) -> None:
        """Create an empty `results.jsonl` if there is none, so that other programs can follow it from the start."""
        (self.path / ROWS).touch()

    def begin(self, name: str) -> Path:
        """Return a new empty folder for the files of the task `name`.

        Files that an earlier run left in it are deleted.
        """
        folder = self.path / "tasks" / f".{name}.part"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def keep(self, row: Row) -> Row:
        """Keep a finished task: move its files to "tasks/NAME", and append its row (the result) to `results.jsonl`.

        Returns:
            The row with the paths of the files after the move.
        """
        part, kept = self.path / "tasks" / f".{row.name}.part", self.path / "tasks" / row.name
        shutil.rmtree(kept, ignore_errors=True)
        part.rename(kept)
        row = replace(
            row,
            report=_within(row.name, row.report),
            log=_within(row.name, row.log),
            files=tuple(replace(file, path=_within(row.name, file.path)) for file in row.files),
        )
        with (self.path / ROWS).open("a", encoding="utf-8") as file:
            file.write(row.to_json() + "\n")
            file.flush()
            os.fsync(file.fileno())
        return row

    def write_tables(self, overview: Overview) -> None:
        """Write the overview of the sweep into the folder, as Markdown and HTML."""
        from keras3conv.report.html import write_overview as to_html
        from keras3conv.report.overview_text import to_markdown

        _write(self.path / "index.html", to_html(overview))
        _write(self.path / "results.md", to_markdown(overview))

    def finish(self, rows: Sequence[Row]) -> None:
        """Rewrite `results.jsonl` with one row for each task of the sweep, in the order of `rows`.

        Rows of tasks that the sweep no longer has are moved to `former.jsonl`.
        """
        names = {row.name for row in rows}
        former = [row for row in self.rows() if row.name not in names]
        if former:
            with (self.path / FORMER).open("a", encoding="utf-8") as file:
                file.writelines(f"{row.to_json()}\n" for row in former)
        _write(self.path / ROWS, "".join(f"{row.to_json()}\n" for row in rows if row.status != "not run"))


@contextmanager
def opened(path: Path, name: str, origin: Path | None) -> Iterator[Results]:
    """Open the results folder of a sweep (create it if missing) for the duration of a with statement.

    Args:
        path: The folder.
        name: The name of the sweep.
        origin: The sweep file; None if the tasks come from a program.

    Raises:
        FileError: The folder has other files, the results of another sweep, or another process writes into it.
    """
    identity = {"format": _FORMAT, "name": name, "file": os.path.relpath(origin, path) if origin else ""}
    if path.exists() and not path.is_dir():
        raise FileError(f"{path} exists and is not a folder; choose another name for the results")
    if not path.absolute().parent.is_dir():
        raise FileError(f"{path} cannot be made, because the folder {path.absolute().parent} does not exist")
    _require_own(path, identity)
    path.mkdir(exist_ok=True)
    with (path / _IDENTITY).open("a+", encoding="utf-8") as file:
        _lock(file.fileno(), path)
        file.seek(0)
        if not file.read():
            file.write(json.dumps(identity) + "\n")
            file.flush()
        _remove_parts(path)
        try:
            yield Results(path=path)
        finally:
            _remove_parts(path)


def interrupted_tasks(path: Path) -> list[str]:
    """Return the names of the tasks that were running when the last process that wrote into a folder was killed."""
    return sorted(part.name[1 : -len(".part")] for part in _parts(path) if (part / LOG).exists())


def _parts(path: Path) -> Iterator[Path]:
    """Yield the folders of unfinished tasks; if no process holds the lock, those of a process that was killed."""
    yield from (path / "tasks").glob(".*.part")


def _remove_parts(path: Path) -> None:
    for part in _parts(path):
        shutil.rmtree(part, ignore_errors=True)


def read_results(path: Path) -> tuple[Row, ...]:
    """Return the rows (results of tasks) in the results folder of a sweep.

    Raises:
        InputError: The folder has no results, or they cannot be read.
    """
    file = path / ROWS
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} has no results of a sweep: {file} cannot be read: {error}") from error
    return read_rows(text[: text.rfind("\n") + 1].splitlines(), str(file))


def _require_own(path: Path, identity: dict[str, object]) -> None:
    if not path.exists() or not any(path.iterdir()):
        return
    fix = "Fix:  -o ANOTHER-FOLDER"
    file = path / _IDENTITY
    if not file.exists():
        raise FileError(f"{path} contains files that are not results of a sweep\n{fix}")
    try:
        found = json.loads(file.read_text(encoding="utf-8") or "null")
    except (OSError, ValueError) as error:
        raise FileError(f"{file} cannot be read: {error}\n{fix}") from error
    if found not in (identity, None):
        of = f"{found.get('name')!r} of {found.get('file') or 'a program'}" if isinstance(found, dict) else repr(found)
        raise FileError(f"{path} has the results of another sweep, {of}, which are kept\n{fix}")


def _lock(descriptor: int, path: Path) -> None:
    """Lock a results folder until its lock file is closed or the process ends; Windows has no such lock.

    Args:
        descriptor: The open lock file.
        path: The folder, for the message if another process has the lock.
    """
    if sys.platform != "win32":
        import fcntl

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise FileError(f"another process writes into {path}: wait until it has ended") from error


def _within(name: str, path: str) -> str:
    return f"tasks/{name}/{path}" if path else ""


def _write(path: Path, text: str) -> None:
    with replacing(path, overwrite=True) as temporary:
        temporary.write_text(text, encoding="utf-8")
