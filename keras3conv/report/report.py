"""A report is data first: sections with a status, a claim, tables, plots and problems; every form is made from that.

    report = Report(title="Net (torch) and net (keras)", sections=(section, ...))
    report.raise_if_failed()
    report.save("certificate.html")

A section that was skipped has a reason, and is never counted as passed: a report in which everything was skipped
proves nothing, and says so. How a report is written out is left to `report_text`, `report_markdown`, `report_html`
and `report_json`, which are imported when they are asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import TYPE_CHECKING

from keras3conv.errors import InputError, MissingExtra, Problem, ProofError
from keras3conv.messages import count, lay_out
from keras3conv.report.pictures import Answer, Picture
from keras3conv.report.values import (
    FORMAT,
    GLYPHS,
    NOISE_FLOOR,
    STATUSES,
    Cell,
    Plot,
    Section,
    Series,
    Status,
    Table,
    WrittenFile,
)

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, kw_only=True)
class Report:
    """Sections, what was written, and where it ran.

    Attributes:
        title: What the report is about.
        sections: What every judge found.
        files: The files that were written.
        environment: Versions and machine, see `current_environment`.
        notes: Anything else a reader should know, a sentence each.
        format: The number of the JSON format.

    Raises:
        InputError: Two sections have one name.
    """

    title: str
    sections: tuple[Section, ...]
    files: tuple[WrittenFile, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    format: int = FORMAT

    def __post_init__(self) -> None:
        names = [section.name for section in self.sections]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise InputError(f"two sections are called {twice[0]!r}")

    @property
    def ok(self) -> bool:
        """Whether no section failed and at least one passed."""
        return not self.with_status("failed") and bool(self.with_status("passed"))

    @property
    def verdict(self) -> str:
        """The status of the whole, in words: "Passed", "Failed" or "Nothing proven"."""
        return {"passed": "Passed", "failed": "Failed"}.get(self.status, "Nothing proven")

    @property
    def status(self) -> Status:
        """The status of the whole: "passed" if `ok`, "failed" if a section is, else "skipped": nothing was proven."""
        if self.ok:
            return "passed"
        return "failed" if self.with_status("failed") else "skipped"

    @property
    def tally(self) -> str:
        """How many sections have which status: "3 passed, 1 skipped"."""
        amounts = {status: len(self.with_status(status)) for status in STATUSES}
        return ", ".join(f"{number} {status}" for status, number in amounts.items() if number) or "no sections"

    def with_status(self, status: Status) -> tuple[Section, ...]:
        """The sections that have this status."""
        return tuple(section for section in self.sections if section.status == status)

    def section(self, name: str) -> Section:
        """The section with this name; raises `KeyError`, which names the known ones, if there is none."""
        for section in self.sections:
            if section.name == name:
                return section
        known = ", ".join(section.name for section in self.sections) or "none"
        raise KeyError(f"no section is called {name!r}; there are: {known}")

    def raise_if_failed(self) -> None:
        """Raises `ProofError` with the problems of all failed sections, or if no section passed; else does nothing."""
        if self.ok:
            return
        failed = self.with_status("failed")
        if failed:
            names = ", ".join(section.name for section in failed)
            headline = f"{count(len(failed), 'proof')} failed in {self.title}: {names}"
            raise ProofError(lay_out(headline, [problem for section in failed for problem in section.problems]))
        skipped = [Problem(fact=f"{part.name} was skipped: {part.reason}") for part in self.with_status("skipped")]
        raise ProofError(lay_out(f"nothing is proven in {self.title}: no section passed", skipped))

    def to_json(self) -> str:
        """Strict JSON in ASCII, from which `from_json` makes an equal report; see `report_json` for the format."""
        from keras3conv.report.json import encode

        return encode(self)

    @staticmethod
    def from_json(text: str) -> "Report":
        """Reads what `to_json` wrote; raises `InputError`, which names the place, for anything else."""
        from keras3conv.report.json import decode

        return Report(**decode(text))

    def to_markdown(self) -> str:
        """The report as Markdown (with GitHub's tables), everything in it."""
        from keras3conv.report.markdown import write

        return write(self)

    def to_html(self) -> str:
        """The report as one page without external references; raises `MissingExtra` where jinja2 is missing."""
        from keras3conv.report.html import write

        return write(self)

    def save(self, path: "str | PathLike[str]") -> WrittenFile:
        """Writes the report as its suffix says (.html, .md, .json, .txt), beside the file first, then renamed."""
        from keras3conv.report.files import save

        return save(self, path)

    def render(self, console: "Console") -> None:
        """Prints the report on a terminal, in colour if the console has colours."""
        from keras3conv.report.text import render

        render(self, console)

    def __str__(self) -> str:
        from keras3conv.report.text import write

        return write(self)

    def _repr_html_(self) -> str:
        """For notebooks: the page in a frame, so that its styles stay its own; as text where jinja2 is missing."""
        from html import escape

        try:
            page = self.to_html()
        except MissingExtra as error:
            return f"<pre>{escape(str(self))}\n{escape(str(error))}</pre>"
        style = "width: 100%; height: 720px; border: 0"
        return f'<iframe srcdoc="{escape(page)}" sandbox="allow-scripts" style="{style}"></iframe>'


def current_environment() -> dict[str, str]:
    """Versions and machine, for `Report.environment`; see `report_environment`."""
    from keras3conv.report.environment import current_environment as look

    return look()


__all__ = [
    "FORMAT",
    "GLYPHS",
    "NOISE_FLOOR",
    "STATUSES",
    "Answer",
    "Cell",
    "Picture",
    "Plot",
    "Report",
    "Section",
    "Series",
    "Status",
    "Table",
    "WrittenFile",
    "current_environment",
]
