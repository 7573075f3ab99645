"""Create the model card of a converted model from the files that `convert` or `transfer` wrote."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from keras3conv.errors import FileError, InputError
from keras3conv.report.card import Card
from keras3conv.report.report import Report
from keras3conv.writing.digests import WrittenFile, digest
from keras3conv.writing.outputs import write_text

_WEIGHTS = ("*.safetensors", "*.pt", "*.pth", "*.keras", "*.weights.h5", "*.h5")
"""The patterns of weight files in a folder; the card shows how to load the first one."""


def make_card(
    model: Path,
    *,
    report: Path | None,
    sources: Sequence[Path],
    licence: str,
    name: str,
    base_model: str,
) -> Card:
    """Return the card of a folder that `convert` wrote, or of a file of weights.

    Args:
        model: The folder, or the file.
        report: The certificate as JSON; by default `report.json` in the folder.
        sources: The files that the model was made of.
        licence: The licence of the weights.
        name: The name of the model; by default that of the folder or file.
        base_model: The model on the hub of which this is a conversion.

    Raises:
        InputError: There is no certificate.
        FileError: A file cannot be read.
    """
    files = _weights(model)
    path = report or (model if model.is_dir() else model.parent) / "report.json"
    try:
        certificate = Report.from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        fix = "Fix:  --report report.json  # which keras3conv validate --report report.json writes"
        raise InputError(f"{path} does not exist, and a card needs the certificate\n{fix}") from error
    except (OSError, UnicodeDecodeError, InputError) as error:
        raise InputError(f"{path} cannot be read as the JSON report that keras3conv wrote: {error}") from error
    return Card(
        name=name or model.absolute().stem,
        report=certificate,
        files=tuple(replace(_digest(file), path=file.name) for file in files),
        sources=tuple(replace(_digest(file), path=file.name) for file in sources),
        licence=licence,
        base_model=base_model,
        has_code=(files[0].parent / "model.py").exists(),
    )


def write_card(card: Card, path: Path, *, overwrite: bool) -> None:
    """Write a card to a file; raise `FileError` if the file exists or cannot be written."""
    from keras3conv.report.html import write_card as to_markdown

    write_text(path, to_markdown(card), overwrite=overwrite)


def _weights(model: Path) -> list[Path]:
    if not model.is_dir():
        return [model]
    found = list(dict.fromkeys(file for pattern in _WEIGHTS for file in sorted(model.glob(pattern))))
    if not found:
        raise InputError(f"{model} contains no file of weights; such a file is named {', '.join(_WEIGHTS)}")
    return found


def _digest(path: Path) -> WrittenFile:
    try:
        return digest(path)
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}") from error


__all__ = ["make_card", "write_card"]
