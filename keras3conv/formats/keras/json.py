"""An architecture alone, as `model.to_json()` writes it: read as data, nothing in it is run."""

from pathlib import Path
from typing import Any

from keras3conv.errors import BudgetExceeded, FileError, MalformedCheckpoint
from keras3conv.formats.keras.architecture import Architecture, parse
from keras3conv.formats.safe.source import parse_json

_MAX_JSON = 64 << 20


def read(path: Path) -> Architecture:
    """The architecture in a JSON file.

    Raises:
        FileError: The file is missing, too large, or holds no architecture of Keras.
    """
    return parse(parsed(path), str(path))


def parsed(path: Path) -> Any:
    """The same as plain data, as it stands in the file.

    Raises:
        FileError: The file is missing, too large, or no JSON object.
    """
    if not path.is_file():
        raise FileError(f"{path} does not exist, or is no regular file")
    size = path.stat().st_size
    if size > _MAX_JSON:
        raise BudgetExceeded(f"{path} has {size:,} bytes: an architecture has {_MAX_JSON:,} at most")
    found = parse_json(path.read_bytes(), str(path))
    if not isinstance(found, dict):
        raise MalformedCheckpoint(f"{path}: the architecture is not that of a Keras model")
    return found
