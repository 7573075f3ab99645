"""Measure the anonymous memory of this process: what it has allocated, without pages of files."""

import ctypes
import threading


def anonymous_memory() -> int:
    """Return the anonymous memory of this process in bytes."""
    with open("/proc/self/status", encoding="ascii") as stream:  # noqa: PTH123 - as fast as possible
        return next(int(line.split()[1]) * 1024 for line in stream if line.startswith("RssAnon"))


class Growth:
    """The largest anonymous memory while a block runs, sampled every two milliseconds.

    Attributes:
        bytes: How much the memory grew beyond its size at the start of the block.
        peak: The largest size, in bytes.
    """

    def __init__(self) -> None:
        self.bytes = self.peak = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "Growth":
        ctypes.CDLL(None).malloc_trim(0)  # return freed memory to the system, so that it is not reused
        self._first = self.peak = anonymous_memory()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(0.002):
            self.peak = max(self.peak, anonymous_memory())
            self.bytes = self.peak - self._first
