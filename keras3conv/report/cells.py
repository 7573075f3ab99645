"""What stands in a table of a report, and how it is written out."""

import math
import numbers

from keras3conv.errors import InputError

Cell = str | int | float | bool | None
"""What a table holds: text, a number, yes or no, or nothing."""


def show(cell: Cell) -> str:
    """A cell as text: three significant digits of a float, separators in an integer, yes or no, "-" for None."""
    if cell is None:
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    return f"{cell:.3g}" if isinstance(cell, float) else visible(cell)


def visible(text: str, *, keep: str = "") -> str:
    """Writes what cannot be seen (control characters, lone surrogates) as escapes; `keep` stays as it is."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter in keep else _escaped(letter) for letter in text)


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode()


def plain(cell: object) -> Cell:
    """Turns the scalars of numpy into plain numbers, which JSON knows; raises `InputError` for anything else."""
    if cell is None or isinstance(cell, bool):
        return cell
    if isinstance(cell, str):
        return str(cell)
    if isinstance(cell, numbers.Integral):
        return int(cell)
    if isinstance(cell, numbers.Real):
        return math.nan if math.isnan(cell) else float(cell)
    raise InputError(f"a cell is {cell!r}, a {type(cell).__name__}; a table holds str, int, float, bool and None")
