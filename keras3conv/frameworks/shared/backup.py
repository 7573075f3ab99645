"""Back up old values of tensors until all new ones are written, and return freed memory to the operating system."""

import ctypes
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from io import FileIO
from math import prod
from typing import Any

import numpy as np

from keras3conv.errors import FileError
from keras3conv.numerics.copying import axes_by_stride, contiguous, own_copy
from keras3conv.transforms import Array, Shape

LIMIT = 24 << 20
"""The number of bytes that a backup copies to memory; everything beyond is written to an unnamed temporary file."""

REFERENCES = {"jax": 2.4, "tensorflow": 2.4}
"""The limit of values kept without a copy, by backend, as a multiple of `LIMIT`, the limit of copied values.

The largest of these values does not count towards the limit.
"""


class Backup:
    """A backup of old tensor values by path: the first ones in memory, the others in a temporary file."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit, self._used, self._largest = limit, 0, 0
        self._arrays: dict[str, Any] = {}
        self._places: dict[str, tuple[int, Shape, np.dtype[Any]]] = {}
        self._axes: dict[str, tuple[int, ...]] = {}
        self._file: FileIO | None = None
        self._open = ExitStack()
        self._freed = FreedMemory()

    def refer(self, path: str, tensor: Any, limit: float) -> None:
        """Store the old value of a tensor as a reference to memory to which nobody writes, or else as a copy on disk.

        Args:
            path: The path of the tensor.
            tensor: A tensor of JAX or an array.
            limit: This number times the backup's limit, plus the size of the largest value, is the limit of the memory
                that the references keep alive.

        Raises:
            FileError: The temporary file cannot be written.
        """
        if path in self._arrays or path in self._places:
            return
        size = tensor.nbytes
        self._largest = max(self._largest, size)
        if self._used + size <= self._limit * limit + self._largest:
            self._arrays[path] = tensor
            self._used += size
        else:
            self._write(path, np.asarray(tensor))
        self._freed.note(size, self._used)  # JAX and TensorFlow free the memory of a value that is replaced

    def keep(self, path: str, value: Array) -> None:
        """Store a copy of the old value of a tensor, unless one is already stored under this path.

        Args:
            path: The path of the tensor.
            value: The value.

        Raises:
            FileError: The temporary file cannot be written.
        """
        if path in self._arrays or path in self._places:
            return
        if not value.flags.c_contiguous:
            # A copy in the order of the memory moves no element: the kernels of convolutions are transposed views.
            order = axes_by_stride(value)
            self._axes[path] = tuple(order.index(axis) for axis in range(value.ndim))
            value = value.transpose(order)
        if self._used + value.nbytes <= self._limit:
            self._arrays[path] = own_copy(value)
            self._used += value.nbytes
        else:
            self._write(path, value)
        self._freed.note(value.nbytes, self._used)

    def _write(self, path: str, value: Array) -> None:
        try:
            if self._file is None:
                self._file = self._open.enter_context(tempfile.TemporaryFile(buffering=0))  # noqa: SIM115 - the stack is a context manager
            place = self._file.seek(0, 2)
            rest = contiguous(value).reshape(-1).view(np.uint8).data
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise FileError(
                f"{tempfile.gettempdir()} has no room for the old value of {path} ({value.nbytes:,} bytes), without "
                f"which a failure could not be undone: {error.strerror}\nFix:  TMPDIR=/folder/with/room"
            ) from error
        self._places[path] = place, value.shape, value.dtype

    def items(self) -> Iterator[tuple[str, Array]]:
        """Yield the path and the old value of every tensor in the backup."""
        for path, tensor in self._arrays.items():
            yield path, self._restored(path, np.asarray(tensor))
        for path, (place, shape, dtype) in self._places.items():
            assert self._file is not None, "a position is set only for values in the file"
            self._file.seek(place)
            content = self._file.read(prod(shape) * dtype.itemsize)
            yield path, self._restored(path, np.frombuffer(bytearray(content), dtype).reshape(shape))

    def _restored(self, path: str, array: Array) -> Array:
        """Return a value with its axes in their own order, not in that of the memory."""
        return array.transpose(self._axes[path]) if path in self._axes else array

    def close(self) -> None:
        """Delete all values of the backup, and the temporary file."""
        self._arrays, self._places, self._axes = {}, {}, {}
        self._open.close()


@contextmanager
def restored_by(restore: Callable[[Backup], None]) -> Iterator[Backup]:
    """Yield an empty backup; if the `with` block raises, call `restore` with the backup.

    Args:
        restore: A function that writes the values in the backup back into their tensors.
    """
    backup = Backup()
    try:
        yield backup
    except BaseException:  # also KeyboardInterrupt
        restore(backup)
        raise
    finally:
        backup.close()


_STEP = 4 << 20
"""The bytes that are replaced before the size of the process is looked at again."""

_GROWTH = 8 << 20
"""The growth of the process, beyond what is kept on purpose, after which freed memory is returned."""

_SIZES = "/proc/self/statm"


class FreedMemory:
    """Watches the size of the process while values are replaced, and returns freed memory when it has grown too much.

    The allocator of Linux keeps freed memory for the thread that asked for it. A framework asks in several threads, so
    new values may not use the memory of the old ones, and the model would be in memory twice. A second transfer reuses
    the memory of the first, so it does not grow, and nothing is returned: the allocator would have to ask for it again.
    """

    def __init__(self) -> None:
        self._waiting = 0
        self._size = anonymous_memory()

    def note(self, size: int, kept: int) -> None:
        """Count a value that was replaced.

        Args:
            size: The bytes of the value.
            kept: The bytes of all old values that are kept in memory.
        """
        self._waiting += size
        if self._waiting > _STEP:
            self._waiting = 0
            trim = _trim()
            if trim is not None and anonymous_memory() - self._size > kept + _GROWTH:
                trim(0)


@lru_cache(1)
def _trim() -> Callable[[int], Any] | None:
    """Return the function of the C library that returns freed memory; None if the library has none."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None


def anonymous_memory() -> int:
    """Return the bytes of this process's memory that are not mapped from files; 0 if the system does not report it."""
    try:
        descriptor = os.open(_SIZES, os.O_RDONLY)  # a file object takes four times as long
    except FileNotFoundError:
        return 0
    try:
        _, resident, shared, *_ = os.read(descriptor, 200).split()
    finally:
        os.close(descriptor)
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")
