"""Print the lines to paste of problems: join those that only name other layers, and lay out several of them."""

from collections.abc import Sequence

_COMMENT = "  # "

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
    places, details = zip(*(comment.partition(", ")[::2] for _, _, comment in parts), strict=True)
    distinct = list(dict.fromkeys(places))
    if len({code for code, _, _ in parts}) != 1 or len(set(details)) != 1 or len(distinct) < 2:
        return lines[0]
    more = f" and {len(distinct) - _MOST_PLACES} more" if len(distinct) > _MOST_PLACES else ""
    named = f"{', '.join(distinct[:_MOST_PLACES])}{more}"
    return f"{parts[0][0]}{_COMMENT}{named}{', ' if details[0] else ''}{details[0]}"


def listed_fixes(fixes: Sequence[str], between: str) -> str:
    """Return the lines to paste as they stand after "Fix:": side by side, or below each other if one has two lines.

    Args:
        fixes: The lines to paste; one that contains line breaks is several lines that are all needed.
        between: The word between them: "or", "and".
    """
    if not any("\n" in fix for fix in fixes):
        return f"     {between}     ".join(fixes)
    return f"\n{between:<6}".join(fix.replace("\n", "\n      ") for fix in fixes)
