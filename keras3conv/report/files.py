"""Save a report in the format of the file suffix; replace an existing file atomically."""

from os import PathLike
from pathlib import Path

from keras3conv.errors import InputError
from keras3conv.report import html, json, markdown, text
from keras3conv.report.values import Document
from keras3conv.writing.digests import WrittenFile, digest
from keras3conv.writing.outputs import write_text


def save(report: Document, path: str | PathLike[str]) -> WrittenFile:
    """Write a report to a file and return its size and digests; see `Report.save`."""
    target = Path(path)
    forms = {".html": html.write, ".md": markdown.write, ".json": json.encode, ".txt": text.write}
    suffix = target.suffix.lower()
    if suffix not in forms:
        raise InputError(f"{target}: a report is saved as {', '.join(forms)}; the suffix is {suffix or 'missing'}")
    if not target.parent.is_dir():
        raise InputError(f"{target}: the folder {target.parent} does not exist")
    write_text(target, forms[suffix](report), overwrite=True)
    return digest(target)
