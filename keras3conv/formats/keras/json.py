"""Read the architecture in a JSON file that `model.to_json()` wrote, as plain data, without running code."""

from pathlib import Path
from typing import Any

from keras3conv.errors import BudgetExceeded, MalformedCheckpoint, quoted
from keras3conv.formats.keras.architecture import Architecture, parse
from keras3conv.formats.safe.source import Source, parse_json

_MAX_JSON = 64 << 20


def read(path: Path) -> Architecture:
    """Return the architecture of the model in a JSON file.

    Raises:
        FileError: The file is missing, too large, or does not contain a Keras architecture.
    """
    return parse(parsed(path), str(path))


def parsed(path: Path) -> Any:
    """Return the content of a JSON file as plain data.

    Raises:
        FileError: The file is missing, too large, or not a JSON object.
    """
    source = Source.pin(path)
    if source.size > _MAX_JSON:
        raise BudgetExceeded(f"{path} has {source.size:,} bytes; the limit for an architecture is {_MAX_JSON:,}")
    with source.open() as file:
        found = parse_json(bytes(source.read(file, 0, source.size)), str(path), infinite=True)
    if not isinstance(found, dict):
        raise MalformedCheckpoint(f"{path} must contain a JSON object, as Keras writes it; found {quoted(found)}")
    return found
