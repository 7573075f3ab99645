"""Lines of code, broken as a formatter would break them."""

from collections.abc import Iterator
from math import isfinite
from textwrap import wrap
from typing import Any

from keras3conv.builder.program.structure import Argument
from keras3conv.errors import RuleError

WIDTH = 100


_OPENING, _CLOSING = "([{", ")]}"


def statement(indent: int, text: str) -> Iterator[str]:
    """The lines of a statement: one if it fits, else broken inside its last pair of brackets.

    The arguments of a call and the entries of a list get a line each, with a comma behind; what only stands in brackets
    gets none, because a comma would make a tuple of it.
    """
    line = " " * indent + text
    spans = [span for span in _spans(text) if _is_list(text, span[0])]
    if len(line) <= WIDTH or not spans:
        yield line
        return
    start, end = spans[0] if text.startswith("def ") else spans[-1]
    inner, tail = text[start + 1 : end], text[end:]
    yield " " * indent + text[: start + 1]
    if len(inner) + indent + 4 <= WIDTH:
        yield " " * (indent + 4) + inner
    else:
        for part in _parts(inner):
            yield from statement(indent + 4, f"{part},")
    yield " " * indent + tail


def _is_list(text: str, start: int) -> bool:
    """Whether a bracket opens the arguments of a call or a list: neither an index, nor a part of a formula."""
    after_name = start > 0 and (text[start - 1].isalnum() or text[start - 1] in "_)]")
    return after_name if text[start] == "(" else not after_name


def comment_lines(indent: int, text: str) -> Iterator[str]:
    """A comment, in lines that fit."""
    if text:
        before = " " * indent + "# "
        yield from wrap(text, WIDTH, initial_indent=before, subsequent_indent=before)


def docstring(indent: int, text: str) -> Iterator[str]:
    """A docstring of one sentence, in lines that fit."""
    before = " " * indent
    line = f'{before}"""{text}"""'
    if len(line) <= WIDTH:
        yield line
        return
    yield from wrap(f'"""{text}', WIDTH, initial_indent=before, subsequent_indent=before)
    yield f'{before}"""'


def _spans(text: str) -> list[tuple[int, int]]:
    """The outermost pairs of brackets with something in them, strings left out."""
    found: list[tuple[int, int]] = []
    stack: list[int] = []
    quoted = ""
    for place, letter in enumerate(text):
        if quoted:
            if letter == quoted and text[place - 1] != "\\":
                quoted = ""
        elif letter in "\"'":
            quoted = letter
        elif letter in _OPENING:
            stack.append(place)
        elif letter in _CLOSING:
            start = stack.pop()
            if not stack and place > start + 1:
                found.append((start, place))
    return found


def _parts(text: str) -> list[str]:
    """What commas separate, brackets and strings left whole."""
    parts, depth, quoted, start = [], 0, "", 0
    for place, letter in enumerate(text):
        if quoted:
            if letter == quoted and text[place - 1] != "\\":
                quoted = ""
        elif letter in "\"'":
            quoted = letter
        elif letter in _OPENING:
            depth += 1
        elif letter in _CLOSING:
            depth -= 1
        elif letter == "," and depth == 0:
            parts.append(text[start:place].strip())
            start = place + 1
    rest = text[start:].strip()
    return [*parts, rest] if rest else parts


def literal(value: Any) -> str:
    """A plain value as Python writes it.

    Raises:
        RuleError: It is no plain value.
    """
    if value is None or isinstance(value, bool | int | str):
        return quoted(value) if isinstance(value, str) else repr(value)
    if isinstance(value, float):
        return repr(value) if isfinite(value) else f'float("{value}")'
    if isinstance(value, Argument):
        return value.name
    if isinstance(value, tuple | list):
        inner = ", ".join(map(literal, value))
        if isinstance(value, list):
            return f"[{inner}]"
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    raise RuleError(f"{type(value).__name__} is no plain value, and is never written into code")


def quoted(text: str) -> str:
    """A literal in double quotes; everything but plain letters is escaped."""
    written = ascii(text)[1:-1]
    if ascii(text)[0] == "'":
        written = written.replace("\\'", "'").replace('"', '\\"')
    return f'"{written}"'


__all__ = ["Argument", "comment_lines", "docstring", "literal", "quoted", "statement"]
