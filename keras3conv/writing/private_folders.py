"""Keep unfinished files in a private temporary folder beside their destinations.

The private folder has the same file system as the destinations, so a rename moves its files to them atomically. It has:

    new/NAME    the new files
    old/NAME    the files that they replace, while several files are moved
    moving      the names of the files that are moved together, in order; written before the first move
    job         the name of the job that made the new files, if another process may resume it

The name of a private folder contains the machine and the process. If a process is killed, the next process that writes
beside it cleans up: it reverts the moves unless all are done, and removes the private folder.
"""

import json
import os
import shutil
import socket
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

_NEW, _OLD, _MOVING, _JOB = "new", "old", "moving", "job"
_PREFIX = ".k3c"
_live: set[str] = set()
_numbers = count()


@dataclass(frozen=True)
class PrivateFolder:
    """A private temporary folder beside the destinations of new files."""

    path: Path

    def new(self, name: str) -> Path:
        """Return the temporary path of the new file or folder `name`."""
        return self.path / _NEW / name

    def old(self, name: str) -> Path:
        """Return the path to which the old file `name` is moved, while a new one takes its place."""
        return self.path / _OLD / name

    def destination(self, name: str) -> Path:
        """Return the final path of the new file `name`."""
        return self.path.parent / name

    def announce(self, names: Sequence[str]) -> None:
        """Write to disk the names of the files that will be moved together, before the first of them is moved."""
        note = self.path / _MOVING
        note.write_text(json.dumps(list(names)), encoding="utf-8")
        synchronise(note)
        synchronise(self.path)

    def set_aside(self, name: str) -> None:
        """Move the existing destination file with this name, if there is one, into the private folder."""
        if os.path.lexists(self.destination(name)):
            self.destination(name).rename(self.old(name))

    def move_in(self, name: str) -> None:
        """Move a new file from the private folder to its destination."""
        self.new(name).replace(self.destination(name))

    def undo(self, name: str) -> None:
        """Move a new file from its destination back into the private folder, and put the old file back."""
        if not os.path.lexists(self.new(name)) and os.path.lexists(self.destination(name)):
            self.destination(name).rename(self.new(name))
        if os.path.lexists(self.old(name)):
            self.old(name).rename(self.destination(name))

    def remove(self) -> None:
        """Delete the private folder and its content."""
        shutil.rmtree(self.path, ignore_errors=True)
        _live.discard(self.path.name)


def enter(folder: Path, job: str = "") -> PrivateFolder:
    """Create and return a private folder in `folder`, after cleaning up those of killed processes.

    Args:
        folder: The folder of the destinations.
        job: The name of the job. If a killed process left a private folder with the same job, it is used again.

    Raises:
        OSError: The folder cannot be written.
    """
    kept = None
    for left in _left_in(folder):
        private_folder = _claim(left)
        if private_folder is None:
            continue
        _revert(private_folder)
        if kept is None and job and _job_of(private_folder) == job:
            kept = private_folder
        else:
            private_folder.remove()
    return kept or _made(folder, job)


def synchronise(path: Path) -> None:
    """Flush a file, or a folder's list of file names, to disk (fsync)."""
    if os.name == "nt" and path.is_dir():  # Windows cannot open a folder
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _made(folder: Path, job: str) -> PrivateFolder:
    private_folder = PrivateFolder(folder / _name())
    _live.add(private_folder.path.name)
    try:
        private_folder.path.mkdir(mode=0o700)
        (private_folder.path / _NEW).mkdir()
        (private_folder.path / _OLD).mkdir()
        if job:
            (private_folder.path / _JOB).write_text(job, encoding="utf-8")
    except BaseException:
        private_folder.remove()
        raise
    return private_folder


def _name() -> str:
    return f"{_PREFIX}-{_machine()}-{os.getpid()}-{next(_numbers)}"


def _machine() -> str:
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def _left_in(folder: Path) -> Iterator[Path]:
    """Yield the private folders in `folder` that ended processes of this machine have left."""
    for name in sorted(path.name for path in folder.glob(f"{_PREFIX}-*")):
        pieces = name.split("-")
        if len(pieces) != 4 or pieces[1] != _machine() or not pieces[2].isdecimal() or name in _live:
            continue
        if not _is_running(int(pieces[2])):
            yield folder / name


def _is_running(process: int) -> bool:
    """Return whether a process, given by its identifier, is running; it must be another process than this one."""
    if process == os.getpid():
        return False
    if sys.platform == "win32":  # Windows has no signal that only tests a process
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _claim(left: Path) -> PrivateFolder | None:
    """Take over the private folder of a killed process by a rename; return None if another process was faster."""
    name = _name()
    _live.add(name)
    try:
        return PrivateFolder(left.rename(left.with_name(name)))
    except OSError:
        _live.discard(name)
        return None


def _revert(private_folder: PrivateFolder) -> None:
    """Undo all moves that a killed process announced; if it had completed all of them, the new files stay instead."""
    try:
        names = json.loads((private_folder.path / _MOVING).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # the list of names is written before the first move, so nothing was moved
        return
    if any(os.path.lexists(private_folder.new(name)) for name in names):
        for name in names:
            private_folder.undo(name)
        (private_folder.path / _MOVING).unlink()
        return
    (private_folder.path / _JOB).unlink(missing_ok=True)  # nothing is left to resume


def _job_of(private_folder: PrivateFolder) -> str:
    try:
        return (private_folder.path / _JOB).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
