"""Describe in one line why a task of a sweep failed: the first line of the error or proof, and its first problem."""

import re
import tomllib
from collections.abc import Mapping
from typing import Any

from keras3conv.errors import Problem, message_of
from keras3conv.report.values import Section

_LONGEST = 400
"""The number of characters after which the line is cut; the message and the report of the task have the whole text."""


def of_error(error: BaseException) -> str:
    """Return the first line of an error message, followed by the first problem that the message lists, if any.

    A message lists a problem in lines that are indented by two spaces; the lines that continue it are indented further.
    """
    headline, *rest = message_of(error).splitlines() or [""]
    first: list[str] = []
    for line in rest:
        is_problem, continues = line.startswith("  "), line.startswith("   ")
        if not is_problem or (first and not continues):
            break
        first.append(" ".join(line.split()))
    return _cut(": ".join(filter(None, [headline or type(error).__name__, *first])))


def with_cause(outcome: str, cause: tuple[Section, Problem] | None) -> str:
    """Return the cause of a failed proof, then its outcome, such as "conv1: the strides differ; 2 of 3 outputs differ".

    Args:
        outcome: The outcome in one line.
        cause: The section that has the problem, and the problem; None if there is none.
    """
    if cause is None:
        return outcome
    detail = ": ".join(
        filter(
            None,
            [
                " ".join(cause[1].where.split()),
                "; ".join(" ".join(line.split()) for line in cause[1].fact.splitlines()),
            ],
        )
    )
    return outcome if detail in outcome else _cut(f"{detail}; {outcome}")


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]} ..."


_KEYS = (
    (re.compile(r"k3c\.validate\(torch, keras, plan=plan\)"), 'do = ["align", "transfer", "validate"]'),
    (re.compile(r"k3c\.convert\(module, inputs=torch\.zeros\(([\d, ]+)\)\)"), r"shape = [\1]"),
    (re.compile(r"\baccept_difference=True"), "accept_difference = true"),
    (re.compile(r"k3c\.transfer\(source, target, plan, cast=True\)"), "cast = true"),
    (re.compile(r'plan = plan\.pair\(("[^"]+"), ("[^"]+")\)'), r"hints = { \1 = \2 }"),
    (re.compile(r'plan = plan\.ignore\(("[^"]+"), ("[^"]+")\)'), r"ignore = { \1 = \2 }"),
    (re.compile(r"--(torch|keras)-weights ([^\s,;]+\.\w+)"), r'\1_weights = "\2"'),
    (re.compile(r"--(torch|keras)-weights\b"), r"\1_weights"),
    (re.compile(r"\bleave the option out\b"), "leave the key out"),
)


_OR = "     or     "
"""The separator between two lines to paste, of which one is enough."""

_FIX = re.compile(r"\n *Fix:  (.*)")


def without_present(message: str, task: Mapping[str, Any]) -> str:
    """Return a message without the suggested keys that the task has already, with the same values.

    Args:
        message: The message, as `as_keys` returns it.
        task: The options of the task.
    """

    def left(match: re.Match[str]) -> str:
        lines = [line for line in match[1].split(_OR) if not _is_present(line, task)]
        return match[0].replace(match[1], _OR.join(lines)) if lines else ""

    return _FIX.sub(left, message)


def _is_present(line: str, task: Mapping[str, Any]) -> bool:
    """Return whether a line is a key of a sweep file that the task has already, with all of the values in the line."""
    try:
        keys = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return False
    return bool(keys) and all(name in task and _has(task[name], value) for name, value in keys.items())


def _has(present: Any, value: Any) -> bool:
    if isinstance(value, list):
        return set(value) <= set(present)
    if isinstance(value, dict):
        return value.items() <= dict(present).items()
    return bool(present == value)


def as_keys(message: str) -> str:
    """Return an error message with Python calls replaced by the keys of a sweep file that have the same effect.

    For example, `k3c.transfer(source, target, plan, cast=True)` becomes `cast = true`.
    """
    for pattern, key in _KEYS:
        message = pattern.sub(key, message)
    return message
