"""Define the parts of a report: sections with a status, tables, plots and written files."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args

from keras3conv.errors import InputError, Problem
from keras3conv.report import cells as report_cells
from keras3conv.report.pictures import Picture
from keras3conv.writing.digests import ReadFile, WrittenFile

Status = Literal["passed", "failed", "unconfirmed", "skipped", "info"]

STATUSES: tuple[Status, ...] = get_args(Status)
"""Every status of a section, in the order in which `Report.tally` counts them."""

NAMED = "asked for"
"""The name of the fact in a skipped section that the user asked for exactly this proof."""

NOT_CONFIRMED = "not confirmed"
"""The name of the fact of an unconfirmed section that says how much of it is meant, such as "4 of 6 pairs"."""

GLYPHS: Mapping[str, str] = {"passed": "✓", "failed": "✗", "unconfirmed": "?", "skipped": "–", "info": "·"}
"""The symbol by which a report shows each status."""

FILE_CANNOT_RUN = "is a file of weights, which cannot be run"
"""The end of the reason why a proof is skipped, if a side is not a live model."""

IN_TRAINING = "differs in training only"
"""The name of the fact of a section that lists the settings by which the models differ in training only."""

NOT_CONVERTED = "acts in training, not converted"
"""The name of the fact that lists what acts in training in the source model, and was not converted."""

WITHOUT_WEIGHTS = "called without a file of weights"
"""The name of the fact that lists the factories whose models do not have the weights that were transferred."""

UNLIKE = "not alike in training mode"
"""The name of the fact of a section that lists the layers that compute otherwise in training, on one side only."""

NOISE_FLOOR = "noise floor"
"""A series whose name starts so is drawn as noise floor (torch's own rounding error): dashed, with a filled area."""

EACH_PAIR = "each pair"
"""The title of a short table that is the outcome of its proof; a brief report shows it, too."""

LIMIT = "limit"
"""A series whose name starts so is drawn as the limit above which a layer differs: a dotted line without dots."""

FORMAT = 5
"""The number of the JSON format that `Report.to_json` writes."""

Cell = report_cells.Cell
"""The type of a table cell: text, a number, a boolean or nothing."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows under named columns.

    A row is failed if `failed` lists it, or if one of its cells is the word "failed"; failed rows are always shown.
    Numpy numbers are converted to plain numbers.

    Attributes:
        columns: The names of the columns.
        rows: The rows, each with a cell for every column.
        title: The title.
        failed: The indices of the failed rows.

    Raises:
        InputError: A row has a wrong number of cells, a cell is not a `Cell`, or `failed` has an index without a row.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    title: str = ""
    failed: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for place, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise InputError(
                    f"row {place} of the table {self.title!r} has {len(row)} cells, but the table has "
                    f"{len(self.columns)} columns"
                )
        _check_indices(f"table {self.title!r}", self.failed, len(self.rows))
        object.__setattr__(self, "rows", tuple(tuple(report_cells.plain(cell) for cell in row) for row in self.rows))

    def has_failed(self, place: int) -> bool:
        """Return True if the row at this index failed."""
        return place in self.failed or "failed" in self.rows[place]

    @property
    def failures(self) -> int:
        """The number of failed rows of the table."""
        return sum(self.has_failed(place) for place in range(len(self.rows)))

    def is_numeric(self, column: int) -> bool:
        """Return True if a column holds only numbers and None."""
        cells = [row[column] for row in self.rows if row[column] is not None]
        return bool(cells) and all(isinstance(cell, int | float) and not isinstance(cell, bool) for cell in cells)


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line of a plot: a value for every label of the plot, None if it was not measured.

    Raises:
        InputError: A value is negative, which a log scale cannot show.
    """

    name: str
    values: tuple[float | None, ...]

    def __post_init__(self) -> None:
        values = tuple(None if value is None else float(value) for value in self.values)
        if any(value is not None and value < 0 for value in values):
            raise InputError(f"the series {self.name!r} of a plot has a negative value, which a log scale cannot show")
        object.__setattr__(self, "values", values)

    @property
    def is_floor(self) -> bool:
        """True if the name of this series says that it is the noise floor (torch's own rounding error)."""
        return self.name.startswith(NOISE_FLOOR)

    @property
    def is_limit(self) -> bool:
        """True if the name of this series says that it is the limit above which a layer counts as different."""
        return self.name.startswith(LIMIT)

    @property
    def is_measured(self) -> bool:
        """True if this series has differences of the two models, not what they are judged by."""
        return not self.is_floor and not self.is_limit


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Errors along the depth of a model, on a log scale.

    Zeros (bit-identical) are drawn at the bottom edge, NaN and infinity at the top edge.

    Attributes:
        title: The title.
        labels: The names of the layers, in the order of their depth.
        series: The lines, each with a value for every label.
        unit: The unit of the values, such as "relative error".
        failed: The indices of the layers that failed.

    Raises:
        InputError: A series has a wrong number of values, or `failed` has an index without a label.
    """

    title: str
    labels: tuple[str, ...]
    series: tuple[Series, ...]
    unit: str
    failed: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for series in self.series:
            if len(series.values) != len(self.labels):
                raise InputError(
                    f"the series {series.name!r} of the plot {self.title!r} has {len(series.values)} values for "
                    f"{len(self.labels)} labels"
                )
        _check_indices(f"plot {self.title!r}", self.failed, len(self.labels))


@dataclass(frozen=True, kw_only=True)
class Section:
    """The result of one proof.

    Attributes:
        name: The name of the section, unique in its report.
        status: "passed", "failed", "skipped", "info" for a section that proves nothing by itself, or "unconfirmed" for
            pairs of layers that were chosen without running the models, although other pairs fit as well.
        claim: The statement that the section proves, in one sentence.
        summary: The outcome, in one line.
        reason: The reason why the section was skipped or is not confirmed; else empty.
        facts: Further facts, by name.
        tables: The tables.
        plots: The plots.
        problems: The problems that were found.
        pictures: Sample images with the predictions of both models.

    Raises:
        InputError: A skipped section has no reason, a failed one no problem, or the status is unknown.
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
            raise InputError(
                f"the status of the section {self.name!r} must be {' or '.join(STATUSES)}, but is {self.status!r}"
            )
        if self.status == "skipped" and not self.reason:
            raise InputError(f"the section {self.name!r} was skipped, so it needs a reason, but has none")
        if self.status == "failed" and not self.problems:
            raise InputError(f"the section {self.name!r} failed, so it needs a problem, but has none")

    @property
    def outcome(self) -> str:
        """The summary of the section, followed by the reason if there is one; the lines of the reason become one."""
        return ": ".join(part for part in (self.summary, " ".join(self.reason.split())) if part)


def overall_status(sections: Iterable[Section]) -> Status:
    """Return the status of a report: "failed" if a section failed, else "unconfirmed", "passed", or "skipped".

    A report without a proof that the user named, because it was skipped, is not "passed".
    """
    every = tuple(sections)
    found = {section.status for section in every}
    is_missing = any(section.status == "skipped" and NAMED in section.facts for section in every)
    order: tuple[Status, ...] = ("failed", "unconfirmed", *(() if is_missing else ("passed",)))
    return next((status for status in order if status in found), "skipped")


def _check_indices(owner: str, indices: tuple[int, ...], length: int) -> None:
    if beyond := [place for place in indices if not 0 <= place < length]:
        raise InputError(f"{owner} marks index {beyond[0]} as failed, but has only {length} entries")


class Document(Protocol):
    """The attributes of a report that the modules for the output formats use; the class `Report` has them."""

    @property
    def title(self) -> str: ...  # noqa: D102 - see `Report`
    @property
    def sections(self) -> tuple[Section, ...]: ...  # noqa: D102
    @property
    def files(self) -> tuple[WrittenFile, ...]: ...  # noqa: D102
    @property
    def sources(self) -> tuple[ReadFile, ...]: ...  # noqa: D102
    @property
    def environment(self) -> Mapping[str, str]: ...  # noqa: D102
    @property
    def notes(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def seconds(self) -> Mapping[str, float]: ...  # noqa: D102
    @property
    def format(self) -> int: ...  # noqa: D102
    @property
    def ok(self) -> bool: ...  # noqa: D102
    @property
    def verdict(self) -> str: ...  # noqa: D102
    @property
    def status(self) -> Status: ...  # noqa: D102
    @property
    def tally(self) -> str: ...  # noqa: D102
