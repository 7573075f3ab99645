"""Define the report, which has sections and is shown as text, Markdown, HTML or JSON.

    report = Report(title="Net (torch) and net (keras)", sections=(section, ...))
    report.raise_if_failed()
    report.save("certificate.html")

A skipped section has a reason and never counts as passed. If all sections were skipped, the verdict is "Nothing
proven". The modules `text`, `markdown`, `html` and `json` write the formats; they are imported when used.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import TYPE_CHECKING

from keras3conv.errors import InputError, MissingExtra, Problem, ProofError, message_of
from keras3conv.messages import count, lay_out
from keras3conv.report.environment import current_environment
from keras3conv.report.headline import most_telling_first
from keras3conv.report.values import FORMAT, NOT_CONFIRMED, STATUSES, Section, Status, overall_status
from keras3conv.width import columns
from keras3conv.writing.digests import ReadFile, WrittenFile

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, kw_only=True)
class Report:
    """The result of a validation, a transfer or a conversion.

    Attributes:
        title: The subject of the report.
        sections: The results, one section for each proof.
        files: The files that were written.
        sources: The files that were read, each with the state dict that was read from it, if it has a name.
        environment: The date, the versions of packages and the platform: {"python": "3.11.7", ...}.
        notes: Further remarks, one sentence each.
        seconds: The seconds that each stage of the work took, by its name; two reports that differ only in these are
            equal.
        format: The number of the JSON format.

    Raises:
        InputError: Two sections have the same name.
    """

    title: str
    sections: tuple[Section, ...]
    files: tuple[WrittenFile, ...] = ()
    sources: tuple[ReadFile, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict, compare=False)
    format: int = FORMAT

    def __post_init__(self) -> None:
        names = [section.name for section in self.sections]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise InputError(f"two sections have the name {twice[0]!r}; give each its own name")

    @property
    def ok(self) -> bool:
        """True if at least one section passed, none failed or is unconfirmed, and none asked for was skipped."""
        return self.status == "passed"

    @property
    def is_unconfirmed(self) -> bool:
        """True if a section is unconfirmed: pairs of layers may be wrong, as no run has shown that they are right."""
        return bool(self.with_status("unconfirmed"))

    @property
    def verdict(self) -> str:
        """The overall status as text: "Passed", "Failed", "Not confirmed", "Not proven" or "Nothing proven"."""
        words = {"passed": "Passed", "failed": "Failed", "unconfirmed": "Not confirmed"}
        return words.get(self.status, "Not proven" if self.with_status("passed") else "Nothing proven")

    @property
    def status(self) -> Status:
        """The overall status: "failed" if a section failed, else "unconfirmed", "passed" or "skipped".

        It is "skipped" if no section passed, or if a proof that was asked for did not run.
        """
        return overall_status(self.sections)

    @property
    def tally(self) -> str:
        """The number of sections with each status, as text, such as "3 passed, 1 skipped".

        For a single section that is unconfirmed, it is the number of unconfirmed pairs: "4 of 6 pairs".
        """
        if len(self.sections) == 1 and self.is_unconfirmed and NOT_CONFIRMED in self.sections[0].facts:
            return self.sections[0].facts[NOT_CONFIRMED]
        amounts = {status: len(self.with_status(status)) for status in STATUSES}
        return ", ".join(f"{number} {status}" for status, number in amounts.items() if number) or "no sections"

    def with_status(self, status: Status) -> tuple[Section, ...]:
        """Return the sections of the report that have the given status."""
        return tuple(section for section in self.sections if section.status == status)

    def section(self, name: str) -> Section:
        """Return the section with this name; raise `KeyError` with the known names if there is none."""
        for section in self.sections:
            if section.name == name:
                return section
        known = ", ".join(section.name for section in self.sections) or "none"
        raise KeyError(f"the report has no section {name!r}; its sections are {known}")

    def raise_if_failed(self) -> None:
        """Raise `ProofError` if the report is not `ok`: a section failed, for example, or none passed.

        The message has the problems of all failed sections, those of the proof float64 first.
        """
        if self.ok:
            return
        failed = self.with_status("failed")
        if failed:
            names = ", ".join(section.name for section in failed)
            number = count(len(failed), "proof")
            problems = [problem for section in most_telling_first(self) for problem in section.problems]
            raise ProofError(lay_out(f"{number} failed in {self.title}: {names}", problems))
        if self.is_unconfirmed:
            problems = [Problem(fact=part.outcome) for part in self.with_status("unconfirmed")]
            raise ProofError(lay_out(f"no run has confirmed the pairs of layers in {self.title}", problems))
        skipped = [Problem(fact=f"{part.name} was skipped: {part.reason}") for part in self.with_status("skipped")]
        missing = f"{self.title} is not proven: a proof that was asked for did not run"
        nothing = f"nothing is proven in {self.title}: no section passed"
        raise ProofError(lay_out(missing if self.with_status("passed") else nothing, skipped))

    def to_json(self) -> str:
        """Return strict JSON in ASCII, from which `from_json` makes an equal report; REPORT.md describes the format."""
        from keras3conv.report.json import encode

        return encode(self)

    @staticmethod
    def from_json(text: str) -> "Report":
        """Return the report in a JSON text that `to_json` wrote; raise `InputError` if the text has another form."""
        from keras3conv.report.json import decode

        return Report(**decode(text))

    def to_markdown(self) -> str:
        """Return the full report as GitHub Markdown."""
        from keras3conv.report.markdown import write

        return write(self)

    def to_html(self) -> str:
        """Return the report as one self-contained HTML page; raise `MissingExtra` if jinja2 is missing."""
        from keras3conv.report.html import write

        return write(self)

    def save(self, path: "str | PathLike[str]") -> WrittenFile:
        """Save the report atomically, in the format of the suffix (.html, .md, .json or .txt); return size and digests.

        Raises:
            InputError: The suffix is unknown, or the folder does not exist.
            FileError: The file exists and is not a report, or cannot be written; an existing file is unchanged.
            MissingExtra: jinja2 is not installed, and the suffix is .html.
        """
        from keras3conv.report.files import save

        return save(self, path)

    def render(self, console: "Console") -> None:
        """Print the report on a terminal, in colour if the console has colours."""
        from keras3conv.report.text import render

        render(self, console)

    def __str__(self) -> str:
        from keras3conv.report.text import WIDTH, write

        return write(self, width=min(WIDTH, columns()))

    def _repr_html_(self) -> str:
        """Return the HTML page in an iframe, which isolates its styles in a notebook; without jinja2, the text."""
        from html import escape

        try:
            page = self.to_html()
        except MissingExtra as error:
            return f"<pre>{escape(str(self))}\n{escape(message_of(error))}</pre>"
        style = "width: 100%; height: 720px; border: 0"
        name = escape(self.title)
        return f'<iframe title="{name}" srcdoc="{escape(page)}" sandbox="allow-scripts" style="{style}"></iframe>'


__all__ = ["Report", "current_environment"]
