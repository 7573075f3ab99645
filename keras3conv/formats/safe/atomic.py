"""Write files atomically: write a temporary file in the same folder, and rename it to the destination.

If anything fails before the rename, an existing destination is unchanged.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keras3conv.errors import FileError
from keras3conv.report.values import WrittenFile

_BLOCK = 1 << 20


@contextmanager
def replacing(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty temporary file in the folder of `path`, which replaces `path` if the block raises no exception.

    Args:
        path: The destination. An existing file keeps its permissions.
        overwrite: Whether an existing file may be replaced.

    Raises:
        FileError: The destination exists and may not be replaced, is not a regular file, or its folder is missing.
    """
    destination = Path(path)
    mode = _mode_of(destination, overwrite=overwrite)
    temporary = destination.with_name(f".{destination.name}.tmp-{os.getpid()}")
    _create(temporary)
    try:
        yield temporary
        temporary.chmod(mode)
        _synchronise(temporary)
        if not overwrite:
            _refuse_existing(destination)
        temporary.replace(destination)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _synchronise(destination.parent)


def digest(path: str | os.PathLike[str]) -> WrittenFile:
    """Return the path, the size and the digests of a file."""
    sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    with Path(path).open("rb") as file:
        while block := file.read(_BLOCK):
            sha256.update(block)
            md5.update(block)
            size += len(block)
    return WrittenFile(path=os.fspath(path), size=size, sha256=sha256.hexdigest(), md5=md5.hexdigest())


def _mode_of(destination: Path, *, overwrite: bool) -> int:
    if not destination.parent.is_dir():
        raise FileError(f"{destination}: the folder {destination.parent} does not exist")
    if destination.is_symlink():
        raise FileError(f"{destination} is a link to {destination.readlink()}: pass the path that it points to")
    if not destination.exists():
        return 0o666 & ~_umask()
    if not destination.is_file():
        raise FileError(f"{destination} exists and is not a regular file")
    if not overwrite:
        _refuse_existing(destination)
    return stat.S_IMODE(destination.stat().st_mode)


def _refuse_existing(destination: Path) -> None:
    if destination.exists():
        raise FileError(f"{destination} exists\nFix:  overwrite=True")


def _create(temporary: Path) -> None:
    """Create the temporary file; first remove a leftover of a killed process that had the same process id."""
    temporary.unlink(missing_ok=True)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
    except OSError as error:
        raise FileError(f"cannot write in {temporary.parent}: {error.strerror}") from error
    os.close(descriptor)


def _umask() -> int:
    """Return the umask of the process, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _synchronise(path: Path) -> None:
    if path.is_dir() and os.name == "nt":  # Windows cannot open a folder
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
