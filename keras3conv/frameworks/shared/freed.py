"""Return freed memory to the system while the values of a model are replaced, if the process grows by it."""

import ctypes
import os
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

_STEP = 8 << 20
"""The bytes that are replaced before the size of the process is looked at again."""

_GROWTH = 12 << 20
"""The growth of the process, beyond what is kept on purpose, after which freed memory is returned."""

_SIZES = Path("/proc/self/statm")


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
    if not _SIZES.exists():
        return 0
    _, resident, shared, *_ = _SIZES.read_text(encoding="ascii").split()
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")
