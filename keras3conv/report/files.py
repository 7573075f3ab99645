"""Save a report in the format of the file suffix; replace an existing file atomically."""

import hashlib
import os
from os import PathLike
from pathlib import Path

from keras3conv.errors import InputError
from keras3conv.report import html, json, markdown, text
from keras3conv.report.values import Document, WrittenFile


def save(report: Document, path: str | PathLike[str]) -> WrittenFile:
    """Write a report to a file and return its size and digests; see `Report.save`."""
    target = Path(path)
    forms = {".html": html.write, ".md": markdown.write, ".json": json.encode, ".txt": text.write}
    suffix = target.suffix.lower()
    if suffix not in forms:
        raise InputError(f"{target}: a report is saved as {', '.join(forms)}; the suffix is {suffix or 'missing'}")
    if not target.parent.is_dir():
        raise InputError(f"{target}: the folder {target.parent} does not exist")
    written = forms[suffix](report)
    content = (written if written.endswith("\n") else written + "\n").encode()
    _replace(target, content)
    sha256, md5 = hashlib.sha256(content), hashlib.md5(content, usedforsecurity=False)
    return WrittenFile(path=str(target), size=len(content), sha256=sha256.hexdigest(), md5=md5.hexdigest())


def _replace(target: Path, content: bytes) -> None:
    temporary = target.with_name(f".{target.name}.tmp-{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        if target.exists():
            temporary.chmod(target.stat().st_mode & 0o7777)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
