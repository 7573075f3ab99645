"""Read HDF5 files through a child process.

The HDF5 library may crash or hang on a damaged file. Only a child process (`hdf5_child`) uses the library, and it is
started again after a crash. Files of the usual form are inspected without the library (`hdf5_usual`), and contiguous
values are read from the file directly.
"""

import atexit
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from keras3conv import errors
from keras3conv.errors import FileError, MalformedCheckpoint, quoted
from keras3conv.formats.safe import hdf5_usual
from keras3conv.formats.safe.hdf5_dataset import Dataset
from keras3conv.formats.safe.hdf5_tree import Tree
from keras3conv.formats.safe.source import Source, dtype_named
from keras3conv.formats.safe.zip import Member, read_start
from keras3conv.transforms import Array

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MOST_TREES = 8


@dataclasses.dataclass(frozen=True)
class Hdf5File:
    """An HDF5 file, or the member of an archive that is one.

    Attributes:
        source: The file.
        member: The archive member; None if the whole file is HDF5.
    """

    source: Source
    member: Member | None = None

    @property
    def where(self) -> str:
        """The name of the file, and of the archive member, in error messages."""
        return f"{self.source.path}: {self.member.name}" if self.member else str(self.source.path)

    def survey(self) -> Tree:
        """Return the tree of groups and datasets of the file, without reading values.

        Raises:
            FileError: The file is damaged, incomplete, refers to other files, or has anything but arrays of numbers.
        """
        if self in _TREES:
            with self.source.open():
                return _TREES[self]
        self._check_end()
        while len(_TREES) >= _MOST_TREES:
            del _TREES[next(iter(_TREES))]
        _TREES[self] = tree = self._usual() or self._inspected()
        return tree

    def _usual(self) -> Tree | None:
        """Return the tree of a file of the usual form, which this process parses itself; None for other files."""
        if self.member is None:
            return hdf5_usual.survey(self.source, 0, self.source.size, self.where)
        if self.member.compressed:
            return None
        return hdf5_usual.survey(self.source, self.member.start, self.member.size, self.where)

    def _inspected(self) -> Tree:
        """Return the tree of any file, which the child process inspects."""
        answer, _ = self._ask(None)
        return Tree(
            where=self.where,
            groups={path: tuple(names) for path, names in answer["groups"].items()},
            datasets={
                path: Dataset(**{**entry, "shape": tuple(entry["shape"])}) for path, entry in answer["datasets"].items()
            },
            attributes={
                path: {name: value if isinstance(value, str) else tuple(value) for name, value in held.items()}
                for path, held in answer["attributes"].items()
            },
            ignored=tuple(answer["ignored"]),
        )

    def read(self, dataset: Dataset) -> Array:
        """Return the values of a dataset of the file, in the byte order of the machine.

        Args:
            dataset: A dataset of the tree that `survey` returned.
        """
        dtype = dtype_named(dataset.dtype)
        if 0 in dataset.shape:
            return np.empty(dataset.shape, dtype)
        is_compressed = self.member is not None and self.member.compressed
        if dataset.layout and not is_compressed:
            base = self.member.start if self.member else 0
            with self.source.open() as file:
                stored = np.frombuffer(self.source.read(file, base + dataset.offset, dataset.stored), dataset.layout)
            values = stored.view(dtype) if dataset.layout == "<V2" else stored.astype(dtype, copy=False)
        else:
            _, content = self._ask(dataset)
            values = np.frombuffer(content, dtype)
        if values.size != int(np.prod(dataset.shape, dtype=object)):
            raise MalformedCheckpoint(
                f"{self.where}: the dataset {quoted(dataset.path)} has {values.size:,} values, but declares the shape "
                f"{dataset.shape}"
            )
        return values.reshape(dataset.shape)

    def _ask(self, dataset: Dataset | None) -> tuple[dict[str, Any], bytearray]:
        request = {
            "path": os.fspath(self.source.path.absolute()),
            "size": self.source.size,
            "stamp": self.source.stamp,
            "where": self.where,
            "member": dataclasses.asdict(self.member) if self.member else None,
            "dataset": dataset._asdict() if dataset else None,
        }
        with self.source.open():
            try:
                return _CHILD.ask(json.dumps(request).encode() + b"\n")
            except _CrashError as error:
                raise MalformedCheckpoint(f"{self.where} is damaged: the HDF5 library {error}") from None

    def _check_end(self) -> None:
        """Raise `MalformedCheckpoint` unless the file has the size that its superblock declares."""
        size = self.member.size if self.member else self.source.size
        with self.source.open() as file:
            whole = Member("", 0, size, size, 0, compressed=False)
            block = read_start(self.source, file, self.member or whole, 96)
        if not block.startswith(SIGNATURE):
            raise MalformedCheckpoint(f"{self.where} is not an HDF5 file")
        end = _declared_end(block)
        if end is not None and end != size:
            fact = "it was not downloaded or written completely" if end > size else "other bytes follow it"
            raise MalformedCheckpoint(f"{self.where} has {size:,} bytes, but declares {end:,}: {fact}")


