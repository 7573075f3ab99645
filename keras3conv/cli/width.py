"""Fit text to the width of a terminal: sentences are wrapped, tables are folded, lines to paste stay whole."""

import re
import shutil
from collections.abc import Sequence
from textwrap import wrap

NARROWEST = 40
_LINE_TO_PASTE = re.compile(r"^\s*(Fix:|With [a-z ]+:  |-{3,})|  +keras3conv ")
_LEAST = 12
"""A column of a table is not made narrower than this."""


def columns() -> int:
    """Return the width of the terminal: 80 in a pipe, or the value of COLUMNS."""
    return max(NARROWEST, shutil.get_terminal_size((80, 24)).columns)


def folded(text: str, width: int | None = None) -> str:
    """Wrap the long lines of a message; the continuation of a line has the indentation of its start."""
    width = width or columns()
    return "\n".join(part for line in text.split("\n") for part in _folded_line(line, width))


def _folded_line(line: str, width: int) -> list[str]:
    if len(line) <= width or _LINE_TO_PASTE.search(line):
        return [line]
    indent = " " * (len(line) - len(line.lstrip()))
    return wrap(
        line.strip(),
        width,
        initial_indent=indent,
        subsequent_indent=indent + ("  " if indent else ""),
        break_long_words=False,
        break_on_hyphens=False,
    )


def fitted_table(names: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None) -> list[str]:
    """Return the lines of a table that is not wider than the terminal: long cells take several lines.

    Args:
        names: The names of the columns.
        rows: The rows, as text without unprintable characters.
        width: The width; by default that of the terminal.
    """
    widths = _widths([names, *rows], width or columns())
    ruler = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return [*_lines(names, widths), ruler, *(line for row in rows for line in _lines(row, widths))]


def indented_table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table that fits the terminal after an indentation of two characters."""
    return fitted_table(names, rows, columns() - 2)


def _widths(rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """Return the widths of the columns; the widest column is narrowed first."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    while sum(widths) + 2 * (len(widths) - 1) > width and max(widths) > _LEAST:
        widths[widths.index(max(widths))] -= 1
    return widths


def _lines(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    parts = [_cell(cell, width) for cell, width in zip(cells, widths, strict=True)]
    height = max(map(len, parts))
    lines = zip(*(part + [""] * (height - len(part)) for part in parts), strict=True)
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def _cell(cell: str, width: int) -> list[str]:
    """Return the lines of a cell; a name is broken only if it does not fit on a line of its own."""
    return wrap(cell, width, break_on_hyphens=False) or [""]
