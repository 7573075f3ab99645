"""TensorFlow checkpoints that are damaged or hostile are refused."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keras3conv.errors import (
    BudgetExceeded,
    FileError,
    IncompleteCheckpoint,
    MalformedCheckpoint,
    UnsafeCheckpoint,
)
from keras3conv.formats.tensorflow.graph import GRAPH
from tests.support import guarded
from tests.support import tensorflow_files as files
from tests.support.guarded import Case, Outcome
from tests.support.tensorflow_files import entry, field, varint

DATA = "x.data-00000-of-00001"


def stored(content: bytes, values: bytes = bytes(8)) -> Callable[[Path], Path]:
    return lambda folder: files.write(folder, content, values)


def holding(values: bytes = bytes(8), start: bytes | None = None, **entries: bytes) -> Callable[[Path], Path]:
    return stored(files.index(entries, start), values)


def malformed(says: str, **changes: Any) -> Case:
    return Case(build=holding(a=entry(**changes)), error=MalformedCheckpoint, says=says)


def graph(message: bytes, says: str, error: type[FileError] = MalformedCheckpoint) -> Case:
    text, checksum = files.text_of(message)
    whole = entry(code=files.TEXT, shape=(), size=len(text), checksum=checksum)
    return Case(build=stored(files.index({GRAPH: whole}), text), error=error, says=says)


def changed(change: Callable[[Path], object]) -> Callable[[Path], Path]:
    """Return a builder of a valid checkpoint that is changed afterwards."""

    def build(folder: Path) -> Path:
        path = files.write(folder, files.index({"a/kernel": entry()}))
        change(folder)
        return path

    return build


def linked(folder: Path) -> None:
    outside = folder.parent / "outside.bin"
    outside.write_bytes((folder / DATA).read_bytes())
    (folder / DATA).unlink()
    (folder / DATA).symlink_to(outside)


def sparse(folder: Path) -> Path:
    path = files.write(folder, b"")
    with path.open("wb") as file:
        file.seek(200 << 20)
        file.write(files.MAGIC)
    return path


def long_key(folder: Path) -> Path:
    return files.write(folder, files.index({"k" * 5000: entry()}))


def repeated_prefix(folder: Path) -> Path:
    """Write an index whose keys repeat a prefix of 2,000 bytes, which takes a few bytes each."""
    first = varint(0) + varint(1990) + varint(0) + b"k" * 1990
    more = b"".join(varint(1990) + varint(4) + varint(0) + struct.pack(">I", number) for number in range(60_000))
    return files.write(folder, files.table(first + more + struct.pack("<II", 0, 1)))


def deep(depth: int) -> bytes:
    nodes = [field(1, field(1, number + 1) + field(2, b"a")) for number in range(depth)]
    return b"".join(field(1, node) for node in [*nodes, b""])


CASES = {
    "no shard": Case(
        build=changed(lambda folder: (folder / DATA).unlink()), error=IncompleteCheckpoint, says="missing"
    ),
    "a shard cut off": Case(
        build=changed(lambda folder: (folder / DATA).write_bytes(bytes(7))),
        error=IncompleteCheckpoint,
        says="not downloaded or written completely",
    ),
    "a shard that is empty": Case(
        build=changed(lambda folder: (folder / DATA).write_bytes(b"")), error=MalformedCheckpoint, says="empty"
    ),
    "a shard with other values": Case(
        build=changed(lambda folder: (folder / DATA).write_bytes(bytes(8))), error=MalformedCheckpoint, says="checksum"
    ),
    "a shard that is a link": Case(build=changed(linked), error=UnsafeCheckpoint, says="is a link"),
    "an index of 200 MiB of holes": Case(build=sparse, error=BudgetExceeded, says="the limit for an index"),
    "no end": Case(build=stored(files.index({"a": entry()})[:-1]), error=MalformedCheckpoint, says="nor any other"),
    "only an end": Case(build=stored(files.MAGIC), error=MalformedCheckpoint, says="nor any other"),
    "a block outside of the file": Case(
        build=stored(bytes(8) + (varint(0) * 2 + varint(1 << 60) + varint(1 << 60)).ljust(40, b"\0") + files.MAGIC),
        error=MalformedCheckpoint,
        says="is too short for its block",
    ),
    "a number without an end": Case(
        build=stored(bytes(8) + b"\xff" * 40 + files.MAGIC), error=MalformedCheckpoint, says="more than 64 bits"
    ),
    "a compressed block": Case(
        build=stored(files.table(files.block_of([(b"", files.header())]), compression=1)),
        error=MalformedCheckpoint,
        says="is compressed",
    ),
    "keys that are not in order": Case(
        build=stored(files.table(files.block_of([(b"", files.header()), (b"b", entry()), (b"a", entry())]))),
        error=MalformedCheckpoint,
        says="not in order: b'a'",
    ),
    "a key twice": Case(
        build=stored(files.table(files.block_of([(b"", files.header()), (b"a", entry()), (b"a", entry())]))),
        error=MalformedCheckpoint,
        says="not in order",
    ),
    "an entry longer than its block": Case(
        build=stored(files.table(varint(0) + varint(1) + varint(1 << 40) + b"a" + struct.pack("<II", 0, 1))),
        error=MalformedCheckpoint,
        says="does not fit into its block",
    ),
    "more places than bytes": Case(
        build=stored(files.table(struct.pack("<I", 1 << 30))), error=MalformedCheckpoint, says="list of key positions"
    ),
    "no place": Case(build=stored(files.table(bytes(4))), error=MalformedCheckpoint, says="list of key positions"),
    "a place between two keys": Case(
        build=stored(files.table(files.block_of([(b"", files.header())])[:-8] + struct.pack("<III", 0, 1, 2))),
        error=MalformedCheckpoint,
        says="lists key positions at which no key starts",
    ),
    "a name of 5,000 bytes": Case(build=long_key, error=BudgetExceeded, says="5,000 bytes"),
    "names that repeat a long prefix": Case(build=repeated_prefix, error=BudgetExceeded, says="bytes of names"),
    "a name that is not UTF-8": Case(build=holding(**{"a\udcff": entry()}), error=MalformedCheckpoint, says="UTF-8"),
    "no header": Case(build=holding(start=b"", a=entry()), error=MalformedCheckpoint, says="0 files of values"),
    "a billion shards": Case(
        build=holding(start=files.header(shards=10**9), a=entry()),
        error=MalformedCheckpoint,
        says="1,000,000,000 files",
    ),
    "an unknown byte order": Case(
        build=holding(start=files.header(order=7), a=entry()), error=MalformedCheckpoint, says="byte order 7"
    ),
    "a size that is not that of the shape": malformed("has 12 bytes", shape=(3,)),
    "a shape that overflows": malformed("cannot have the shape", shape=(1 << 62, 1 << 62)),
    "a negative size of an axis": malformed("cannot have the shape", shape=(-2,)),
    "an unknown size of an axis": malformed("cannot have the shape", shape=(-1,)),
    "forty axes": malformed("cannot have the shape", shape=(1,) * 40),
    "a negative start": malformed("from byte -8", start=-8),
    "a negative shard": malformed("of file -1", shard=-1),
    "a shard that the header does not have": malformed("are in file 3", shard=3),
    "a field that is not a number": malformed("must be a number", more=field(4, b"four")),
    "an unknown wire type": malformed("wire type 7", more=b"\x0f"),
    "a field longer than its message": malformed("before the end", more=b"\x3a\x7f"),
    "a terabyte in the index": Case(
        build=holding(a=entry(shape=(1 << 38,), size=1 << 40)), error=IncompleteCheckpoint, says="ends at byte"
    ),
    "two tensors in the same bytes": Case(
        build=holding(a=entry(), b=entry()), error=MalformedCheckpoint, says="overlaps the tensor before it"
    ),
    "a partitioned variable": Case(
        build=holding(a=entry(more=field(7, b""))), error=FileError, says="is a partitioned variable"
    ),
    "texts alone": Case(
        build=holding(a=entry(code=files.TEXT, shape=())), error=FileError, says="without weights; it has a"
    ),
    "a graph of numbers": Case(build=holding(**{GRAPH: entry()}), error=MalformedCheckpoint, says="is not a text"),
    "a graph longer than its text": Case(
        build=holding(**{GRAPH: entry(code=files.TEXT, shape=(), checksum=files.checksum(bytes(11)))}),
        error=MalformedCheckpoint,
        says="declares 0 bytes",
    ),
    "a graph with an object that is not there": graph(field(1, field(1, field(1, 9))), "that is not in the graph"),
    "a graph of a thousand levels": graph(deep(1000), "deeper than 64 levels"),
    "a graph with a name that is not UTF-8": graph(field(1, field(1, field(2, b"\xff"))), "is not UTF-8"),
    "a graph that runs in a circle": graph(
        field(1, field(1, field(1, 0) + field(2, b"a"))), "without weights", error=FileError
    ),
    "a graph of other variables": graph(
        field(1, field(2, field(1, b"VARIABLE_VALUE") + field(3, b"b"))), "the graph of objects has 'b'"
    ),
    "a graph of half a million objects": graph(field(1, b"") * 500_000, "more than 400,000", error=BudgetExceeded),
}


@pytest.fixture(scope="module")
def found() -> dict[str, Outcome]:
    return guarded.outcomes(__name__)


@pytest.mark.parametrize("name", CASES)
def test_a_bad_file_is_refused(found: dict[str, Outcome], name: str) -> None:
    guarded.check(CASES[name], found[name])
