"""Write the digests of the files that a report is about, and read them again from a report."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from keras3conv.report.values import Document
from keras3conv.writing.digests import ReadFile, WrittenFile

_NOTE = re.compile(
    r"(?:source )?(?P<name>.+?)(?:, state dict .+?)?: (?:[\d,]+ bytes, )?sha256 (?P<sha256>[0-9a-f]{64})\b"
)
_FACT = re.compile(r"sha256 (?P<sha256>[0-9a-f]{64})\b")


def digest_note(file: WrittenFile) -> str:
    """Return a note for a report on a file that was read, such as "net.pt: 1,234 bytes, sha256 0a1b...".

    If one of several state dicts was read, the note names it: "net.pt, state dict ema: 1,234 bytes, sha256 0a1b...".
    """
    return f"{Path(file.path).name}{of_entry(file)}: {file.size:,} bytes, sha256 {file.sha256}"


def of_entry(file: WrittenFile) -> str:
    """Return the end of a note on a file: ", state dict ema"; "" if the state dict has no name."""
    return f", state dict {file.entry}" if isinstance(file, ReadFile) and file.entry else ""


def weights_note(files: Mapping[str, WrittenFile]) -> tuple[str, ...]:
    """Return a note for a report that says which file of weights each side has: "weights of torch: net.pt"; or nothing.

    Args:
        files: The file of weights that was loaded into a model, by the name of its framework.
    """
    loaded = [f"{side}: {Path(file.path).name}{of_entry(file)}" for side, file in files.items()]
    return (f"{WEIGHTS_OF}{'; of '.join(loaded)}",) if loaded else ()


WEIGHTS_OF = "weights of "
"""The beginning of the note that says which file of weights each side has."""


def named_files(report: Document) -> tuple[tuple[str, str], ...]:
    """Return the name and sha256 of every file that a report names: files that were read or written."""
    return tuple(_named_files(report))


def _named_files(report: Document) -> Iterator[tuple[str, str]]:
    for file in report.files:
        yield Path(file.path).name, file.sha256
    for note in report.notes:
        if found := _NOTE.match(note):
            yield found["name"], found["sha256"]
    for section in report.sections:
        for name, fact in section.facts.items():
            if found := _FACT.match(fact):
                yield name.removeprefix("source "), found["sha256"]
