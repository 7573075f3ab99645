"""Write the lines to paste of problems: name their framework, join those for several layers, lay out several."""

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from keras3conv.errors import first_of

_COMMENT = "  # "

_FRAMEWORKS: Mapping[str, str] = {"torch": "torch", "keras": "Keras"}

_NAMED = re.compile(r"(?:torch|Keras)(?:: |$)")
"""The beginning of a comment that names the framework."""

_NUMBER = re.compile(r"((?:before|after|in|of) )?(\d+(?:\.\w+)*)(?![\w.])")
"""A place at the beginning of a comment that a reader would take for a number: the layer 0 of a Sequential."""

_NEUTRAL = ("plan = ", "k3c.", "keras3conv ", "--")
"""The beginnings of lines that are not part of the code of a model."""


def named_layer(path: str) -> str:
    """Return the path of a layer for a sentence: "conv1", but "layer 0" where the path begins with a number."""
    return f"layer {path}" if path[:1].isdigit() else path


def in_framework(code: str, side: Literal["torch", "keras"]) -> str:
    """Return lines to paste, each with its framework in the comment: "padding=0  # torch: layer 0".

    Lines that edit or follow a plan, and lines that name their framework already, are unchanged.

    Args:
        code: The lines; empty for none.
        side: The framework of the model that they change.
    """
    return "\n".join(_in_framework(line, _FRAMEWORKS[side]) for line in code.split("\n"))


def _in_framework(line: str, framework: str) -> str:
    if not line or line.startswith(_NEUTRAL):
        return line
    code, mark, comment = ("", "# ", line[2:]) if line.startswith("# ") else line.partition(_COMMENT)
    if _NAMED.match(comment):
        return line
    comment = _NUMBER.sub(r"\1layer \2", comment, count=1) if _NUMBER.match(comment) else comment
    return f"{code}{mark or _COMMENT}{framework}{': ' if comment else ''}{comment}"


_MOST_PLACES = 3
"""The number of places that one line names."""


def joined_fixes(fixes: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the fixes of the first of several problems; code that all problems have names all layers in its comment.

    A fix of several lines is joined line by line.

    Args:
        fixes: The fixes of each problem. Only lines whose comment begins with a layer, "padding=0  # c1", are joined.
    """
    if len({len(lines) for lines in fixes}) != 1:
        return fixes[0]
    return tuple(map(_joined_lines, zip(*fixes, strict=True)))


def _joined_lines(fixes: tuple[str, ...]) -> str:
    """Return the first of several fixes; each of its lines names the layers of all if only these differ."""
    parts = [fix.split("\n") for fix in fixes]
    if len({len(lines) for lines in parts}) != 1:
        return fixes[0]
    return "\n".join(map(_joined_line, zip(*parts, strict=True)))


def _joined_line(lines: tuple[str, ...]) -> str:
    """Return the first of several lines of code; if only the layers in their comments differ, name all these layers.

    Args:
        lines: Lines such as "padding=0  # c1, after x" and "padding=0  # c2, after x".
    """
    parts = [line.partition(_COMMENT) for line in lines]
    frameworks = [name[0] if (name := _NAMED.match(comment)) else "" for _, _, comment in parts]
    comments = [comment.removeprefix(name) for (_, _, comment), name in zip(parts, frameworks, strict=True)]
    places, details = zip(*(comment.partition(", ")[::2] for comment in comments), strict=True)
    distinct = list(dict.fromkeys(places))
    is_one = all(len(set(texts)) == 1 for texts in ([code for code, _, _ in parts], frameworks, details))
    if not is_one or len(distinct) < 2:
        return lines[0]
    named = first_of(distinct, _MOST_PLACES)
    return f"{parts[0][0]}{_COMMENT}{frameworks[0]}{named}{', ' if details[0] else ''}{details[0]}"


def listed_fixes(fixes: Sequence[str], between: str) -> str:
    """Return the lines to paste as they stand after "Fix:": side by side if they are short, else below each other.

    A line that has a comment is not followed by another one, which would be part of the comment.

    Args:
        fixes: The lines to paste; one that contains line breaks is several lines that are all needed.
        between: The word between them: "or", "and".
    """
    if not any("\n" in fix for fix in fixes) and not any(_COMMENT in fix for fix in fixes[:-1]):
        return f"     {between}     ".join(fixes)
    return f"\n{between:<6}".join(fix.replace("\n", "\n      ") for fix in fixes)
