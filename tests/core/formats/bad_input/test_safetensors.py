"""Safetensors files and indexes that are damaged or hostile are refused."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keras3conv import formats
from keras3conv.errors import (
    BudgetExceeded,
    FileError,
    IncompleteCheckpoint,
    MalformedCheckpoint,
    UnsafeCheckpoint,
)
from tests.support import good_files, guarded
from tests.support.good_files import entry
from tests.support.guarded import Case, Outcome, read_all

ONE = {"a": entry()}


def stored(header: Any, body: bytes = b"", length: int | None = None) -> Callable[[Path], Path]:
    """Return a builder: a header (bytes, or JSON), the values, and another declared length of the header."""

    def build(folder: Path) -> Path:
        raw = header if isinstance(header, bytes) else json.dumps(header).encode()
        path = folder / "x.safetensors"
        path.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + body)
        return path

    return build


def raw(content: bytes) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        (folder / "x.safetensors").write_bytes(content)
        return folder / "x.safetensors"

    return build


def malformed(header: Any, body: bytes = bytes(8), says: str = "'a'") -> Case:
    return Case(build=stored(header, body), error=MalformedCheckpoint, says=says)


def sharded(weight_map: Any, change: Callable[[Path], None] = lambda _: None, **more: Any) -> Callable[[Path], Path]:
    """Return a builder of an index over two shards, with the tensors "a" and "b"."""

    def build(folder: Path) -> Path:
        good_files.safetensors(folder, file="1.safetensors", a=entry())
        good_files.safetensors(folder, file="2.safetensors", b=entry())
        change(folder)
        path = folder / "model.safetensors.index.json"
        path.write_text(json.dumps({"weight_map": weight_map, **more}))
        return path

    return build


def unsafe_shard(name: Any) -> Case:
    return Case(build=sharded({"a": name}), error=UnsafeCheckpoint, says="'a' is in")


BOTH = {"a": "1.safetensors", "b": "2.safetensors"}


def linked(folder: Path) -> None:
    (folder / "3.safetensors").symlink_to("/etc/passwd")


def loop(folder: Path) -> None:
    (folder / "3.safetensors").symlink_to("3.safetensors")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "3.safetensors")


def doubled(folder: Path) -> None:
    good_files.safetensors(folder, file="2.safetensors", b=entry(), a=entry(data_offsets=[8, 16]))


def numbered(folder: Path) -> None:
    for number, name in enumerate("abc", 1):
        good_files.safetensors(folder, file=f"model-0000{number}-of-00003.safetensors", **{name: entry()})


def zero_tail(folder: Path) -> None:
    stored({"b": entry(shape=[4096], data_offsets=[0, 16384])}, bytes([1]) * 8192 + bytes(8192))(folder)
    (folder / "x.safetensors").rename(folder / "2.safetensors")


def text_file(name: str, text: str) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        good_files.safetensors(folder, file="1.safetensors", a=entry())
        (folder / name).write_text(text)
        return folder / name

    return build


def link_to_itself(folder: Path) -> Path:
    (folder / "x.safetensors").symlink_to("x.safetensors")
    return folder / "x.safetensors"


def missing(name: str) -> Callable[[Path], Path]:
    return lambda folder: folder / name


def named_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "x.safetensors")
    return folder / "x.safetensors"


OVERFLOWING = entry(shape=[4194305, 4194305, 211106198978564], data_offsets=[0, 16])
CASES = {
    # S1 to S3
    "a header longer than the file": Case(
        build=stored(ONE, bytes(8), 10**6), error=MalformedCheckpoint, says="not fit"
    ),
    "a header of 100 MB": Case(build=stored(ONE, bytes(8), 10**8 + 1), error=MalformedCheckpoint, says="not fit"),
    "a header of 2**63 bytes": Case(build=stored(ONE, bytes(8), 2**63), error=MalformedCheckpoint, says="not fit"),
    "a header of 2**64 - 1 bytes": Case(
        build=stored(ONE, bytes(8), 2**64 - 1), error=MalformedCheckpoint, says="not fit"
    ),
    "an empty file": Case(build=raw(b""), error=MalformedCheckpoint, says="is empty"),
    "seven bytes": Case(build=raw(bytes(7)), error=MalformedCheckpoint, says="needs at least 8"),
    "an empty header": Case(build=stored(b""), error=MalformedCheckpoint, says="not fit"),
    # S4 to S6
    "100,000 tensors in the same bytes": Case(
        build=stored({f"w{place}": entry() for place in range(100_000)}, bytes(8)),
        error=MalformedCheckpoint,
        says="'w1' overlaps",
    ),
    "two tensors that overlap": malformed({"a": entry(), "b": entry(data_offsets=[4, 12])}, bytes(12), "'b' overlaps"),
    "a gap between tensors": malformed(
        {"a": entry(), "b": entry(data_offsets=[12, 20])}, bytes(20), "'b' leaves a gap"
    ),
    "bytes after the last tensor": malformed(ONE, bytes(9), "its header describes"),
    "a body that is too short": malformed(ONE, bytes(7), "its header describes"),
    # S7 to S10
    "a shape of another size": malformed({"a": entry(shape=[3])}),
    "a shape of the same size": Case(build=stored({"a": entry(shape=[2, 1])}, bytes(8)), error=None),
    "negative offsets": malformed({"a": entry(data_offsets=[-8, 0])}),
    "offsets with a point": malformed({"a": entry(data_offsets=[0.0, 8])}),
    "offsets in texts": malformed({"a": entry(data_offsets=["0", "8"])}),
    "three offsets": malformed({"a": entry(data_offsets=[0, 4, 8])}),
    "offsets in the wrong order": malformed({"a": entry(data_offsets=[8, 0])}),
    "an offset beyond 64 bits": malformed({"a": entry(data_offsets=[0, 2**70])}),
    "a boolean in a shape": malformed({"a": entry(shape=[True, 2])}),
    "a number with a point in a shape": malformed({"a": entry(shape=[2.0])}),
    "a shape that is a number": malformed({"a": entry(shape=2)}),
    "a shape whose product overflows to a valid size": malformed({"a": OVERFLOWING}, bytes(16)),
    "a shape of 2**66 elements": malformed({"a": entry(shape=[2**33, 2**33])}),
    "a tensor without elements": Case(
        build=stored({"z": entry(shape=[0], data_offsets=[0, 0]), "a": entry()}, bytes(8)), error=None
    ),
    "an axis of 2**62 beside one of 0": malformed({"a": entry(shape=[0, 2**62], data_offsets=[0, 0])}, b""),
    "33 axes": malformed({"a": entry(shape=[1] * 33, dtype="U8", data_offsets=[0, 1])}, bytes(1)),
    # S11, S12
    "a name twice with different offsets": malformed(
        b'{"a":' + json.dumps(entry()).encode() + b',"a":' + json.dumps(entry(data_offsets=[8, 16])).encode() + b"}",
        bytes(16),
    ),
    "a name twice with the same offsets": malformed(
        b'{"a":' + json.dumps(entry()).encode() + b',"a":' + json.dumps(entry()).encode() + b"}"
    ),
    "a field twice": malformed(b'{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}', says="'dtype'"),
    "an unknown dtype": malformed({"a": entry(dtype="F99")}),
    "a dtype of half a byte": malformed({"a": entry(dtype="F4", shape=[3], data_offsets=[0, 2])}, bytes(2)),
    "a dtype that is a list": malformed({"a": entry(dtype=["F32"])}),
    "a dtype of 10,000 characters": malformed({"a": entry(dtype="F" * 10_000)}),
    "an unknown field": malformed({"a": entry(more=1)}),
    "a missing field": malformed({"a": {"dtype": "F32", "shape": [2]}}),
    "a space before the header": Case(build=stored(b" {}"), error=MalformedCheckpoint),
    "a list as the header": Case(build=stored(b"[]"), error=MalformedCheckpoint),
    "metadata that is a list": malformed({"__metadata__": [], **ONE}, says="__metadata__"),
    "metadata with a number": malformed({"__metadata__": {"format": 1}, **ONE}, says="__metadata__"),
    # S13
    "bytes that are not UTF-8": Case(build=stored(b'{"\xff":1}'), error=MalformedCheckpoint),
    "a lone surrogate in a name": malformed(b'{"a\\ud800":' + json.dumps(entry()).encode() + b"}", says="not valid"),
    "control characters in a name": malformed({"a\x1b[2J\r\n": entry(shape=[3])}, says=r"x1b\[2J"),
    "a name of 1 MB": malformed({"a" * 10**6: entry()}, says="1,000,000 characters"),
    "a name of 5,000 characters": malformed({"a" * 5000: entry()}, says="5,000 characters"),
    "a NUL and a path in a name": Case(build=stored({"../\0x": entry()}, bytes(8)), error=None),
    "two names that look the same": malformed(
        {"é": entry(), "e\u0301": entry(data_offsets=[8, 16])}, bytes(16), "form"
    ),
    # S14, S15
    "JSON with a depth of 100,000": Case(build=stored(b'{"a":' + b"[" * 100_000), error=MalformedCheckpoint),
    "a number of 5,000 digits": Case(build=stored(b'{"a":' + b"1" * 5000 + b"}"), error=MalformedCheckpoint),
    "an infinite number": Case(build=stored(b'{"a":1e999}'), error=MalformedCheckpoint),
    "not a number": Case(build=stored(b'{"a":NaN}'), error=MalformedCheckpoint),
    "400,000 tensors": Case(
        build=stored(b"{" + b",".join(b'"%d":{"data_offsets":0}' % place for place in range(400_000)) + b"}"),
        error=BudgetExceeded,
        says="400,000 tensors",
    ),
    "400,000 tensors with escapes in the names of the fields": Case(
        build=stored(b"{" + b",".join(b'"%d":{"\\u0064ata_offsets":0}' % place for place in range(400_000)) + b"}"),
        error=BudgetExceeded,
    ),
    "a million entries of metadata": Case(
        build=stored(
            b'{"__metadata__":{'
            + b",".join(b'"%d":""' % place for place in range(10**6))
            + b'},"a":'
            + json.dumps(entry()).encode()
            + b"}",
            bytes(8),
        ),
        error=BudgetExceeded,
    ),
    "metadata of 20 MB": Case(
        build=stored({"__metadata__": {"a": "x" * (20 << 20)}, **ONE}, bytes(8)),
        error=BudgetExceeded,
        says="the header has",
    ),
    # I1
    **{
        f"a shard {name!r}": unsafe_shard(name)
        for name in (
            "../x.safetensors",
            "/etc/passwd",
            "C:\\x",
            "a\\..\\b",
            "\0",
            "",
            5,
            None,
            ["x"],
            "sub/x.safetensors",
        )
    },
    # I2
    "a shard that is a link": Case(
        build=sharded({"a": "3.safetensors"}, linked), error=UnsafeCheckpoint, says="is a link"
    ),
    "a shard that is a link to itself": Case(
        build=sharded({"a": "3.safetensors"}, loop), error=UnsafeCheckpoint, says="is a link"
    ),
    "a shard that is a named pipe": Case(
        build=sharded({"a": "3.safetensors"}, pipe), error=FileError, says="not a regular file"
    ),
    # I3
    "a missing shard": Case(
        build=sharded({"a": "3.safetensors"}), error=IncompleteCheckpoint, says="the shard '?3.safetensors'? is missing"
    ),
    "a tensor that no shard has": Case(
        build=sharded({**BOTH, "c": "1.safetensors"}),
        error=IncompleteCheckpoint,
        says="lack tensors that the index lists: c",
    ),
    "a tensor in two shards": Case(build=sharded(BOTH, doubled), error=MalformedCheckpoint, says="also contains a"),
    "a shard that the index forgot": Case(
        build=sharded({"a": "model-00001-of-00003.safetensors", "b": "model-00002-of-00003.safetensors"}, numbered),
        error=IncompleteCheckpoint,
        says="lists no tensor of the shard 'model-00003-of-00003.safetensors'",
    ),
    # I4
    "a total size that is wrong": Case(build=sharded(BOTH, metadata={"total_size": 999}), error=None),
    "an index with a key twice": Case(
        build=text_file("model.safetensors.index.json", '{"weight_map": {"a": "1.safetensors", "a": "1.safetensors"}}'),
        error=MalformedCheckpoint,
        says="'a' occurs twice",
    ),
    "an index with NaN": Case(
        build=text_file("model.safetensors.index.json", '{"weight_map": NaN}'), error=MalformedCheckpoint, says="NaN"
    ),
    "an index without a map": Case(
        build=text_file("model.safetensors.index.json", "[]"), error=MalformedCheckpoint, says="has no key weight_map"
    ),
    "an index of a million entries": Case(
        build=sharded({str(place): "1.safetensors" for place in range(10**6)}), error=BudgetExceeded, says="1,000,000"
    ),
    # I5
    "a shard that was downloaded only in part": Case(build=sharded(BOTH, zero_tail), error=None),
    # What is no regular file
    "a link to itself": Case(build=link_to_itself, error=FileError, says="cannot be read"),
    "a name of 5,000 characters for the file": Case(
        build=missing("x" * 5000 + ".safetensors"), error=FileError, says="xxx"
    ),
    "a surrogate in the name of the file": Case(build=missing("x\ud800.safetensors"), error=FileError),
    "a NUL in the name of the file": Case(build=missing("x\0.safetensors"), error=FileError, says="not a file name"),
    "a named pipe": Case(build=named_pipe, error=FileError, says="not a regular file"),
}


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    return guarded.outcomes(__name__)


@pytest.mark.parametrize("case", CASES)
def test_a_bad_file_is_refused_without_side_effects(case: str, outcomes: dict[str, Outcome]) -> None:
    guarded.check(CASES[case], outcomes[case])


def test_an_index_with_a_wrong_total_size_is_read_with_a_warning(tmp_path: Path) -> None:
    view = formats.read(sharded(BOTH, metadata={"total_size": 999})(tmp_path))
    assert view.facts["warning"] == "the index declares 999 bytes, but the shards contain 16"


def test_a_shard_that_ends_with_zeros_is_read_with_a_warning(tmp_path: Path) -> None:
    path = sharded(BOTH, zero_tail)(tmp_path)
    read_all(path)
    assert "2.safetensors ends with 8,192 zeros" in formats.read(path).facts["warning"]
