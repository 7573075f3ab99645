"""Save a report in the format that belongs to the suffix of the file; an older report is replaced atomically."""

import re
from collections.abc import Callable
from functools import partial
from os import PathLike
from pathlib import Path

from keras3conv.errors import FileError, InputError
from keras3conv.report import html, json, markdown, text
from keras3conv.report.values import GLYPHS, Document
from keras3conv.writing.digests import WrittenFile, digest
from keras3conv.writing.outputs import write_text

_VERDICT = rf"(?:{'|'.join(map(re.escape, GLYPHS.values()))}) \w"

_SIGNS = {
    ".html": r"<p class=\"eyebrow\">keras3conv report</p>",
    ".md": rf"\A# .*\n\n\*\*{_VERDICT}",
    ".json": r"\A\{\n \"format\": \d+,\n \"title\"",
    ".txt": rf"\A(?:.*\n){{1,9}}{_VERDICT}",
}
"""For each suffix of a report file, the pattern by which the content of a file is recognized as a report."""


def require_replaceable(path: Path) -> None:
    """Raise `FileError` if a file exists and is not a report; an older report may be replaced."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        content = file.read(1 << 20)
    sign = _SIGNS.get(path.suffix.lower())
    if content and sign and not re.search(sign, content):
        raise FileError(f"{path} exists and is not a report: only a report is replaced; choose another name")


def save(report: Document, path: str | PathLike[str]) -> WrittenFile:
    """Write a report to a file, in the format of its suffix (.html, .md, .json, .txt); return its size and digests."""
    target = Path(path)
    forms: dict[str, Callable[[Document], str]] = {
        ".html": html.write,
        ".md": markdown.write,
        ".json": json.encode,
        ".txt": partial(text.write, complete=True),
    }
    suffix = target.suffix.lower()
    if suffix not in forms:
        raise InputError(
            f"{target} cannot be a report: its suffix must be one of {', '.join(forms)}, but is {suffix or 'missing'}"
        )
    if not target.parent.is_dir():
        raise InputError(f"{target} cannot be written, because the folder {target.parent} does not exist")
    require_replaceable(target)
    write_text(target, forms[suffix](report), overwrite=True)
    return digest(target)
