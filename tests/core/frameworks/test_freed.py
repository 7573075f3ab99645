"""Freed memory is returned to the system if the process has grown by it, and only then."""

import pytest

from keras3conv.frameworks.shared import backup

STEP, GROWTH = backup._STEP + 1, 30 << 20


@pytest.fixture
def returned(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []
    monkeypatch.setattr(backup, "_trim", lambda: calls.append)
    return calls


def grown_by(size: int, monkeypatch: pytest.MonkeyPatch) -> backup.FreedMemory:
    sizes = [100 << 20]
    monkeypatch.setattr(backup, "anonymous_memory", lambda: sizes[0])
    watch = backup.FreedMemory()
    sizes[0] += size
    return watch


def test_memory_is_returned_when_the_process_has_grown(monkeypatch: pytest.MonkeyPatch, returned: list[int]) -> None:
    watch = grown_by(GROWTH, monkeypatch)
    watch.note(STEP, kept=0)
    assert returned == [0]


def test_memory_is_not_returned_for_a_few_bytes(monkeypatch: pytest.MonkeyPatch, returned: list[int]) -> None:
    watch = grown_by(GROWTH, monkeypatch)
    for _ in range(4):
        watch.note(backup._STEP // 4, kept=0)
    assert returned == []
    watch.note(1, kept=0)
    assert returned == [0]


@pytest.mark.parametrize(("grown", "kept"), [(0, 0), (GROWTH, GROWTH)])
def test_memory_that_is_reused_or_kept_on_purpose_is_not_returned(
    monkeypatch: pytest.MonkeyPatch, returned: list[int], grown: int, kept: int
) -> None:
    grown_by(grown, monkeypatch).note(STEP, kept)
    assert returned == []


def test_the_size_of_this_process_is_known_or_zero() -> None:
    assert backup.anonymous_memory() >= 0
