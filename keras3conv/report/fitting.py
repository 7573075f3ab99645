"""Fit a table of a report to the width of a text: wrap some columns, and print the longest one below each row."""

from collections.abc import Sequence
from textwrap import wrap

from keras3conv.report.cells import show, visible
from keras3conv.report.grids import Grid as TableGrid
from keras3conv.report.grids import Row
from keras3conv.width import FittedTable, fitted_table, keeps_words

_REPEATED = 20
"""The number of characters above which a text that the row before has, too, is replaced by "as above"."""

SENTENCE = 20
"""The least width of a column of sentences."""

_READABLE = 40
"""The width below which a column of sentences is printed below the rows instead of beside the other columns."""

STEP = 6
"""The indentation of a text below its label, if it has no room beside the label."""


def fitted_grid(grid: TableGrid, shown: list[Row], width: int) -> FittedTable:
    """Return the lines of a table.

    Args:
        grid: The table.
        shown: The rows that are printed.
        width: The number of characters in a line.
    """
    names = [visible(column.name) for column in grid.columns]
    rows = _without_repeats([[show(cell) for cell in row.cells] for row in shown])
    numeric = {place for place, column in enumerate(grid.columns) if column.is_numeric}
    below = _column_below(names, rows, width)
    if below is None:
        return fitted_table(names, rows, width, whole=_whole_columns(names, rows, width), numeric=numeric, rule="─")
    kept = [place for place in range(len(names)) if place != below]
    others, cells = [names[place] for place in kept], [[row[place] for place in kept] for row in rows]
    numbers = {number for number, place in enumerate(kept) if place in numeric}
    table = fitted_table(others, cells, width, whole=range(len(kept)), numeric=numbers, rule="─")
    sentences = [tuple(f"{' ' * STEP}{line}" for line in lines_of(row[below], width - STEP)) for row in rows]
    joined = tuple((*lines, *sentence) for lines, sentence in zip(table.rows, sentences, strict=True))
    return FittedTable(head=table.head, rows=joined)


def _column_below(names: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> int | None:
    """Return the index of the column of sentences that is printed below the rows; None if no column is.

    It is the only column whose cells have more than three words, if beside the others it would be too narrow to read.

    Args:
        names: The names of the columns.
        rows: The rows, as text.
        width: The number of characters in a line.
    """
    names_only = _columns_of_names(rows, len(names))
    sentences = [place for place in range(len(names)) if place not in names_only]
    room = width - sum(max(len(cells) for cells in column) + 2 for column in _named(names, rows, names_only))
    if len(sentences) != 1 or room >= _READABLE:
        return None
    others = [[row[place] for place in names_only] for row in [names, *rows]]
    if not keeps_words(others[0], others[1:], width):
        return None
    longest = max(len(row[sentences[0]]) for row in rows)
    return sentences[0] if longest > max(room, SENTENCE) else None


def _columns_of_names(rows: Sequence[Sequence[str]], number: int) -> list[int]:
    """Return the indices of the columns in which no cell has more than three words, such as layer names."""
    return [place for place in range(number) if not any(len(row[place].split()) > 3 for row in rows)]


def _named(names: Sequence[str], rows: Sequence[Sequence[str]], places: Sequence[int]) -> list[list[str]]:
    """Return the cells of some columns, each column after its name."""
    return [[names[place], *(row[place] for row in rows)] for place in places]


def _without_repeats(rows: list[list[str]]) -> list[list[str]]:
    """Return rows in which a sentence that repeats the sentence above it in the same column is "as above"."""
    return [
        [
            "as above" if number and len(cell) > _REPEATED and " " in cell and cell == rows[number - 1][place] else cell
            for place, cell in enumerate(row)
        ]
        for number, row in enumerate(rows)
    ]


def _whole_columns(names: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> set[int]:
    """Return the indices of the columns whose cells are printed on one line.

    These are the columns in which no cell has more than three words, such as layer names. If the table would then be
    too wide, no column is among them, and all cells may be wrapped.

    Args:
        names: The names of the columns.
        rows: The rows, as text.
        width: The number of characters in a line.
    """
    places = _columns_of_names(rows, len(names))
    needed = sum(max(map(len, column)) for column in _named(names, rows, places))
    needed += SENTENCE * (len(names) - len(places))
    return set(places) if needed + 2 * len(names) <= width else set()


def lines_of(text: str, width: int) -> list[str]:
    """Return a text as lines of at most `width` characters; words are not split."""
    return wrap(text, width, break_long_words=False, break_on_hyphens=False)
