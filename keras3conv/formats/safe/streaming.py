"""Write the values of tensors into their byte ranges in a file, one tensor at a time, with two threads.

A format first writes everything except the values, and returns the byte range of each tensor. Then the values are
streamed: one thread reads and transposes a block, the other computes its checksum and writes it. Memory holds only one
tensor and a few blocks. An array that is contiguous is written without a copy.
"""

import errno
import os
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from keras3conv.errors import FileError
from keras3conv.formats.safe.source import dtype_named
from keras3conv.model.views import Reader, TensorRef
from keras3conv.numerics.copying import copy_into
from keras3conv.transforms import Array

Progress = Callable[[str, int, int], None]
"""A function that is called before each tensor is written: with its name, the bytes written so far, and the total."""

_UNSUPPORTED = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)
"""The error codes of a file system that cannot reserve bytes."""

_BLOCK = 4 << 20
_BUFFERS = 3
_SMALL = 1 << 18
"""The size in bytes up to which a tensor is written directly, because the second thread would save no time."""


@dataclass(frozen=True)
class Extent:
    """The byte range of a file that holds the values of one tensor."""

    start: int
    size: int


def _nothing(_checksums: Mapping[str, int]) -> None:
    pass


@dataclass(frozen=True)
class Layout:
    """A file that is complete except for the values of its tensors, with the byte range of each tensor.

    Attributes:
        extents: The byte range of each stored tensor, by its path; tied weights have one entry.
        locations: The names of tensors in the file, by path, if the two differ.
        finish: A function that completes the file, given the CRC-32 of each tensor.
    """

    extents: Mapping[str, Extent]
    locations: Mapping[str, str] = field(default_factory=dict)
    finish: Callable[[Mapping[str, int]], None] = _nothing


def fill(
    path: Path,
    layout: Layout,
    tensors: Sequence[TensorRef],
    read: Reader,
    progress: Progress | None = None,
    *,
    checked: bool = True,
) -> dict[str, int]:
    """Write the values of all tensors of a layout, and return their CRC-32 by path.

    Args:
        path: The file, which has everything but the values.
        layout: The byte range of each tensor.
        tensors: The declared tensors; a tensor that the layout lacks is tied to one that it has.
        read: A function that returns the values of the tensor with a path.
        progress: A function to call before every tensor.
        checked: Whether to compute the checksums; otherwise they are 0.

    Raises:
        FileError: An array differs from its declaration.
        OSError: The file cannot be written.
    """
    stored = [tensor for tensor in tensors if tensor.path in layout.extents]
    total, done = sum(extent.size for extent in layout.extents.values()), 0
    descriptor = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        _allocate(descriptor, layout)
        with ThreadPoolExecutor(1) as pool:
            writer = _Writer(descriptor, pool, checked=checked)
            for tensor in stored:
                if progress:
                    progress(tensor.path, done, total)
                extent = layout.extents[tensor.path]
                writer.write(tensor.path, as_declared(read(tensor.path), tensor), extent.start)
                done += extent.size
            writer.wait(0)
        layout.finish(writer.checksums)
        return writer.checksums
    finally:
        os.close(descriptor)


def as_declared(array: Array, tensor: TensorRef) -> Array:
    """Return an array in little-endian byte order; raise `FileError` if its shape or dtype is not that of `tensor`.

    The header of a file is written before the data, so a differing array would make the header wrong.
    """
    if array.shape != tensor.shape or array.dtype.name != tensor.dtype:
        found = f"{array.dtype} of shape {array.shape}"
        raise FileError(
            f"{tensor.path} was declared as {tensor.dtype} of shape {tensor.shape}, but the values to write are {found}"
        )
    if array.dtype.byteorder == ">":
        return array.astype(dtype_named(tensor.dtype))
    return array


def _allocate(descriptor: int, layout: Layout) -> None:
    """Reserve disk space for all tensors of a file, so that a full disk is noticed before writing."""
    end = max((extent.start + extent.size for extent in layout.extents.values()), default=0)
    if end and hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, end)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise


class _Writer:
    """Writes arrays at offsets of a file, with the help of a second thread."""

    def __init__(self, descriptor: int, pool: ThreadPoolExecutor, *, checked: bool) -> None:
        self.checksums: dict[str, int] = {}
        self._checked = checked
        self._descriptor, self._pool = descriptor, pool
        self._waiting: deque[Future[None]] = deque()
        self._buffers: list[Array] = []
        self._turn = 0

    def write(self, path: str, array: Array, start: int) -> None:
        """Write an array to the file, and compute its CRC-32 if wanted; the second thread writes a large array.

        Args:
            path: The path of the tensor with these values.
            array: The values.
            start: The position of the first byte in the file.
        """
        self.checksums[path] = 0
        if array.nbytes <= _SMALL:
            self._put(path, np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, start)
            return
        for block in self._blocks(array):
            self.wait(_BUFFERS - 1)
            self._waiting.append(self._pool.submit(self._put, path, block, start))
            start += len(block)

    def wait(self, most: int) -> None:
        """Wait until at most this number of blocks is unwritten; re-raise an exception of the second thread."""
        while len(self._waiting) > most:
            self._waiting.popleft().result()

    def _put(self, path: str, block: memoryview, start: int) -> None:
        if self._checked:
            self.checksums[path] = zlib.crc32(block, self.checksums[path])
        while block:
            count = os.pwrite(self._descriptor, block, start)
            block, start = block[count:], start + count

    def _blocks(self, array: Array) -> Iterator[memoryview]:
        """Yield the bytes of an array in row-major order, in blocks that do not change before they are written."""
        if array.flags.c_contiguous:
            data = array.reshape(-1).view(np.uint8).data
            yield from (data[start : start + _BLOCK] for start in range(0, len(data), _BLOCK))
            return
        for part in _parts(array):
            buffer = self._buffer(part.nbytes)
            copy_into(buffer.view(part.dtype).reshape(part.shape), part)
            yield buffer.data

    def _buffer(self, size: int) -> Array:
        """Return a memory buffer of this size for a block; buffers of written blocks are used again."""
        self.wait(_BUFFERS - 1)
        if len(self._buffers) < _BUFFERS:
            self._buffers.append(np.empty(max(size, _BLOCK), np.uint8))
        place = self._turn = (self._turn + 1) % len(self._buffers)
        if len(self._buffers[place]) < size:
            self._buffers[place] = np.empty(size, np.uint8)
        return self._buffers[place][:size]


def _parts(array: Array) -> Iterator[Array]:
    """Yield consecutive views of an array, in row-major order, each about as large as a block."""
    axis, row = 0, array.nbytes
    while axis < array.ndim:
        row //= array.shape[axis]
        if row <= _BLOCK:
            break
        axis += 1
    step = max(1, _BLOCK // row)
    for outer in np.ndindex(array.shape[:axis]):
        inside = array[outer]
        for start in range(0, inside.shape[0], step):
            yield inside[start : start + step]


def size_of(tensor: TensorRef) -> int:
    """Return the number of bytes of the values of a tensor."""
    return int(prod(tensor.shape)) * dtype_named(tensor.dtype).itemsize


def checksum(array: Any) -> int:
    """Return the CRC-32 of the values of an array, in row-major order."""
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
