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
from typing import TYPE_CHECKING, Literal, get_args

from keras3conv import report_cells
from keras3conv.errors import InputError, MissingExtra, Problem, ProofError, count, lay_out
from keras3conv.report_pictures import Answer, Picture

if TYPE_CHECKING:
    from rich.console import Console

Status = Literal["passed", "failed", "skipped", "info"]

STATUSES: tuple[Status, ...] = get_args(Status)
"""Every status, in the order in which a tally names them."""

GLYPHS: Mapping[str, str] = {"passed": "✓", "failed": "✗", "skipped": "–", "info": "·"}
"""The sign of every status."""

NOISE_FLOOR = "noise floor"
"""A series whose name begins so is drawn as the floor under the others: dashed, with its area filled."""

FORMAT = 2
"""The number of the JSON format that `Report.to_json` writes."""

Cell = report_cells.Cell
"""What a table holds: text, a number, yes or no, or nothing."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows under named columns.

    A row has failed if `failed` names it, or if one of its cells is the word "failed"; such rows are never cut.
    Numbers of numpy become plain ones.

    Attributes:
        columns: The names of the columns.
        rows: The rows, each with a cell for every column.
        title: What the table shows.
        failed: The places of the rows that failed.

    Raises:
        InputError: A row of another length, a cell that is no `Cell`, or a failed row that is not there.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    title: str = ""
    failed: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for place, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise InputError(f"table {self.title!r}: row {place} has {len(row)} cells, not {len(self.columns)}")
        _refuse_places(f"table {self.title!r}", self.failed, len(self.rows))
        object.__setattr__(self, "rows", tuple(tuple(report_cells.plain(cell) for cell in row) for row in self.rows))

    def has_failed(self, place: int) -> bool:
        """Whether the row at this place failed."""
        return place in self.failed or "failed" in self.rows[place]

    @property
    def failures(self) -> int:
        """How many rows failed."""
        return sum(self.has_failed(place) for place in range(len(self.rows)))

    def is_numeric(self, column: int) -> bool:
        """Whether a column holds numbers, and nothing else but None."""
        cells = [row[column] for row in self.rows if row[column] is not None]
        return bool(cells) and all(isinstance(cell, int | float) and not isinstance(cell, bool) for cell in cells)


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line of a plot: a value for every label, None where nothing was measured.

    Raises:
        InputError: A value is negative: it has no place on a log scale.
    """

    name: str
    values: tuple[float | None, ...]

    def __post_init__(self) -> None:
        values = tuple(None if value is None else float(value) for value in self.values)
        if any(value is not None and value < 0 for value in values):
            raise InputError(f"series {self.name!r} has a negative value, which has no place on a log scale")
        object.__setattr__(self, "values", values)

    @property
    def is_floor(self) -> bool:
        """Whether this is the noise floor, by its name."""
        return self.name.startswith(NOISE_FLOOR)


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Errors along the depth of a model, on a log scale.

    A zero is bit-identical: it is drawn at the bottom edge. What is not finite is drawn at the top edge.

    Attributes:
        title: What the plot shows.
        labels: The layers, in the order of their depth.
        series: The lines, each with a value for every label.
        unit: What the values are: "relative error".
        failed: The places of the labels at which something failed.

    Raises:
        InputError: A series of another length, or a failed label that is not there.
    """

    title: str
    labels: tuple[str, ...]
    series: tuple[Series, ...]
    unit: str
    failed: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for series in self.series:
            if len(series.values) != len(self.labels):
                have = f"{len(series.values)} values for {len(self.labels)} labels"
                raise InputError(f"plot {self.title!r}: series {series.name!r} has {have}")
        _refuse_places(f"plot {self.title!r}", self.failed, len(self.labels))


@dataclass(frozen=True, kw_only=True)
class Section:
    """What one judge found.

    Attributes:
        name: What it is called; unique in its report.
        status: "passed", "failed", "skipped", or "info" for what is no proof.
        claim: What is proven, in one sentence.
        summary: The outcome, in one line.
        reason: Why it was skipped.
        facts: Anything worth a line, by name.
        tables: The tables.
        plots: The plots.
        problems: What went wrong.
        pictures: Samples with the answers of both sides.

    Raises:
        InputError: A skipped section without a reason, a failed one without a problem, or a status that is none.
    """

    name: str
    status: Status
    claim: str
    summary: str
    reason: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    tables: tuple[Table, ...] = ()
    plots: tuple[Plot, ...] = ()
    problems: tuple[Problem, ...] = ()
    pictures: tuple[Picture, ...] = ()

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise InputError(f"section {self.name!r}: the status is {self.status!r}, not {' or '.join(STATUSES)}")
        if self.status == "skipped" and not self.reason:
            raise InputError(f"section {self.name!r} was skipped without a reason")
        if self.status == "failed" and not self.problems:
            raise InputError(f"section {self.name!r} failed without a problem")

    @property
    def outcome(self) -> str:
        """The summary, and the reason if there is one."""
        return ": ".join(part for part in (self.summary, self.reason) if part)


@dataclass(frozen=True, kw_only=True)
class WrittenFile:
    """A file that was written: where, how many bytes, and the digests of its content."""

    path: str
    size: int
    sha256: str
    md5: str


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
        from keras3conv.report_json import encode

        return encode(self)

    @staticmethod
    def from_json(text: str) -> "Report":
        """Reads what `to_json` wrote; raises `InputError`, which names the place, for anything else."""
        from keras3conv.report_json import decode

        return decode(text)

    def to_markdown(self) -> str:
        """The report as Markdown (with GitHub's tables), everything in it."""
        from keras3conv.report_markdown import write

        return write(self)

    def to_html(self) -> str:
        """The report as one page without external references; raises `MissingExtra` where jinja2 is missing."""
        from keras3conv.report_html import write

        return write(self)

    def save(self, path: "str | PathLike[str]") -> WrittenFile:
        """Writes the report as its suffix says (.html, .md, .json, .txt), beside the file first, then renamed."""
        from keras3conv.report_file import save

        return save(self, path)

    def render(self, console: "Console") -> None:
        """Prints the report on a terminal, in colour if the console has colours."""
        from keras3conv.report_text import render

        render(self, console)

    def __str__(self) -> str:
        from keras3conv.report_text import write

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
    from keras3conv.report_environment import current_environment as look

    return look()


def _refuse_places(owner: str, places: tuple[int, ...], length: int) -> None:
    if beyond := [place for place in places if not 0 <= place < length]:
        raise InputError(f"{owner}: place {beyond[0]} is marked as failed, but there are {length}")


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
