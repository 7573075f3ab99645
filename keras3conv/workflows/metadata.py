"""Read the digests, the name, the inputs and the outputs in the `metadata.json` that `convert` writes."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from keras3conv.errors import FileError

NAME = "metadata.json"

_AUTOMATIC = re.compile(r"(functional|sequential|model)(_\d+)?", re.IGNORECASE)
"""The pattern of the names that models have whose author gave them none."""


def read_digests(path: Path) -> Mapping[str, str]:
    """Return the sha256 of every file of a conversion, by its name.

    Args:
        path: The `metadata.json`.

    Raises:
        FileError: The file cannot be read, or `convert` did not write it.
    """
    content = _read(path)
    digests = content.get("sha256") if isinstance(content, dict) else None
    if not isinstance(digests, dict) or not all(isinstance(one, str) for one in digests.values()):
        raise FileError(f"{path} has no digests of files, so keras3conv convert did not write it")
    return digests


def read_name(path: Path) -> str:
    """Return the name of a converted model; empty if its author gave it none, so that it is "functional_1".

    Args:
        path: The `metadata.json`.

    Raises:
        FileError: The file cannot be read.
    """
    content = _read(path)
    name = content.get("name") if isinstance(content, dict) else None
    return name if isinstance(name, str) and not _AUTOMATIC.fullmatch(name) else ""


def read_signature(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the inputs and the outputs of a converted model, each as text, such as "x: float32 (batch, 3, 12)".

    Args:
        path: The `metadata.json`.

    Raises:
        FileError: The file cannot be read.
    """
    content = _read(path)
    inputs, outputs = (_tensors(content, key) for key in ("inputs", "outputs"))
    return inputs, outputs


def _tensors(content: object, key: str) -> tuple[str, ...]:
    listed = content.get(key, ()) if isinstance(content, dict) else ()
    tensors = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    names = (next(filter(None, map(one.get, ("name", "keras_name", "torch_name"))), "") for one in tensors)
    return tuple(
        f"{f'{name}: ' if name else ''}{one.get('dtype')} {one.get('shape')}"
        for name, one in zip(names, tensors, strict=True)
    )


def _read(path: Path) -> object:
    """Return the content of a JSON file as plain data; raise `FileError` if it cannot be read."""
    try:
        content: object = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path} is damaged: it is not valid JSON: {error}") from error
    return content
