"""Fit text to the width of the terminal: sentences are wrapped, tables are folded, lines to paste stay whole."""

import re
import shutil
from collections.abc import Collection, Sequence
from textwrap import wrap

NARROWEST = 40
"""The least width to which a text is folded, even on a narrower terminal."""

_LINE_TO_PASTE = re.compile(r"^\s*(With [a-z ]+:  |-{3,})|  +keras3conv ")
_FIX = re.compile(r"^\s*Fix:  ")
_LEAST = 12
"""The least width of a column of a table."""
_WORD = 16
"""The largest width that a column keeps for its longest word, if the terminal is wide enough."""

_OR = "     or     "
"""The separator between two lines to paste, of which one is enough."""


def columns() -> int:
    """Return the number of columns for the output: COLUMNS if set, else 80 in a pipe, else that of the terminal."""
    return max(NARROWEST, shutil.get_terminal_size((80, 24)).columns)


def folded(text: str, width: int | None = None, *, before: int = 0) -> str:
    """Wrap the long lines of a message; the continuation of a line keeps the indentation of the line.

    The text from "Fix:" to the next empty line is code, and stays unchanged.

    Args:
        text: The message.
        width: The number of columns; by default those of the terminal.
        before: The number of characters that are printed before the text, on its first line.
    """
    width = width or columns()
    lines: list[str] = []
    is_code = False
    for number, line in enumerate(text.split("\n")):
        is_code = bool(_FIX.match(line)) or (is_code and bool(line))
        lines += _fix(line, width) if is_code else _folded_line(line, width, 0 if number else before)
    return "\n".join(lines)


def _fix(line: str, width: int) -> list[str]:
    """Return the suggested code of a message as it is printed, which may take several lines.

    Args:
        line: A call, or alternatives separated by "or"; each has a line of its own if they do not fit on one.
        width: The width of the terminal.
    """
    first, *others = line.split(_OR)
    return [first, *(f"or    {other}" for other in others)] if len(line) > width else [line]


def _folded_line(line: str, width: int, before: int) -> list[str]:
    if len(line) + before <= width or _LINE_TO_PASTE.search(line):
        return [line]
    indent = " " * (len(line) - len(line.lstrip()))
    made = wrap(
        line.strip(),
        width,
        initial_indent=indent + "-" * before,
        subsequent_indent=indent + ("  " if indent else ""),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [made[0][before:], *made[1:]]


def fitted_table(
    names: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None, unbroken: Collection[int] = ()
) -> list[str]:
    """Return the lines of a table that is not wider than the terminal: long cells take several lines.

    Args:
        names: The names of the columns.
        rows: The rows, as text without unprintable characters.
        width: The width; by default that of the terminal.
        unbroken: The indices of columns of names, whose words are broken only if nothing else helps.
    """
    widths = column_widths([names, *rows], width or columns(), unbroken=unbroken)
    ruler = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return [*_lines(names, widths), ruler, *(line for row in rows for line in _lines(row, widths))]


def keeps_words(
    names: Sequence[str], rows: Sequence[Sequence[str]], width: int, unbroken: Collection[int] = ()
) -> bool:
    """Return True if a table fits a width without a line break inside a word of certain columns.

    Args:
        names: The names of the columns.
        rows: The rows, as text.
        width: The width that the table should have.
        unbroken: The indices of the columns whose words must not be broken.
    """
    widths = column_widths([names, *rows], width, unbroken=unbroken)
    return all(len(word) <= widths[place] for row in rows for place in unbroken for word in row[place].split())


def column_widths(
    rows: Sequence[Sequence[str]],
    width: int,
    whole: Collection[int] = (),
    numeric: Collection[int] = (),
    unbroken: Collection[int] = (),
) -> list[int]:
    """Return the widths of the columns of a table, with two spaces between them; the widest column is narrowed first.

    A column is narrowed to its longest word, so that cells break at spaces. Words are broken only if that is not
    enough, or if they are very long.

    Args:
        rows: The rows of the table, the names of the columns included.
        width: The width that the table should have.
        whole: The indices of columns that are not narrowed.
        numeric: The indices of columns of numbers, whose words are never broken.
        unbroken: The indices of columns whose words are broken only if the table is too wide otherwise.
    """
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, cells)) for cells in columns]
    words = [max((len(word) for cell in cells for word in cell.split()), default=0) for cells in columns]
    room = width - 2 * (len(widths) - 1)
    for names in (widths, words) if unbroken else ():  # whole cells, or else whole words
        kept = [names[place] if place in {*unbroken, *whole} else min(word, _WORD) for place, word in enumerate(words)]
        if sum(kept) <= room:
            _narrow(widths, room, kept)
            return widths
    for most, least in ((_WORD, 0), (_LEAST, _LEAST)):
        kept = [max(least, word if place in numeric else min(word, most)) for place, word in enumerate(words)]
        _narrow(widths, room, [widths[place] if place in whole else size for place, size in enumerate(kept)])
    return widths


def _narrow(widths: list[int], room: int, least: Sequence[int]) -> None:
    """Make the widest columns narrower, in place, until all fit.

    Args:
        widths: The widths of the columns.
        room: The largest sum of the widths.
        least: The width that each column keeps.
    """
    while sum(widths) > room:
        place = max(range(len(widths)), key=lambda place: (widths[place] > least[place], widths[place]))
        if widths[place] <= least[place]:
            return
        widths[place] -= 1


def _lines(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    parts = [_cell(cell, width) for cell, width in zip(cells, widths, strict=True)]
    height = max(map(len, parts))
    lines = zip(*(part + [""] * (height - len(part)) for part in parts), strict=True)
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def _cell(cell: str, width: int) -> list[str]:
    """Return a cell as lines of at most `width` characters; a word is broken only if it is longer than that."""
    return wrap(cell, width, break_on_hyphens=False) or [""]
