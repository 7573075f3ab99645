"""Find the line number of every key in a TOML file, which the parser of the standard library does not provide."""

import re
from collections.abc import Iterator, Mapping

Place = tuple[str | int, ...]
"""The position of a value in a TOML file: the keys that lead to it, and for an array of tables the index of the table.

An example is ("task", 0, "backend").
"""

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?")
_KEY = re.compile(r"\s*((?:[\w-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*(?:[\w-]+|\"[^\"]*\"|'[^']*'))*)\s*=(.*)", re.DOTALL)
_PART = re.compile(r"[\w-]+|\"[^\"]*\"|'[^']*'")
_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"""|\'\'\'.*?\'\'\'|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|#[^\n]*|[\[\]{}]', re.DOTALL
)


def key_lines(text: str) -> Mapping[Place, int]:
    """Return the line number of every table and key in a valid TOML text: {("task", 0, "model"): 12}.

    A key of the result has the names that lead to the table or key; the number after "task" counts the tables
    `[[task]]` from 0. Lines are counted from 1.
    """
    lines: dict[Place, int] = {}
    table: Place = ()
    counted: dict[Place, int] = {}
    for number, statement in _statements(text):
        if header := _HEADER.fullmatch(statement):
            table = _table(_parts(header[2]), counted, starts_another=header[1] == "[[")
            lines[table] = number
        elif key := _KEY.match(statement):
            lines[(*table, *_parts(key[1]))] = number
    return lines


def line_of(lines: Mapping[Place, int], place: Place) -> int:
    """Return the line number of a key in a TOML file; if the key is missing, that of the table to which it belongs.

    Args:
        lines: The line numbers that `key_lines` returned.
        place: The names and indices that lead to the key: ("task", 0, "model").
    """
    while place and place not in lines:
        place = place[:-1]
    return lines.get(place, 1)


def _table(parts: Place, counted: dict[Place, int], *, starts_another: bool) -> Place:
    """Return the names and indices that lead to a table: ("task", 1) for the second header `[[task]]` of a TOML file.

    Args:
        parts: The names in the header of the table: ("task",).
        counted: For each array of tables, the index of its last table; changed in place.
        starts_another: Whether the header, in double brackets, starts another table of an array.
    """
    place: Place = ()
    for position, part in enumerate(parts):
        place = (*place, part)
        if starts_another and position == len(parts) - 1:
            counted[place] = counted.get(place, -1) + 1
        if place in counted:
            place = (*place, counted[place])
    return place


def _parts(dotted: str) -> Place:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Yield every statement of a TOML text with the number of its first line; a statement may have several lines."""
    begin, depth, number = 0, 0, 1
    strings = {found.start(): found for found in _TOKEN.finditer(text)}
    position = 0
    while position < len(text):
        found = strings.get(position)
        if found is not None and found[0] in "[{":
            depth += 1
        elif found is not None and found[0] in "]}":
            depth -= 1
        elif text[position] == "\n" and depth == 0:
            yield number, text[begin:position]
            number += text.count("\n", begin, position + 1)
            begin = position + 1
        position = found.end() if found is not None else position + 1
    yield number, text[begin:]
