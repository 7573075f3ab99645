"""Cyclic garbage is collected less often for a time, and then as before."""

import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from keras3conv import garbage
from keras3conv.garbage import THRESHOLDS, collect_after_a_run, rare_collections


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(garbage._Frozen, "known", False)
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)  # Python's own: those of `conftest` are THRESHOLDS already
    gc.unfreeze()
    yield
    gc.freeze()  # as `conftest` does
    gc.set_threshold(*before)


class Circle:
    """An object that only a collection deletes."""

    def __init__(self) -> None:
        self.own = self


def test_collections_are_as_before_after_an_exception() -> None:
    before = gc.get_threshold()

    @rare_collections()
    def fail() -> None:
        assert gc.get_threshold() == THRESHOLDS
        assert gc.get_freeze_count() > 0
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


def test_garbage_that_is_made_inside_is_still_collected() -> None:
    with rare_collections():
        first = weakref.ref(Circle())
        kept = [{1: [number]} for number in range(THRESHOLDS[0])]
        assert first() is None
    assert kept


def test_recent_garbage_is_freed_after_a_run_unless_the_caller_disabled_the_collection() -> None:
    gc.disable()
    try:
        first = weakref.ref(Circle())
        collect_after_a_run()
        assert first() is not None
    finally:
        gc.enable()
    collect_after_a_run()
    assert first() is None


def test_objects_that_the_caller_froze_stay_frozen() -> None:
    gc.freeze()
    frozen = gc.get_freeze_count()
    with rare_collections():
        pass
    assert gc.get_freeze_count() == frozen


def test_frozen_objects_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    count, counted = gc.get_freeze_count, []

    def counting() -> int:
        counted.append(count())
        return counted[-1]

    monkeypatch.setattr(gc, "get_freeze_count", counting)
    with rare_collections(), rare_collections():  # the inner block does not count what the outer one has frozen
        pass
    assert (count(), len(counted)) == (0, 1)
    gc.freeze()
    for _ in range(3):
        with rare_collections():
            pass
    assert count() > 0
    assert len(counted) == 2


def test_disabled_and_rarer_collections_stay_so() -> None:
    for thresholds in ((0, 10, 10), (100_000, 30, 30)):
        gc.set_threshold(*thresholds)
        with rare_collections(), rare_collections():
            assert gc.get_threshold() == thresholds
        assert gc.get_threshold() == thresholds


def at_the_end(ending: str, *, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    """Run a program that ends so in a new interpreter; each of its lines says what belongs to its end."""
    code = f"""\
import atexit, sys, threading, time
from keras3conv.garbage import memory_left_to_the_system

class Kept:
    def __del__(self):
        print("object freed", file=sys.stderr, flush=True)

def wait():
    time.sleep(0.2)
    print("thread waited for", file=sys.stderr)

kept = Kept()
atexit.register(print, "registered before", file=sys.stderr)
with memory_left_to_the_system():
    atexit.register(print, "registered inside", file=sys.stderr)
    threading.Thread(target=wait).start()
    sys.stdout.write("not flushed")
    {ending}
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(garbage.__file__).parents[1]), "PYTHONUNBUFFERED": ""}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False
    )


LAST_WORDS = ["thread waited for", "registered inside", "registered before"]


@pytest.mark.slow
@pytest.mark.parametrize("status", [0, 1, 130])
def test_a_program_ends_with_its_status_and_without_freeing_its_objects(status: int) -> None:
    ended = at_the_end(f"sys.exit({status})")
    assert (ended.returncode, ended.stdout) == (status, "not flushed")
    assert ended.stderr.splitlines() == LAST_WORDS


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "status"), [("pass", 0), ("sys.exit()", 0), ("sys.exit('a text')", 1)])
def test_a_program_without_a_status_ends_as_python_does(ending: str, status: int) -> None:
    ended = at_the_end(ending)
    assert (ended.returncode, ended.stdout) == (status, "not flushed")
    assert {*LAST_WORDS, "object freed"} <= {*ended.stderr.splitlines()}


@pytest.mark.slow
def test_a_program_that_cannot_write_its_last_words_says_so_and_ends_as_python_does() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ended = at_the_end("sys.exit(0)", stdout=writing)
    os.close(writing)
    assert ended.returncode == 120
    assert [ended.stderr.count(words) for words in LAST_WORDS] == [1, 1, 1]
    assert "BrokenPipeError" in ended.stderr
