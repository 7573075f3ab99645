"""Keep unfinished files in a private temporary folder (a room) beside their destinations.

A room has the same file system as the destinations, so that a rename moves its files to them atomically. It holds:

    new/NAME    the new files
    old/NAME    the files that they replace, while several files are moved
    moving      the names of the files that are moved together, in order; written before the first move
    job         the name of the job that made the new files, if another process may resume it

The name of a room contains the machine and the process. If a process is killed, the next process that writes to the
folder cleans up: it reverts the moves unless all are done, and removes the room.
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
class Room:
    """A private temporary folder beside the destinations of new files."""

    path: Path

    def new(self, name: str) -> Path:
        """Return the path of a new file or folder."""
        return self.path / _NEW / name

    def old(self, name: str) -> Path:
        """Return the path of the file or folder that is replaced."""
        return self.path / _OLD / name

    def destination(self, name: str) -> Path:
        """Return the final path of a new file."""
        return self.path.parent / name

    def announce(self, names: Sequence[str]) -> None:
        """Write the names of the files to be moved together to disk, before the first move."""
        note = self.path / _MOVING
        note.write_text(json.dumps(list(names)), encoding="utf-8")
        synchronise(note)
        synchronise(self.path)

    def set_aside(self, name: str) -> None:
        """Move the file with this name into the room, if there is one."""
        if os.path.lexists(self.destination(name)):
            self.destination(name).rename(self.old(name))

    def move_in(self, name: str) -> None:
        """Move a new file from the room to its destination."""
        self.new(name).replace(self.destination(name))

    def undo(self, name: str) -> None:
        """Move a new file back into the room, and the file that it replaced back to its name."""
        if not os.path.lexists(self.new(name)) and os.path.lexists(self.destination(name)):
            self.destination(name).rename(self.new(name))
        if os.path.lexists(self.old(name)):
            self.old(name).rename(self.destination(name))

    def remove(self) -> None:
        """Delete the room and its content."""
        shutil.rmtree(self.path, ignore_errors=True)
        _live.discard(self.path.name)


def enter(folder: Path, job: str = "") -> Room:
    """Return a new room in a folder, after cleaning up the rooms of killed processes.

    Args:
        folder: The folder of the destinations.
        job: The name of the job. A room that a killed process left with the same job is used again, with its files.

    Raises:
        OSError: The folder cannot be written.
    """
    kept = None
    for left in _left_in(folder):
        room = _claim(left)
        if room is None:
            continue
        _revert(room)
        if kept is None and job and _job_of(room) == job:
            kept = room
        else:
            room.remove()
    return kept or _made(folder, job)


def synchronise(path: Path) -> None:
    """Flush a file, or a folder's list of names, from memory to disk."""
    if os.name == "nt" and path.is_dir():  # Windows cannot open a folder
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _made(folder: Path, job: str) -> Room:
    room = Room(folder / _name())
    _live.add(room.path.name)
    try:
        room.path.mkdir(mode=0o700)
        (room.path / _NEW).mkdir()
        (room.path / _OLD).mkdir()
        if job:
            (room.path / _JOB).write_text(job, encoding="utf-8")
    except BaseException:
        room.remove()
        raise
    return room


def _name() -> str:
    return f"{_PREFIX}-{_machine()}-{os.getpid()}-{next(_numbers)}"


def _machine() -> str:
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def _left_in(folder: Path) -> Iterator[Path]:
    """Yield the rooms in a folder whose process, on this machine, has ended."""
    for name in sorted(path.name for path in folder.glob(f"{_PREFIX}-*")):
        pieces = name.split("-")
        if len(pieces) != 4 or pieces[1] != _machine() or not pieces[2].isdecimal() or name in _live:
            continue
        if not _is_running(int(pieces[2])):
            yield folder / name


def _is_running(process: int) -> bool:
    """Return whether another process is running; the rooms of this process are in `_live`."""
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


def _claim(left: Path) -> Room | None:
    """Rename the room (temporary folder) of a killed process to make it this one's; None if another was faster."""
    name = _name()
    _live.add(name)
    try:
        return Room(left.rename(left.with_name(name)))
    except OSError:
        _live.discard(name)
        return None


def _revert(room: Room) -> None:
    """Undo the moves that a killed process announced, unless all of them were completed: then the new files stay."""
    try:
        names = json.loads((room.path / _MOVING).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # the list of names is written before the first move, so nothing was moved
        return
    if any(os.path.lexists(room.new(name)) for name in names):
        for name in names:
            room.undo(name)
        (room.path / _MOVING).unlink()
        return
    (room.path / _JOB).unlink(missing_ok=True)  # nothing is left to resume


def _job_of(room: Room) -> str:
    try:
        return (room.path / _JOB).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
