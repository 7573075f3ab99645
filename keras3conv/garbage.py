"""Collect cyclic garbage less often while many objects are made, and free no objects at the end of a program."""

import atexit
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

THRESHOLDS = (50_000, 20, 20)
"""The numbers that start a collection (see `gc.set_threshold`), about fifty times Python's own."""


class _Frozen:
    """Whether objects are frozen (`gc.freeze`): by a `with` block of this module, or by the caller."""

    known = False


@contextmanager
def rare_collections() -> Iterator[None]:
    """Collect cyclic garbage less often inside the `with` block, and look for it only among objects made there.

    Python searches all objects each time that their number has grown by a quarter: those of the imported frameworks
    alone are a million. Importing and tracing make many objects, nearly all of which stay. Afterwards the thresholds
    and the objects that are searched are as before.
    """
    before = gc.get_threshold()
    # `gc.unfreeze` would also give back what the caller has frozen, so a caller who freezes objects is left to freeze
    # them all. Python counts frozen objects one by one, a million in 0.1 s: they are counted until there are any.
    is_first = not _Frozen.known and not gc.get_freeze_count()
    _Frozen.known = True
    if is_first:
        gc.freeze()
    gc.set_threshold(*(max(pair) for pair in zip(before, THRESHOLDS, strict=True)) if before[0] else before)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        if is_first:
            gc.unfreeze()
            _Frozen.known = False


@contextmanager
def collection_paused() -> Iterator[None]:
    """Pause the collection inside the `with` block, in which many small objects are made that form no cycles.

    The searches are half of the time to read the header of a file of 100,000 tensors. Objects without cycles are freed
    as usual.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def collect_after_a_run() -> None:
    """Free the cyclic garbage of a run of a Keras model, unless the caller has disabled the collection.

    On the torch backend, Keras makes functions in a cycle for each call with a list of tensors, and they hold the
    tensors: in a network with skip connections, all sums. So few objects start no collection for long. The search is
    among recent objects, and takes a hundredth of a second.
    """
    if gc.isenabled():
        gc.collect(1)


@contextmanager
def process_of_a_command() -> Iterator[None]:
    """Collect cyclic garbage less often in a process that ends with the `with` block, and not at its end.

    At its end Python searches all objects once more, and frees those of the imported frameworks one by one.
    """
    with rare_collections():
        try:
            yield
        finally:
            gc.freeze()  # otherwise the end of `rare_collections` starts a search
    gc.freeze()


@contextmanager
def memory_left_to_the_system() -> Iterator[None]:
    """Run a program in the `with` block; when it exits, Python frees no objects: the system frees the memory at once.

    Python would free the modules and objects of the imported frameworks one by one, which takes over a second. All else
    that Python does at the end of a program is done: it waits for threads, calls the functions of `atexit`, and flushes
    the streams.

    Only a `SystemExit` with a number ends the process in this way, and the caller must not catch it.
    """
    try:
        yield
    except SystemExit as ended:
        if isinstance(ended.code, int):
            atexit.register(_end, ended.code)  # Python calls the function that was registered last first
        raise


def _end(status: int) -> None:
    """End the process after all other functions of `atexit`."""
    try:
        _flush()
    except (OSError, ValueError):
        return  # Python reports at its own end that a stream cannot be written
    atexit.unregister(_end)
    atexit._run_exitfuncs()
    with suppress(OSError, ValueError):
        _flush()
    os._exit(status)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
