"""Fit text to the width of the terminal: sentences are wrapped, tables are folded, lines to paste stay whole."""

import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from textwrap import wrap

NARROWEST = 40
"""The least width to which a text is folded, even on a narrower terminal."""

whole_lists: ContextVar[bool] = ContextVar("whole_lists", default=False)
"""True while error messages list all their problems, not only the first ones."""

_LINE_TO_PASTE = re.compile(r"^\s*(With [a-z ]+:  |-{3,})|  +keras3conv ")
_FIX = re.compile(r"^\s*Fix:  ")
_AFTER_SLASH = re.compile(r"(?<=[^/:]/)(?=[^/])")
_AFTER_DOT = re.compile(r"(?<=[^.]\.)(?=[^.\d])|(?<=[A-Za-z_]\.)(?=\d)|(?<=[A-Za-z_]\d\.)(?=\d)")
"""The places in a path where a line may end: between two names, never inside a name or a number."""

_BETWEEN = " | "
"""The separator between two cells on one line, if a row is printed as a list."""

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
        line: A call, or alternatives separated by "or"; each is on a separate line if they do not fit on one.
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


@dataclass(frozen=True, kw_only=True)
class FittedTable:
    """A table as lines of text.

    Attributes:
        head: The names of the columns, and a line below them; empty if every cell has the name of its column.
        rows: The lines of each row.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def lines(self) -> list[str]:
        """All lines of the table."""
        return [*self.head, *(line for row in self.rows for line in row)]


def fitted_table(
    names: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int | None = None,
    *,
    whole: Collection[int] = (),
    numeric: Collection[int] = (),
    rule: str = "-",
) -> FittedTable:
    """Return a table that fits the terminal, without breaks inside a number, an option or a name in a path.

    Long cells take several lines. If whole words do not fit, a row may be printed as a list of cells, each with the
    name of its column: if the names in paths do not fit either, or if the list is shorter.

    Args:
        names: The names of the columns.
        rows: The rows, as text without unprintable characters.
        width: The width; by default that of the terminal.
        whole: The indices of columns whose cells stay on one line if the table then fits.
        numeric: The indices of columns of numbers, which are aligned to the right.
        rule: The character of the line below the names.
    """
    width = width or columns()
    widths = column_widths([names, *rows], width, whole)
    table = _in_columns(names, rows, widths, numeric, rule) if widths else None
    if table and keeps_words(names, rows, width):
        return table
    listed = FittedTable(head=(), rows=tuple(tuple(_listed(names, row, width)) for row in rows))
    return table if table and sum(map(len, table.rows)) <= sum(map(len, listed.rows)) else listed


def keeps_words(names: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> bool:
    """Return True if a table fits a width without a line break inside a word.

    Args:
        names: The names of the columns.
        rows: The rows, as text.
        width: The width that the table should have.
    """
    return sum(_longest(cells, str.split) for cells in zip(names, *rows, strict=True)) <= _room(len(names), width)


def column_widths(rows: Sequence[Sequence[str]], width: int, whole: Collection[int] = ()) -> list[int] | None:
    """Return the widths of the columns of a table, with two spaces between them; the widest column is narrowed first.

    A column is narrowed to its longest word, so that cells break at spaces. If that is not enough, paths are broken
    between their names. Return None if that is not enough either.

    Args:
        rows: The rows of the table, the names of the columns included.
        width: The width that the table should have.
        whole: The indices of columns that are not narrowed if the table then fits.
    """
    columns = list(zip(*rows, strict=True))
    cells = [max(map(len, column)) for column in columns]
    words = [_longest(column, str.split) for column in columns]
    names = [_longest(column, _parts) for column in columns]
    room = _room(len(columns), width)
    for least in ([cells[place] if place in whole else word for place, word in enumerate(words)], words, names):
        if sum(least) <= room:
            return _narrowed(cells, room, least)
    return None


def _in_columns(
    names: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int], numeric: Collection[int], rule: str
) -> FittedTable:
    return FittedTable(
        head=(*_lines(names, widths, numeric), rule * (sum(widths) + 2 * (len(widths) - 1))),
        rows=tuple(tuple(_lines(row, widths, numeric)) for row in rows),
    )


def wrapped(text: str, width: int) -> list[str]:
    """Return a text as lines that break at spaces; a path that is too long breaks between its names.

    Args:
        text: The text.
        width: The number of characters in a line; only a name that is longer exceeds it.
    """
    if len(text) <= width:
        return [text]
    lines = wrap(text, max(1, width), break_long_words=False, break_on_hyphens=False)
    return [part for line in lines for part in (_broken(line, width) if len(line) > width else [line])] or [""]


def _broken(path: str, width: int) -> list[str]:
    """Return a path as lines, each with as many of its names as have room."""
    first, *others = _parts(path)
    lines = [first]
    for part in others:
        if len(lines[-1]) + len(part) <= width:
            lines[-1] += part
        else:
            lines.append(part)
    return lines


def _parts(text: str) -> list[str]:
    """Return the words of a text, with paths divided into names: "layer1.0.conv of x" -> layer1., 0., conv, of, x."""
    return [part for word in text.split() for part in (_AFTER_SLASH if "/" in word else _AFTER_DOT).split(word) if part]


def _longest(cells: Iterable[str], split: Callable[[str], Iterable[str]]) -> int:
    return max((len(part) for cell in cells for part in split(cell)), default=0)


def _room(number: int, width: int) -> int:
    """Return how many characters of a line are left for the cells of this number of columns."""
    return width - 2 * (number - 1)


def _narrowed(widths: Sequence[int], room: int, least: Sequence[int]) -> list[int]:
    """Return widths of columns that fit; the widest columns are made narrower.

    Args:
        widths: The widths of the columns.
        room: The largest sum of the widths.
        least: The width that each column keeps. The sum of these is not larger than `room`.
    """
    narrowed = list(widths)
    while sum(narrowed) > room:
        place = max(range(len(narrowed)), key=lambda place: (narrowed[place] > least[place], narrowed[place]))
        narrowed[place] -= 1
    return narrowed


def _lines(cells: Sequence[str], widths: Sequence[int], numeric: Collection[int]) -> Iterator[str]:
    parts = [wrapped(cell, width) for cell, width in zip(cells, widths, strict=True)]
    for number in range(max(map(len, parts))):
        line = [part[number] if number < len(part) else "" for part in parts]
        shown = [
            cell.rjust(width) if place in numeric else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        yield "  ".join(shown).rstrip()


def _listed(names: Sequence[str], row: Sequence[str], width: int) -> Iterator[str]:
    """Yield the lines of a row that is printed as a list: "torch: conv", then indented "  error: 1e-07 | calls: 2".

    Args:
        names: The names of the columns.
        row: The cells; a cell without text is left out, "-" (no value) is not.
        width: The number of characters in a line.
    """
    line = ""
    named = [(name, cell) for name, cell in zip(names, row, strict=True) if cell]
    for text in (f"{name}: {cell}" if name else cell for name, cell in named):
        if line and len(f"{line}{_BETWEEN}{text}") <= width:
            line = f"{line}{_BETWEEN}{text}"
            continue
        yield from [line] if line else []
        indent = "  " if line else ""
        *lines, line = [
            f"{indent}{'  ' if number else ''}{part}" for number, part in enumerate(wrapped(text, width - 4))
        ]
        yield from lines
    yield line
