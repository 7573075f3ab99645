"""Compute the digests of files, both at the same time."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from threading import Event
from typing import Any

_BLOCK = 1 << 20
_SMALL = 1 << 18
"""The number of bytes at the start of a file whose digests are computed without other threads."""


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


class HashedBlocks:
    """Iterates over the blocks of a file while two threads compute its digests: the file is read only once."""

    def __init__(self, file: Any, *, hashed: bool = True) -> None:
        """Prepare to read an open binary file from its position to its end.

        Args:
            file: The file.
            hashed: Whether to compute the digests; otherwise they are empty.
        """
        self._file, self._size = file, 0
        self._hashes = (hashlib.sha256(), hashlib.md5(usedforsecurity=False)) if hashed else ()

    def __iter__(self) -> Iterator[memoryview]:
        """Yield the blocks of the file; the memory of a block is overwritten when the next one is asked for."""
        first = memoryview(bytearray(_SMALL))
        count = self._file.readinto(first)
        for state in self._hashes:  # a small file needs no threads
            state.update(first[:count])
        self._size += count
        yield first[:count]
        if count:
            with ExitStack() as stack:
                # One thread for each digest, so that it gets the blocks in order.
                pools = [stack.enter_context(ThreadPoolExecutor(1)) for _ in self._hashes]
                yield from self._further(pools)

    def _further(self, pools: Sequence[ThreadPoolExecutor]) -> Iterator[memoryview]:
        """Yield the blocks after the first, with two buffers: one is hashed while the other is filled."""
        buffers = [memoryview(bytearray(_BLOCK)) for _ in range(2)]
        waiting: list[list[Future[None]]] = [[], []]
        for place in cycle(range(2)):
            for future in waiting[place]:
                future.result()
            count = self._file.readinto(buffers[place])
            if not count:
                return
            self._size += count
            block = buffers[place][:count]
            # hashlib runs outside of Python's lock
            waiting[place] = [pool.submit(one.update, block) for pool, one in zip(pools, self._hashes, strict=True)]
            yield block

    def description(self, path: str | os.PathLike[str]) -> WrittenFile:
        """Return the size and the digests of the file, once all blocks were read."""
        sha256, md5 = [state.hexdigest() for state in self._hashes] or ("", "")
        return WrittenFile(path=os.fspath(path), size=self._size, sha256=sha256, md5=md5)


def digest(path: str | os.PathLike[str], stopped: Event | None = None) -> WrittenFile:
    """Return the path, the size and the digests of a file.

    Args:
        path: The file.
        stopped: An event that another thread sets if the result is no longer needed: the file is then not read to its
            end, and `CancelledError` is raised.
    """
    with Path(path).open("rb", buffering=0) as file:
        blocks = HashedBlocks(file)
        for _ in blocks:
            if stopped is not None and stopped.is_set():
                raise CancelledError
    return blocks.description(path)
