"""Find the files (shards) that an index names, without leaving the folder of the index."""

import os
from pathlib import Path

from keras3conv.errors import IncompleteCheckpoint, UnsafeCheckpoint, quoted
from keras3conv.formats.safe.source import Source


def is_plain(name: object, suffix: str) -> bool:
    """Return whether a value in an index is the name of a file in the folder of the index.

    Args:
        name: The value.
        suffix: The suffix that the name must have, such as ".safetensors".
    """
    return isinstance(name, str) and name.endswith(suffix) and not any(mark in name for mark in ("/", "\\", ":", "\0"))


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
