"""Read the digests in `metadata.json`, which `convert` writes beside the files of a new model."""

import json
from collections.abc import Mapping
from pathlib import Path

from keras3conv.errors import FileError

NAME = "metadata.json"


def read_digests(path: Path) -> Mapping[str, str]:
    """Return the sha256 of every file of a conversion, by its name.

    Args:
        path: The `metadata.json`.

    Raises:
        FileError: The file cannot be read, or `convert` did not write it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path} is damaged: it is not valid JSON: {error}") from error
    digests = content.get("sha256") if isinstance(content, dict) else None
    if not isinstance(digests, dict) or not all(isinstance(one, str) for one in digests.values()):
        raise FileError(f"{path} has no digests of files, so keras3conv convert did not write it")
    return digests


__all__ = ["NAME", "read_digests"]
