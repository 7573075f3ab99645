"""Write one or several files atomically: all appear complete at their destinations, or none does.

    with replacing("model.safetensors", overwrite=True) as temporary:
        temporary.write_bytes(content)

The new files are written to a private folder beside their destinations, flushed to disk, and renamed. Before the first
rename no destination has changed; if a later rename fails, the earlier ones are undone. An error, an interrupt, a full
disk and a killed process leave the old files as they were. A destination that is a link is refused, because a rename
would replace the link, and writing through it would change a file under another name.
"""

import os
import stat
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from keras3conv.errors import FileError, listed
from keras3conv.writing import private_folders
from keras3conv.writing.private_folders import PrivateFolder


@dataclass(frozen=True)
class _Output:
    """A file or folder to write: its destination, and the temporary folder in which it is written first.

    `mode` has the permission bits of the file that it replaces; None if there is no such file.
    """

    destination: Path
    mode: int | None
    private_folder: PrivateFolder

    @property
    def temporary(self) -> Path:
        return self.private_folder.new(self.destination.name)


@contextmanager
def replacing(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Yield the path of a temporary file, which is renamed to `path` if the with statement raises no exception.

    Args:
        path: The destination. A new file has the mode that the umask gives; a file that is replaced keeps its mode.
        overwrite: Whether an existing file may be replaced.

    Raises:
        FileError: The destination exists and may not be replaced, is a link or not a regular file, its folder is
            missing, or the file cannot be written. The message names the destination.
    """
    with replacing_all((path,), overwrite=overwrite) as temporaries:
        yield temporaries[0]


@contextmanager
def replacing_all(
    paths: Sequence[str | os.PathLike[str]], *, overwrite: bool = False, job: str = ""
) -> Iterator[tuple[Path, ...]]:
    """Yield a temporary path for every destination; all new files are renamed together when the with statement ends.

    Args:
        paths: The destinations. The last one is the index of the others, if they have one: it is renamed last, and its
            old file is removed first.
        overwrite: Whether existing files may be replaced.
        job: A text that identifies the work, if a killed process can be resumed: its temporary files are kept for the
            next process with the same text. Empty if it cannot be resumed.

    Raises:
        FileError: A destination exists and may not be replaced, is a link, or cannot be written; no file has changed.
    """
    destinations = tuple(map(Path, paths))
    modes = [_mode_of(destination, overwrite=overwrite) for destination in destinations]
    if twice := [path for path in destinations if destinations.count(path) > 1]:
        raise FileError(f"{twice[0]} is given twice as a file to write; choose two different names")
    entered: dict[Path, PrivateFolder] = {}
    with _named_errors(destinations, entered):
        try:
            for destination in destinations:
                if destination.parent not in entered:
                    entered[destination.parent] = private_folders.enter(destination.parent, job)
            outputs = [
                _Output(destination, mode, entered[destination.parent])
                for destination, mode in zip(destinations, modes, strict=True)
            ]
            yield tuple(output.temporary for output in outputs)
            _commit(outputs, overwrite=overwrite)
        finally:
            for private_folder in entered.values():
                private_folder.remove()


@contextmanager
def replacing_folder(
    path: str | os.PathLike[str], *, overwrite: bool = False, replaced: Collection[str] | None = None
) -> Iterator[Path]:
    """Yield a new empty folder; unless the with statement raises, it is renamed to `path`, with all its files.

    Args:
        path: The destination; its parent must exist.
        overwrite: Whether an existing folder may be replaced; all files in it are deleted.
        replaced: The names of the files that may be deleted with an existing folder; a folder with any other file is
            refused. None if all files may be deleted.

    Raises:
        FileError: The destination exists and may not be replaced, or cannot be written; an existing one is unchanged.
    """
    destination, entered = Path(path), dict[Path, PrivateFolder]()
    require_place_of_folder(destination, overwrite=overwrite, replaced=replaced)
    with _named_errors((destination,), entered):
        try:
            private_folder = entered[destination.parent] = private_folders.enter(destination.parent)
            output = _Output(destination, None, private_folder)
            output.temporary.mkdir()
            yield output.temporary
            for inside in sorted(output.temporary.rglob("*")):
                private_folders.synchronise(inside)
            _commit([output], overwrite=overwrite)
        finally:
            for private_folder in entered.values():
                private_folder.remove()


def require_place_of_folder(destination: Path, *, overwrite: bool, replaced: Collection[str] | None) -> None:
    """Raise `FileError` if a folder cannot be written, before the work that fills it.

    Args:
        destination: The folder.
        overwrite: Whether an existing folder may be replaced.
        replaced: The names of the files that may be deleted with an existing folder; None if all may be deleted.
    """
    if destination.is_symlink() or (destination.exists() and not destination.is_dir()):
        raise FileError(f"{destination} exists and is not a folder; choose another name")
    present = {file.name for file in destination.iterdir()} if destination.is_dir() else set()
    others = [] if replaced is None else sorted(present.difference(replaced))
    if others:
        what = "a file of another origin" if len(others) == 1 else f"{len(others)} files of another origin"
        raise FileError(
            f"{destination} exists, and contains {what} ({listed(others, 3)}), which would be deleted: choose another "
            "name"
        )
    _check_place(destination, overwrite=overwrite)


def write_text(path: str | os.PathLike[str], text: str, *, overwrite: bool = False) -> None:
    """Write a text file in UTF-8, with a line feed at the end, atomically: it is whole, or the old file unchanged.

    Raise `FileError` if the file cannot be written, or exists and `overwrite` is False.
    """
    with replacing(path, overwrite=overwrite) as temporary:
        temporary.write_bytes((text if text.endswith("\n") else f"{text}\n").encode())


def _mode_of(destination: Path, *, overwrite: bool) -> int | None:
    """Return the permission bits of the file that is to be replaced; None if the destination does not exist.

    Raises:
        FileError: The destination cannot be replaced.
    """
    if destination.is_symlink():
        raise FileError(
            f"{destination} is a link to {destination.readlink()}: pass the path that it points to\n"
            f"Fix:  {destination.resolve()}"
        )
    if destination.exists() and not destination.is_file():
        raise FileError(f"{destination} exists and is not a regular file; choose another name")
    _check_place(destination, overwrite=overwrite)
    return stat.S_IMODE(destination.stat().st_mode) if destination.exists() else None


def _check_place(destination: Path, *, overwrite: bool) -> None:
    if not destination.parent.is_dir():
        if os.path.lexists(destination.parent):
            fact = f"{destination.parent} is not a folder; choose another name"
        else:
            fact = f"the folder {destination.parent} does not exist; make the folder first"
        raise FileError(f"{destination} cannot be written, because {fact}")
    if destination.exists() and not overwrite:
        raise FileError(f"{destination} exists: choose another name, or replace it\nFix:  overwrite=True")


@contextmanager
def _named_errors(destinations: Sequence[Path], entered: dict[Path, PrivateFolder]) -> Iterator[None]:
    """Convert an `OSError` in the with statement to a `FileError` that names the destination.

    The message also tells whether the old file is unchanged.

    Args:
        destinations: The destinations.
        entered: For each folder that has a destination, the private folder in it.
    """
    before = {path: os.path.lexists(path) for path in destinations}
    try:
        yield
    except OSError as error:
        inside = [path for path in destinations if _concerns(error, path, entered)]
        named = inside[0] if inside else destinations[-1]
        fate = "the old file is unchanged" if before[named] else "nothing was left behind"
        raise FileError(f"cannot write {named}: {error.strerror or error}; {fate}") from error


def _concerns(error: OSError, path: Path, entered: dict[Path, PrivateFolder]) -> bool:
    names = {os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)}
    private_folder = entered.get(path.parent)
    return str(path) in names or (private_folder is not None and str(private_folder.new(path.name)) in names)


def _commit(outputs: Sequence[_Output], *, overwrite: bool) -> None:
    """Flush the new files to disk, and rename each to its destination; if one cannot be renamed, none is.

    Args:
        outputs: The files or folders to write, each with its destination.
        overwrite: Whether existing files may be replaced.
    """
    for output in outputs:
        if output.mode is not None:
            output.temporary.chmod(output.mode)
        private_folders.synchronise(output.temporary)
        if not overwrite:
            _check_place(output.destination, overwrite=False)
    if len(outputs) == 1 and not outputs[0].destination.is_dir():
        outputs[0].private_folder.move_in(outputs[0].destination.name)
    else:
        _move_together(outputs)
    for parent in {output.destination.parent for output in outputs}:
        private_folders.synchronise(parent)


def _move_together(outputs: Sequence[_Output]) -> None:
    for private_folder in {output.private_folder.path: output.private_folder for output in outputs}.values():
        private_folder.announce(
            [output.destination.name for output in outputs if output.private_folder is private_folder]
        )
    try:
        for output in reversed(outputs):
            output.private_folder.set_aside(output.destination.name)
        for output in outputs:
            output.private_folder.move_in(output.destination.name)
    except BaseException:
        for output in reversed(outputs):
            output.private_folder.undo(output.destination.name)
        raise
