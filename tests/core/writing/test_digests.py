"""A file is read once for both digests and the checksums of its tensors."""

import hashlib
import io
import zlib
from pathlib import Path

import numpy as np
import pytest

from keras3conv.errors import MalformedCheckpoint
from keras3conv.formats import store
from keras3conv.formats.safe.streaming import Extent
from keras3conv.writing.digests import HashedBlocks, digest

SIZES = (0, 1, (1 << 18) - 1, 1 << 18, (1 << 18) + 1, (1 << 18) + (1 << 20), (1 << 18) + (3 << 20) + 5)
"""Sizes around the ends of the blocks in which a file is read."""


def content(size: int) -> bytes:
    return np.random.default_rng(size).bytes(size)


@pytest.mark.parametrize("size", SIZES)
def test_the_digests_are_those_of_hashlib(tmp_path: Path, size: int) -> None:
    path = tmp_path / "x"
    path.write_bytes(content(size))
    found = digest(path)
    assert (found.path, found.size) == (str(path), size)
    assert found.sha256 == hashlib.sha256(content(size)).hexdigest()
    assert found.md5 == hashlib.md5(content(size), usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("size", SIZES)
def test_without_digests_the_blocks_are_the_same(size: int) -> None:
    blocks = HashedBlocks(io.BytesIO(content(size)), hashed=False)
    assert b"".join(map(bytes, blocks)) == content(size)
    assert (blocks.description("x").sha256, blocks.description("x").md5) == ("", "")


def test_the_checksums_of_ranges_that_cross_blocks_and_overlap_are_those_of_their_bytes() -> None:
    size = SIZES[-1]
    edge = 1 << 18
    places = {
        "whole": Extent(0, size),
        "empty": Extent(5, 0),
        "first": Extent(0, edge),
        "second": Extent(edge, 1 << 20),
        "across": Extent(edge - 3, (1 << 20) + 6),
        "again": Extent(edge - 3, (1 << 20) + 6),
        "last": Extent(size - 1, 1),
    }
    whole = content(size)
    found = store._checksums_of(HashedBlocks(io.BytesIO(whole)), places)
    assert found == {name: zlib.crc32(whole[place.start : place.start + place.size]) for name, place in places.items()}


@pytest.mark.parametrize("start", [0, (1 << 18) - 1, 1 << 18, 1 << 20])
def test_a_range_beyond_the_end_of_the_file_has_no_checksum(tmp_path: Path, start: int) -> None:
    path = tmp_path / "x"
    path.write_bytes(content(1 << 18))
    with pytest.raises(MalformedCheckpoint, match="became shorter while it was read"):
        store._read_again(path, lambda _source: {"x": Extent(start, (1 << 18) + 1)}, hashed=True)
