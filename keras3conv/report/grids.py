"""Arrange a table for display: the column of verdicts comes first, and rows that passed are folded (hidden)."""

from dataclasses import dataclass

from keras3conv.report.cells import Cell, show
from keras3conv.report.values import Table

LONG = 12
"""The number of rows above which a table starts collapsed on the page, unless a row failed."""

_VERDICTS = ("verdict", "status")
_QUIET = ("equal", "passed")
_WIDE = 60
"""The number of characters above which the text of a cell is wrapped."""

_SENTENCE = 72
"""The number of characters above which a fact is not shown in a narrow column."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column: its name, and whether it holds numbers only."""

    name: str
    is_numeric: bool


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row: its cells, whether it failed, and whether it is quiet (it passed, so the page may hide it)."""

    cells: tuple[Cell, ...]
    failed: bool
    is_quiet: bool


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table as the HTML page shows it: its columns and rows."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    failures: int

    @property
    def is_long(self) -> bool:
        """True if the table is long, so that the page adds a search field and a choice of columns."""
        return len(self.rows) > LONG

    @property
    def is_open(self) -> bool:
        """True if the table starts open on the page: it is short, or one of its rows failed."""
        return not self.is_long or self.failures > 0

    @property
    def quiet(self) -> int:
        """The number of rows that the page hides until a click.

        The page hides no rows of a short table, and never all rows of a table.
        """
        number = sum(row.is_quiet for row in self.rows)
        return number if self.is_long and number < len(self.rows) else 0

    @property
    def quiet_words(self) -> tuple[str, ...]:
        """The words in the first column of the rows that the page hides until a click: ("equal", "passed")."""
        return tuple(dict.fromkeys(_word(row.cells[0]) for row in self.rows if row.is_quiet))


def arrange(table: Table) -> Grid:
    """Return a table for display: the column with "passed" or "failed" comes first, empty columns are left out."""
    order = [place for place, name in enumerate(table.columns) if name in _VERDICTS]
    order += [place for place, name in enumerate(table.columns) if name not in _VERDICTS and _has_text(table, place)]
    has_verdict = bool(order) and table.columns[order[0]] in _VERDICTS
    rows = tuple(
        Row(
            cells=tuple(cells[place] for place in order),
            failed=table.has_failed(number),
            is_quiet=has_verdict and _word(cells[order[0]]) in _QUIET and not table.has_failed(number),
        )
        for number, cells in enumerate(table.rows)
    )
    columns = tuple(Column(name=table.columns[place], is_numeric=table.is_numeric(place)) for place in order)
    return Grid(title=table.title, columns=columns, rows=rows, failures=table.failures)


def _word(verdict: Cell) -> str:
    """Return a verdict without its reason: "equal" of "equal: this is the default"."""
    return show(verdict).partition(":")[0]


def is_wide(cell: Cell) -> bool:
    """Return True if a cell is too long for one line."""
    return len(show(cell)) > _WIDE


def is_long(text: str) -> bool:
    """Return True if the text of a fact is a sentence, which takes the whole width of the page."""
    return len(text) > _SENTENCE


def _has_text(table: Table, place: int) -> bool:
    return not table.rows or any(row[place] not in ("", None) for row in table.rows)
