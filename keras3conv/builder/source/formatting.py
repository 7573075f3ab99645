"""Format source code: literals, comments, docstrings, and long statements over several lines."""

from collections.abc import Iterator, Mapping
from math import isfinite
from textwrap import wrap
from typing import Any

from keras3conv.builder.program.structure import Argument
from keras3conv.errors import RuleError
from keras3conv.model.graph import Ref

WIDTH = 100

_SAFE = "_-. ,;:=()'"
"""The punctuation that stays unchanged when a text of the model is put into a docstring."""

_OPENING, _CLOSING = "([{", ")]}"


def statement(indent: int, text: str) -> Iterator[str]:
    """Yield the lines of a statement: one line if it fits into `WIDTH`, else broken inside its last pair of brackets.

    The arguments of a call and the items of a list get one line each, with a trailing comma. Plain parentheses get no
    comma, because it would make a tuple.

    Args:
        indent: The number of spaces before the statement.
        text: The statement in one line.
    """
    line = " " * indent + text
    spans = [span for span in _spans(text) if _is_list(text, span[0])]
    if len(line) <= WIDTH or not spans:
        yield line
        return
    fitting = (span for span in reversed(spans) if indent + span[0] < WIDTH)
    start, end = spans[0] if text.startswith("def ") else next(fitting, spans[-1])
    inner, tail = text[start + 1 : end], text[end:]
    yield " " * indent + text[: start + 1]
    if len(inner) + indent + 4 <= WIDTH:
        yield " " * (indent + 4) + inner
    else:
        for part in _parts(inner):
            yield from statement(indent + 4, f"{part},")
    yield " " * indent + tail


def _is_list(text: str, start: int) -> bool:
    """Return True if a bracket opens a list or the arguments of a call, not an index or a parenthesized operand."""
    after_name = start > 0 and (text[start - 1].isalnum() or text[start - 1] in "_)]")
    return after_name if text[start] == "(" else not after_name


def comment_lines(indent: int, text: str) -> Iterator[str]:
    """Yield the lines of a comment, indented by `indent` spaces; no line for an empty text."""
    if text:
        before = " " * indent + "# "
        yield from wrap(text, WIDTH, initial_indent=before, subsequent_indent=before)


def docstring(indent: int, text: str) -> Iterator[str]:
    """Yield the lines of a docstring of one sentence, indented by `indent` spaces."""
    before = " " * indent
    line = f'{before}"""{text}"""'
    if len(line) <= WIDTH:
        yield line
        return
    yield from wrap(f'"""{text}', WIDTH, initial_indent=before, subsequent_indent=before)
    yield f'{before}"""'


def _spans(text: str) -> list[tuple[int, int]]:
    """Return the start and end of each outermost pair of brackets that is not empty.

    Brackets in strings do not count.
    """
    found: list[tuple[int, int]] = []
    stack: list[int] = []
    quote = ""
    for place, letter in enumerate(text):
        if quote:
            if letter == quote and text[place - 1] != "\\":
                quote = ""
        elif letter in "\"'":
            quote = letter
        elif letter in _OPENING:
            stack.append(place)
        elif letter in _CLOSING:
            start = stack.pop()
            if not stack and place > start + 1:
                found.append((start, place))
    return found


def _parts(text: str) -> list[str]:
    """Split a text at its commas, except those inside brackets and strings."""
    parts, depth, quote, start = [], 0, "", 0
    for place, letter in enumerate(text):
        if quote:
            if letter == quote and text[place - 1] != "\\":
                quote = ""
        elif letter in "\"'":
            quote = letter
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
    """Return the source code of a plain value: a number, text, boolean or None, or a tuple, list or dict of these.

    Raises:
        RuleError: The value is not a plain value; its representation could be executable code.
    """
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, float):
        return _number(value)
    if value is None or isinstance(value, bool | int):
        return repr(value)
    if isinstance(value, Argument):
        return value.name
    if isinstance(value, tuple | list):
        return bracketed(value, [literal(item) for item in value])
    raise RuleError(
        f"an argument of the generated model has a value of type {type(value).__name__}, "
        "which cannot be written into source code: only numbers, text, None, tuples and lists can"
    )


def _number(value: float) -> str:
    """Return the literal of a floating-point number; in scientific notation, such as -1e9, if that is much shorter."""
    if not isfinite(value):
        return f'float("{value}")'
    text = repr(value)
    mantissa, _, exponent = f"{value:.0e}".partition("e")
    short = f"{mantissa}e{int(exponent)}"
    return short if len(short) + 5 < len(text) and float(short) == value else text


def bracketed(like: tuple[Any, ...] | list[Any], items: list[str]) -> str:
    """Return the source code of a tuple or list from the source code of its items.

    The type of `like` decides between tuple and list.
    """
    inner = ", ".join(items)
    if isinstance(like, list):
        return f"[{inner}]"
    return f"({inner},)" if len(items) == 1 else f"({inner})"


def quoted(text: str) -> str:
    """Return a string literal in double quotes, in ASCII with escapes."""
    written = ascii(text)[1:-1]
    if ascii(text)[0] == "'":
        written = written.replace("\\'", "'").replace('"', '\\"')
    return f'"{written}"'


def plain(text: str) -> str:
    """Return a text for a docstring, in which "_" replaces each character that is not harmless there.

    Harmless are ASCII letters and digits, and a few signs.
    """
    return "".join(letter if (letter.isalnum() and letter.isascii()) or letter in _SAFE else "_" for letter in text)


def named_outputs(outputs: Any, name: str = "returns") -> Iterator[tuple[str, Ref]]:
    """Yield each tensor that a function returns, with the expression that selects it: 'returns["logits"][0]'.

    Args:
        outputs: The result of the function: tensor references in nested tuples, lists and dicts.
        name: The expression for the result.
    """
    if isinstance(outputs, Mapping):
        for key, item in outputs.items():
            yield from named_outputs(item, f'{name}["{plain(str(key))}"]')
    elif isinstance(outputs, tuple | list):
        for place, item in enumerate(outputs):
            yield from named_outputs(item, f"{name}[{place}]")
    elif isinstance(outputs, Ref):
        yield name, outputs
