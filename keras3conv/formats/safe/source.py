"""Read a file safely: detect if the file changes while it is read, and check declared sizes."""

import io
import json
import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from keras3conv.errors import BudgetExceeded, FileError, MalformedCheckpoint, quoted
from keras3conv.transforms import Shape

MAX_TENSORS = 200_000
"""The maximum number of tensors in a file, which is more than any published model has."""

_MAX_NAME = 2000
"""The maximum length of the name of a tensor, in characters."""

_TAIL, _ZEROS = 64 << 10, 4096
"""The number of bytes at the end of a file that are examined, and the number of zeros in them that is suspicious."""

_MAX_AXES = 32
_MAX_AXIS = 1 << 40
_EXTENDED = frozenset({"bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu"})
_NATIVE = frozenset(
    {"bool", "complex64", "complex128", "float16", "float32", "float64"}
    | {f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)}
)


@dataclass(frozen=True)
class Source:
    """A regular file, with the size and stamp by which a later change is detected.

    Attributes:
        path: The path.
        size: The size in bytes.
        stamp: Inode, device, and the times of the last change of the content and of the entry in the file system.
    """

    path: Path
    size: int
    stamp: tuple[int, ...]

    @classmethod
    def pin(cls, path: str | os.PathLike[str]) -> "Source":
        """Return the `Source` of a file; raise `FileError` if the file is missing, empty, or not a regular file."""
        try:
            status = Path(path).stat()
        except OSError as error:
            raise FileError(f"{path} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise FileError(f"{os.fspath(path)!r} is not a file name: {error}") from error
        if not stat.S_ISREG(status.st_mode):
            raise FileError(f"{path} is not a regular file, but a folder or a device")
        if status.st_size == 0:
            raise MalformedCheckpoint(f"{path} is empty: download or save it again")
        return cls(Path(path), status.st_size, _stamp(status))

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open the file; raise `MalformedCheckpoint` if it changed after the call of `pin`, or in the `with` block."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise FileError(f"{self.path} cannot be read: {error.strerror}") from error
        with os.fdopen(descriptor, "rb") as file:
            self._compare(os.fstat(descriptor))
            yield file
            self._compare(os.fstat(descriptor))

    @contextmanager
    def unchanged(self) -> Iterator[Path]:
        """Yield the path of the file, for a library that opens files itself.

        Raise `MalformedCheckpoint` if the file changed since `pin`, before or during the `with` block.
        """
        with self.open():
            yield self.path

    def read(self, file: BinaryIO, offset: int, size: int) -> memoryview:
        """Return exactly `size` bytes from `offset`; raise `MalformedCheckpoint` if the file ends earlier."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise MalformedCheckpoint(
                f"{self.path} has {self.size:,} bytes, but {size:,} bytes from byte {offset:,} on are needed: the "
                "file is incomplete; download or save it again"
            )
        view = np.empty(size, np.uint8).data  # not a bytearray, which is filled with zeros
        self.read_into(file, offset, view)
        return view

    def read_into(self, file: BinaryIO, offset: int, view: memoryview) -> None:
        """Fill a buffer with the bytes from `offset` on; raise `MalformedCheckpoint` if the file ends earlier."""
        filled, size = 0, len(view)
        file.seek(offset)
        while filled < size:
            count = file.readinto(view[filled:])  # type: ignore[attr-defined]  # BinaryIO does not list it
            if not count:
                raise MalformedCheckpoint(
                    f"{self.path} was cut off at byte {offset + filled:,} while it was read; read it again when no "
                    "other program writes it"
                )
            filled += count

    def _compare(self, status: os.stat_result) -> None:
        if status.st_size != self.size or _stamp(status) != self.stamp:
            raise MalformedCheckpoint(f"{self.path} changed while it was in use: read it again")


class Window(io.RawIOBase):
    """A read-only file object over a part of a file, through which h5py reads an uncompressed member."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        """Create a read-only file object over `size` bytes of `file`, from byte `start` on."""
        super().__init__()
        self._file, self._start, self._size, self._position = file, start, size, 0

    def readable(self) -> bool:
        """Return True, because this file object can be read."""
        return True

    def seekable(self) -> bool:
        """Return True, because this file object supports `seek`."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position in the byte range, as `io.IOBase.seek` does in a file."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = origin + offset
        return self._position

    def tell(self) -> int:
        """Return the current position, counted from the start of the byte range."""
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # the stub says Buffer
        """Read bytes into a buffer, at most up to the end of the byte range; return their number."""
        count = max(0, min(len(buffer), self._size - self._position))
        self._file.seek(self._start + self._position)
        data = self._file.read(count)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def zero_tail(source: Source) -> str:
    """Return a warning if a file ends with many zeros, as after an interrupted download; else an empty text."""
    with source.open() as file:
        size = min(source.size, _TAIL)
        tail = source.read(file, source.size - size, size)
    zeros = size - len(bytes(tail).rstrip(b"\0"))
    if zeros < _ZEROS:
        return ""
    more = "or more " if zeros == size else ""
    return f"{source.path.name} ends with {zeros:,} {more}zeros: was it downloaded completely?"


def parse_json(
    text: bytes | str, where: str, make: Callable[[dict[str, Any]], Any] | None = None, *, infinite: bool = False
) -> Any:
    """Parse JSON strictly: repeated keys, NaN, infinity, and nesting or digits beyond Python's limits are errors.

    Args:
        text: The text.
        where: The name of the file for messages.
        make: A function that replaces each object, the innermost first, so that large files need less memory.
        infinite: Whether NaN, Infinity and -Infinity are numbers. Keras writes them into the architecture of a model,
            for example of one that pads an image with -Infinity before a max pooling.

    Raises:
        MalformedCheckpoint: The text is not strict JSON; the message starts with `where`.
    """

    def distinct(pairs: list[tuple[str, Any]]) -> Any:
        made = dict(pairs)
        if len(made) < len(pairs):
            counts = Counter(key for key, _ in pairs)
            repeated = next(key for key, times in counts.items() if times > 1)
            raise MalformedCheckpoint(
                f"{where}: the key {quoted(repeated)} occurs twice in a JSON object, so its value is ambiguous"
            )
        return make(made) if make else made

    def finite(digits: str) -> float:
        if np.isinf(value := float(digits)):
            raise MalformedCheckpoint(f"{where}: the number {digits[:40]} in the JSON is too large")
        return value

    def constant(name: str) -> float:
        if infinite:
            return float(name)
        raise MalformedCheckpoint(f"{where}: {name} is not allowed as a number in JSON")

    try:
        return json.loads(text, object_pairs_hook=distinct, parse_constant=constant, parse_float=finite)
    except RecursionError:
        raise MalformedCheckpoint(
            f"{where}: the lists and objects of the JSON are nested too deeply to be read"
        ) from None
    except ValueError as error:
        raise MalformedCheckpoint(f"{where} is not JSON: {error}") from None


def check_shape(shape: Shape, where: str) -> int:
    """Return the number of elements of a declared shape; raise `MalformedCheckpoint` if no array has this shape."""
    if not is_shape(shape):
        raise MalformedCheckpoint(f"{where}: an array cannot have the shape {quoted(shape)}")
    return prod(shape)


def is_shape(shape: Shape) -> bool:
    """Return whether an array can have a shape that a file declares: sizes not negative, not too many elements."""
    return len(shape) <= _MAX_AXES and (not shape or 0 <= min(shape) <= max(shape) <= _MAX_AXIS)


def check_names(names: Iterable[str], where: str) -> None:
    """Raise `MalformedCheckpoint` if a tensor name is too long or not Unicode, or if two look the same.

    Two names look the same if they have the same Unicode normal form: "e" with an accent, as one or two characters.

    Args:
        names: The names of the tensors in a file.
        where: The name of the file, for messages.
    """
    seen: dict[str, str] = {}
    for name in names:
        if len(name) > _MAX_NAME:
            raise MalformedCheckpoint(f"{where}: a name of {len(name):,} characters is too long: {quoted(name)}")
        if name.isascii():
            continue
        try:
            name.encode("utf-8")
        except UnicodeEncodeError:
            raise MalformedCheckpoint(f"{where}: the name {quoted(name)} is not valid Unicode") from None
        twin = seen.setdefault(unicodedata.normalize("NFC", name), name)
        if twin != name:
            raise MalformedCheckpoint(f"{where}: {quoted(twin)} and {quoted(name)} have the same Unicode normal form")


def check_count(count: int, where: str) -> None:
    """Raise `BudgetExceeded` if a file declares more than `MAX_TENSORS` tensors."""
    if count > MAX_TENSORS:
        raise BudgetExceeded(f"{where} declares {count:,} tensors; the limit is {MAX_TENSORS:,}")


def dtype_named(name: str) -> np.dtype[Any]:
    """Return the little-endian numpy dtype for a dtype name.

    Raise `FileError` if weight files cannot have the dtype.
    """
    if name in _NATIVE:
        return np.dtype(name)
    if name not in _EXTENDED:
        raise FileError(f"the dtype {name} cannot be stored in a weight file")
    import ml_dtypes  # adds bfloat16 and float8 to numpy

    extended: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
    return extended


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    # Programs can set the modification time of a file, but not its change time.
    return status.st_ino, status.st_dev, status.st_mtime_ns, status.st_ctime_ns