def _declared_end(block: bytes) -> int | None:
    """Return the file size in bytes that the superblock declares; None if the superblock has an unknown version.

    Args:
        block: The first 96 bytes of an HDF5 file, which begin with the superblock.
    """
    version = block[8:9]
    if version in (b"\0", b"\1"):
        start, width = 24 + 4 * (version == b"\1"), block[13:14]
    elif version in (b"\2", b"\3"):
        start, width = 12, block[9:10]
    else:
        return None
    if width != b"\x08":
        return None
    # The addresses of the base, of free space or a superblock extension, and of the end of the file.
    return int.from_bytes(block[start + 16 : start + 24], "little")


class _CrashError(Exception):
    """The child process ended without an answer to the request."""


class _Child:
    """The child process that uses the HDF5 library; it is started when the first request is sent."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self.owner = 0

    def ask(self, request: bytes) -> tuple[dict[str, Any], bytearray]:
        """Send a request to the child; return its JSON answer, and the bytes that follow the answer.

        Raises:
            FileError: The child refused the file.
            _CrashError: The child ended without an answer.
        """
        with self.lock:
            process = self._running()
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(request)
                process.stdin.flush()
                line = process.stdout.readline()
                answer = json.loads(line) if line.endswith(b"\n") else {}
                content = bytearray(answer.get("bytes", 0))
                view, filled = memoryview(content), 0
                while filled < len(content) and (count := process.stdout.readinto(view[filled:])):  # type: ignore[attr-defined]
                    filled += count
            except BrokenPipeError:
                answer, content, filled = {}, bytearray(), 0
            if not answer or filled < len(content):
                self._end()
                raise _CrashError(_reason(process.returncode))
        if "error" in answer:
            kind = getattr(errors, answer["error"], FileError)
            raise kind(answer["message"])
        return answer, content

    def _running(self) -> "subprocess.Popen[bytes]":
        if self.process is None or self.owner != os.getpid() or self.process.poll() is not None:
            self.process, self.owner = _start(), os.getpid()
        return self.process

    def close(self) -> None:
        """End the child process; in a fork of the process that started it, do nothing."""
        if self.owner == os.getpid():
            self._end()

    def _end(self) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _start() -> "subprocess.Popen[bytes]":
    """Start the child process with the import path of this process, without the current folder and HDF5 plugins."""
    home = os.fspath(Path(errors.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*filter(None, sys.path), home])}
    environment |= {"HDF5_PLUGIN_PRELOAD": "::", "PYTHONSAFEPATH": "1", "PYTHONIOENCODING": "utf-8"}
    return subprocess.Popen(
        [sys.executable, "-m", "keras3conv.formats.safe.hdf5_child"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def _reason(status: int | None) -> str:
    if status is not None and status < 0:
        known = {
            -11: "crashed while it read the file",
            -6: "crashed while it read the file",
            -24: "did not finish within its time limit",
            -9: "was killed by the system while it read the file",
        }
        return known.get(status, f"ended with the signal {-status}")
    return f"ended with the status {status}"


_CHILD = _Child()
_TREES: dict[Hdf5File, Tree] = {}
"""The trees of the most recently inspected files, so that a file is not inspected twice."""

atexit.register(_CHILD.close)
