"""Rewrite the lines to paste of an error message, which are Python calls, as keys of a task in a sweep file."""

import re

_KEYS = (
    (re.compile(r"k3c\.validate\(torch, keras, plan=plan\)"), 'do = ["align", "transfer", "validate"]'),
    (re.compile(r"\baccept_difference=True"), "accept_difference = true"),
    (re.compile(r"k3c\.transfer\(source, target, plan, cast=True\)"), "cast = true"),
    (re.compile(r'plan = plan\.pair\(("[^"]+"), ("[^"]+")\)'), r"hints = { \1 = \2 }"),
    (re.compile(r'plan = plan\.ignore\(("[^"]+"), ("[^"]+")\)'), r"ignore = { \1 = \2 }"),
)


def as_keys(message: str) -> str:
    """Return an error message with Python calls replaced by the keys of a sweep file that have the same effect.

    For example, `k3c.transfer(source, target, plan, cast=True)` becomes `cast = true`.
    """
    for pattern, key in _KEYS:
        message = pattern.sub(key, message)
    return message
