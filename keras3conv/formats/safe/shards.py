"""Find the files (shards) that an index names, without leaving the folder of the index."""

import os
from pathlib import Path
from typing import Any

from keras3conv.errors import IncompleteCheckpoint, MalformedCheckpoint, UnsafeCheckpoint, quoted
from keras3conv.formats.safe.source import Source, check_count, parse_json


def read_index(source: Source, limit: int) -> dict[str, Any]:
    """Return the content of an index, in which `weight_map` is a dict that is not empty.

    Args:
        source: The index.
        limit: The largest number of bytes that are read.

    Raises:
        MalformedCheckpoint: The file is larger, or it is no index.
    """
    if source.size > limit:
        raise MalformedCheckpoint(
            f"{source.path} has {source.size:,} bytes, too many for the index of a sharded checkpoint; the limit is "
            f"{limit:,}"
        )
    with source.open() as file:
        raw = bytes(source.read(file, 0, source.size))
    check_count(raw.count(b'"') // 4, str(source.path))  # before the index is parsed; 4 quotes per entry
    content = parse_json(raw, str(source.path))
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(weight_map, dict) or not weight_map:
        raise MalformedCheckpoint(
            f"{source.path} has no key weight_map, so it is not the index of a sharded checkpoint"
        )
    return content


def require_plain(source: Source, key: str, name: object, suffix: str) -> None:
    """Raise `UnsafeCheckpoint` if a value in an index is not the name of a file in the folder of the index.

    Args:
        source: The index.
        key: The key of the value: the name of a tensor or of a group.
        name: The value.
        suffix: The suffix that the name must have, such as ".safetensors".
    """
    is_text = isinstance(name, str) and name.endswith(suffix)
    if not is_text or any(mark in str(name) for mark in ("/", "\\", ":", "\0")):
        raise UnsafeCheckpoint(
            f"{source.path}: {quoted(key)} is in the shard {quoted(name)}, which is not a file name in the folder of "
            "the index"
        )


def shard_path(source: Source, name: str) -> Path:
    """Return the path of a shard; a symbolic link may only lead into the `blobs` folder of a Hugging Face cache.

    Args:
        source: The index of the shards.
        name: The name of the shard in the index.

    Raises:
        IncompleteCheckpoint: The shard is missing.
        UnsafeCheckpoint: The shard is a link to any other folder.
    """
    path = source.path.parent / name
    if not os.path.lexists(path):
        raise IncompleteCheckpoint(
            f"{source.path}: the shard {quoted(name)} is missing in its folder; put it next to the index"
        )
    if path.is_symlink():
        target = Path(os.path.realpath(path))  # `Path.resolve` raises RuntimeError for a link to itself
        if target.parent.name != "blobs" or target.parent.parent not in source.path.absolute().parents:
            raise UnsafeCheckpoint(
                f"{path} is a link to {path.readlink()}, outside of the folder of the index, and links are not "
                "followed; copy the file"
            )
    return path
