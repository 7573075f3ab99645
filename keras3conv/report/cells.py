"""Format the cells of report tables."""

import math
import numbers

from keras3conv.errors import InputError

Cell = str | int | float | bool | None
"""The type of a table cell: text, a number, a boolean or nothing."""


def show(cell: Cell) -> str:
    """Return a cell as text: floats with three significant digits, integers with separators, "-" for None."""
    if cell is None:
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    return f"{cell:.3g}" if isinstance(cell, float) else visible(cell)


def visible(text: str, *, keep: str = "") -> str:
    """Return a text with escapes in the place of unprintable characters (control characters, lone surrogates).

    Args:
        text: The text.
        keep: Characters that are not replaced.
    """
    if text.isprintable():
        return text
    letters = []
    for letter in text:
        is_kept = letter.isprintable() or letter in keep
        letters.append(letter if is_kept else letter.encode("unicode_escape").decode())
    return "".join(letters)


def plain(cell: object) -> Cell:
    """Return a value as a table cell; a numpy scalar becomes a Python number, because JSON has no numpy scalars.

    Raises:
        InputError: The value is not text, a number, a boolean or None.
    """
    if cell is None or isinstance(cell, bool):
        return cell
    if isinstance(cell, str):
        return str(cell)
    if isinstance(cell, numbers.Integral):
        return int(cell)
    if isinstance(cell, numbers.Real):
        return math.nan if math.isnan(cell) else float(cell)
    raise InputError(
        f"a cell of a table must be str, int, float, bool or None, but {cell!r} is of the type {type(cell).__name__}"
    )
