"""Rewrite the lines to paste of an error message, which are Python calls, as keys of a task in a sweep file."""

import re

_KEYS = (
    (
        re.compile(r"k3c\.transfer\(source, target, plan, accept_difference=True\)( +or +plan = .*)?"),
        "accept_difference = true",
    ),
    (re.compile(r"k3c\.transfer\(source, target, plan, cast=True\)"), "cast = true"),
    (re.compile(r'plan = plan\.pair\(("[^"]+"), ("[^"]+")\)'), r"hints = { \1 = \2 }"),
    (re.compile(r'plan = plan\.ignore\(("[^"]+"), ("[^"]+")\)'), r"ignore = { \1 = \2 }"),
)


def as_keys(message: str) -> str:
    """Return a message of the library with keys of a sweep file in place of the Python calls that they replace."""
    for pattern, key in _KEYS:
        message = pattern.sub(key, message)
    return message


__all__ = ["as_keys"]
