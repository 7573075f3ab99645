"""Compute the digests of files, several at the same time."""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

_BLOCK = 1 << 20
_SMALL = 1 << 18
"""The size in bytes up to which one thread computes both digests of a file."""


@dataclass(frozen=True, kw_only=True)
class WrittenFile:
    """A file that was written: its path, its size in bytes, and the digests of its content."""

    path: str
    size: int
    sha256: str
    md5: str


@dataclass(frozen=True, kw_only=True)
class ReadFile(WrittenFile):
    """A file that was read, with its digests.

    Attributes:
        entry: The name of the state dict that was read, if a torch checkpoint holds it under a name ("ema.state_dict").
    """

    entry: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the attributes as JSON data, without `entry` if it is empty."""
        return {name: value for name, value in vars(self).items() if name != "entry" or value}


def digest(path: str | os.PathLike[str]) -> WrittenFile:
    """Return the path, the size and the digests of a file."""
    size = Path(path).stat().st_size
    makers: list[Callable[[], Any]] = [hashlib.sha256, partial(hashlib.md5, usedforsecurity=False)]
    if size < _SMALL:
        sha256, md5 = (_hexdigest(path, make) for make in makers)
    else:
        with ThreadPoolExecutor(len(makers)) as pool:  # hashlib runs outside of Python's lock
            sha256, md5 = pool.map(partial(_hexdigest, path), makers)
    return WrittenFile(path=os.fspath(path), size=size, sha256=sha256, md5=md5)


def _hexdigest(path: str | os.PathLike[str], make: Callable[[], Any]) -> str:
    state, block = make(), bytearray(_BLOCK)
    view = memoryview(block)
    with Path(path).open("rb", buffering=0) as file:
        while count := file.readinto(block):
            state.update(view[:count])
    found: str = state.hexdigest()
    return found
