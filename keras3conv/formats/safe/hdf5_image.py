"""Hold the metadata bytes of an HDF5 file in a buffer, at their file offsets, so that numpy parses many at once.

The buffer is as large as the file, but the system allocates its memory only for the pages that are read: those with
metadata. The values of datasets are not needed.
"""

import mmap
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from keras3conv.transforms import Array

_PAGE = 4096
_LARGE = 8 << 20
"""The number of consecutive bytes from which on large pages of memory are worth their setup."""

_DENSE = 4
"""All pages between the first and the last needed one are read at once, if every fourth of them is needed."""

_MOST_BYTES = 1 << 30
_WIDTHS = (16, 64)
"""The bytes of names, with their end, that are read at once; longer names are read one by one."""


class UnusualError(Exception):
    """Raised if a file does not have the form that h5py writes by default: the HDF5 library must then inspect it."""


def require(condition: Any) -> None:
    """Raise `UnusualError` unless a condition is true, or all conditions in an array are."""
    if condition is True:
        return
    if not (condition.all() if isinstance(condition, np.ndarray) else condition):  # `np.all` takes twice as long
        raise UnusualError


class Image:
    """The metadata bytes of an HDF5 file: `need` reads them, and the other methods return what was read before."""

    def __init__(self, read_into: Callable[[int, memoryview], None], size: int) -> None:
        """Reserve a buffer for the whole file; nothing is read yet.

        Args:
            read_into: A function that fills a buffer with the bytes of the file, from a given position on.
            size: The size of the file in bytes.
        """
        pages = size // _PAGE + 2  # the last one keeps a read that starts at the end inside the memory
        self.size = size
        self._read_into = read_into
        self._memory = _reserved(pages * _PAGE)
        self._pages = np.frombuffer(self._memory, np.uint8).reshape(pages, _PAGE)
        self._views: dict[str, Array] = {}
        self._is_read = np.zeros(pages, np.bool_)
        self._left = _MOST_BYTES

    def need(self, starts: Array, lengths: Array | int) -> None:
        """Read the pages that contain the given byte ranges of the file.

        Args:
            starts: The first address of each range, as int64.
            lengths: The length of each range, or one length for all ranges.

        Raises:
            UnusualError: A range is not inside the file, or more was read than metadata should need.
        """
        require((starts >= 0) & (starts <= self.size) & (np.asarray(lengths) <= self.size - starts))
        first, last = starts // _PAGE, (starts + np.maximum(lengths, 1) - 1) // _PAGE
        counts = last - first + 1
        if counts.max(initial=0) <= 2 and self._is_read[first].all() and self._is_read[last].all():
            return
        require(int(counts.sum()) * _PAGE <= 4 * _MOST_BYTES)
        pages = spread(first, counts)
        wanted = distinct(pages[~self._is_read[pages]])
        if not wanted.size:
            return
        begin, end = int(wanted[0]), int(wanted[-1]) + 1
        is_dense = len(wanted) * _DENSE >= end - begin
        self._left -= _PAGE * (int(np.count_nonzero(~self._is_read[begin:end])) if is_dense else len(wanted))
        require(self._left >= 0)
        runs = [wanted[[0, -1]]] if is_dense else np.split(wanted, np.flatnonzero(np.diff(wanted) > 1) + 1)
        for run in runs:
            self._read(int(run[0]), int(run[-1]) + 1)

    def _read(self, first: int, stop: int) -> None:
        """Read consecutive pages in one call; raise `UnusualError` if one that was read before has changed.

        Args:
            first: The index of the first page.
            stop: The index after the last one.
        """
        pages, is_read = self._pages[first:stop], self._is_read[first:stop]
        known = pages[is_read]
        if pages.nbytes >= _LARGE:
            self._use_large_pages(first * _PAGE, pages.nbytes)
        self._read_into(first * _PAGE, memoryview(self._memory)[first * _PAGE : min(stop * _PAGE, self.size)])
        require(np.array_equal(pages[is_read], known))
        is_read[:] = True

    def _use_large_pages(self, begin: int, size: int) -> None:
        """Make a part of the buffer empty, and let the system use large pages of memory for it.

        It is then filled, and read at scattered addresses, in two thirds of the time.
        """
        if hasattr(mmap, "MADV_HUGEPAGE") and mmap.PAGESIZE == _PAGE:  # or bytes beside the part would be lost, too
            with suppress(OSError):  # a system without large pages
                self._memory.madvise(mmap.MADV_HUGEPAGE, begin, size)
                self._memory.madvise(mmap.MADV_DONTNEED, begin, size)

    def numbers(self, starts: Array, kind: str = "<i8") -> Array:
        """Return the number at each address, as int64; `kind` is its dtype in the file ("<u2" for two bytes)."""
        return self._view(kind)[starts].astype(np.int64, copy=False)

    def words(self, starts: Array, count: int) -> Array:
        """Return, for each address, a row of the `count` int64 numbers of eight bytes that start there.

        Several numbers of an object take hardly longer than one: most of the time is that of the access to its memory.
        """
        rows = self._view(f"V{8 * count}")[starts].view("<i8").reshape(len(starts), count)
        return rows.astype(np.int64, copy=False)

    def rows(self, starts: Array, length: int) -> list[bytes]:
        """Return, for each address, the `length` bytes that start there."""
        found: list[bytes] = self._view(f"V{length}")[starts].tolist() if length else [b""] * len(starts)
        return found

    def contents(self, starts: Array, length: int) -> tuple[list[bytes], Array]:
        """Return the different texts of `length` bytes at the addresses, and for each address the index of its text."""
        if length % 8 == 0 and length:
            words = self.words(starts, length // 8)
            if (words == words[:1]).all():  # as the descriptions of 100,000 equal layers
                return self.rows(starts[:1], length), np.zeros(len(starts), np.int64)
        known: dict[bytes, int] = {}
        found = [known.setdefault(row, len(known)) for row in self.rows(starts, length)]
        return list(known), np.array(found, np.int64)

    def names(self, starts: Array, ends: Array) -> list[bytes]:
        """Return, for each address, the bytes from there to the next zero byte.

        Args:
            starts: The addresses.
            ends: The address before which each text must end.
        """
        found, lengths = self._short_names(starts)
        for place in np.flatnonzero(lengths < 0).tolist():
            start, end = int(starts[place]), int(ends[place])
            stop = self._memory.find(b"\0", start, end)
            require(stop >= 0)
            found[place], lengths[place] = self._memory[start:stop], stop - start
        require(starts + lengths < ends)
        return found

    def _short_names(self, starts: Array) -> tuple[list[bytes], Array]:
        """Return the bytes from each address to the next zero byte, and their number; empty and -1 for long names."""
        words = self.numbers(starts)
        if words.size and (words == words[0]).all():  # as the groups `vars` of 100,000 layers
            name, end, _ = self.rows(starts[:1], 8)[0].partition(b"\0")
            if end:
                return [name] * len(starts), np.full(len(starts), len(name))
        lengths: Array = np.full(len(starts), -1)
        found: list[bytes] = [b""] * len(starts)
        left = np.arange(len(starts))
        for width in _WIDTHS:
            letters = self._view(f"V{width}")[starts[left]].view(np.uint8).reshape(len(left), width)
            is_end = letters == 0
            length = is_end.argmax(axis=1)
            fits = is_end.any(axis=1)
            letters[np.arange(width) >= length[:, None]] = 0
            names: list[bytes] = letters[fits].view(f"S{width}").reshape(-1).tolist()
            lengths[left[fits]] = length[fits]
            if fits.all() and len(left) == len(starts):
                return names, lengths
            for place, name in zip(left[fits].tolist(), names, strict=True):
                found[place] = name
            left = left[~fits]
        return found, lengths

    def _view(self, kind: str) -> Array:
        """Return the buffer as an array of the dtype `kind` with one element for every byte offset."""
        if kind not in self._views:
            dtype = np.dtype(kind)
            self._views[kind] = np.ndarray((len(self._memory) - dtype.itemsize + 1,), dtype, self._memory, strides=(1,))
        return self._views[kind]


def decoded(texts: list[bytes]) -> list[str]:
    """Return UTF-8 texts as str; raise `UnusualError` if one of them is not UTF-8."""
    try:
        whole = b"\0".join(texts).decode()
    except UnicodeDecodeError:
        raise UnusualError from None
    found = whole.split("\0")  # much faster than to decode each of 100,000 texts
    return found if len(found) == len(texts) else [text.decode() for text in texts]


def distinct(numbers: Array) -> Array:
    """Return the different numbers of an array in ascending order: for integers much faster than `np.unique`."""
    numbers = np.sort(numbers)
    is_first = np.ones(len(numbers), np.bool_)
    np.not_equal(numbers[1:], numbers[:-1], out=is_first[1:])
    return numbers[is_first]


def first_and_group(numbers: Array) -> tuple[Array, Array]:
    """Return the index of the first of each group of equal numbers, and the index of the group of each number.

    The groups are in the order of their numbers.
    """
    if numbers.size and (numbers == numbers[0]).all():  # as the forms of 100,000 equal layers
        return np.zeros(1, np.int64), np.zeros(len(numbers), np.int64)
    _, first, group = np.unique(numbers, return_index=True, return_inverse=True)
    return first, group


def spread(starts: Array, counts: Array) -> Array:
    """Return, for each start, as many consecutive numbers as its count: (3, 8) and (2, 1) give (3, 4, 8)."""
    ends = np.cumsum(counts)
    return np.repeat(starts - ends + counts, counts) + np.arange(int(ends[-1]) if len(ends) else 0)


def _reserved(size: int) -> mmap.mmap:
    """Return a buffer of zeros that takes memory only when written; raise `UnusualError` if the system refuses it."""
    try:
        if sys.platform == "win32":
            return mmap.mmap(-1, size)
        memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANON | getattr(mmap, "MAP_NORESERVE", 0))
    except (OSError, OverflowError) as error:
        raise UnusualError from error
    if hasattr(mmap, "MADV_NOHUGEPAGE"):  # or one byte that is read may take 2 MiB
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return memory
