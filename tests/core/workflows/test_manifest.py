"""The digests of the source files are computed while the outputs are written."""

import hashlib
from concurrent.futures import CancelledError
from pathlib import Path
from threading import Event, active_count

import pytest

from keras3conv.alignment.plan import Alignment
from keras3conv.model.views import ModelView
from keras3conv.workflows.manifest import Record
from keras3conv.writing.digests import digest

PLAN = Alignment(
    pairs=(),
    ignored=(),
    torch=ModelView(side="torch", name="net", layers=()),
    keras=ModelView(side="keras", name="net", layers=()),
)


@pytest.fixture
def record(tmp_path: Path) -> Record:
    path = tmp_path / "a.safetensors"
    path.write_bytes(bytes(range(256)) * (1 << 14))
    return Record(PLAN, path.name, (path,), entry="ema")


def test_the_digests_of_the_source_are_those_of_its_content(record: Record) -> None:
    with record.digesting():
        (found,) = record.read
    content = record.sources[0].read_bytes()
    assert (found.path, found.entry, found.size) == ("a.safetensors", "ema", len(content))
    assert found.sha256 == hashlib.sha256(content).hexdigest()
    assert found.md5 == hashlib.md5(content, usedforsecurity=False).hexdigest()
    assert record.read == (found,)


def test_the_digests_are_the_same_without_another_thread(record: Record) -> None:
    with record.digesting():
        found = record.read
    assert Record(PLAN, record.title, record.sources, record.entry).read == found


def test_a_failed_write_does_not_read_the_source_to_its_end(record: Record) -> None:
    before = active_count()
    with record.sources[0].open("ab") as file:
        file.truncate(1 << 40)  # it would take half an hour to read
    with pytest.raises(OSError, match="full"), record.digesting():
        raise OSError("full")
    assert active_count() == before


def test_a_digest_that_is_no_longer_needed_is_cancelled(record: Record) -> None:
    stopped = Event()
    stopped.set()
    with pytest.raises(CancelledError):
        digest(record.sources[0], stopped)


def test_a_source_that_cannot_be_read_is_an_error_of_the_transfer(record: Record) -> None:
    record.sources[0].unlink()
    with record.digesting(), pytest.raises(FileNotFoundError):
        _ = record.read
