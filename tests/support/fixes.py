"""Take the lines to paste out of error messages, execute them, and list every place of the code that prints one.

A place is a call with `fix=` or `fixes=`, a fourth argument of `Problem.on`, or a text with "Fix:". Its name is the
file and the function; the second place in one function ends in "#2", and so on.
"""

import ast
import os
import re
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, wraps
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from click.exceptions import Exit

from keras3conv.errors import Keras3ConvError, Problem

ROOT = Path(__file__).resolve().parent.parent.parent

PASSED_ON = {
    "keras3conv/errors.py": "`Problem` holds the lines of others",
    "keras3conv/messages.py": "`lay_out` prints the lines of others",
    "keras3conv/report/json.py": "reads the lines of others",
    "keras3conv/report/overview_text.py": "recognises the lines of others",
    "keras3conv/report/repeats.py": "leaves out the lines of others that were shown",
    "keras3conv/demo/story.py": "prints a line of a report",
    "keras3conv/width.py": "recognises the lines of others",
    "keras3conv/workflows/sweep/outcomes.py": "writes the lines of others as keys",
    "keras3conv/cli/lines.py": "writes the lines of others as options",
}
"""Files that print no line of their own, each with the reason."""

CAUSES = "validators/diagnosis/"
"""The folder whose lines say what to change in the code of a model; `test_lines_of_causes.py` reads them."""


@dataclass(frozen=True)
class Place:
    """A statement that prints a line to paste."""

    name: str
    file: Path
    function: str
    first: int
    last: int
    texts: tuple[str, ...]


@cache
def places() -> dict[str, Place]:
    """Return every place by name."""
    found: list[Place] = []
    for folder in ("keras3conv", "validators"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if name not in PASSED_ON and not name.startswith((CAUSES, "keras3conv/validators/")):
                found += _places_in(ast.parse(path.read_text(encoding="utf-8")), path, name, [], None)
    counts: Counter[str] = Counter()
    named = {}
    for place in dict.fromkeys(found):
        counts[place.name] += 1
        number = counts[place.name]
        named[place.name if number == 1 else f"{place.name}#{number}"] = place
    return named


def _places_in(node: ast.AST, path: Path, name: str, inside: list[str], statement: ast.stmt | None) -> Iterator[Place]:
    for child in ast.iter_child_nodes(node):
        within = [*inside, child.name] if isinstance(child, ast.FunctionDef | ast.ClassDef) else inside
        nearest = child if isinstance(child, ast.stmt) else statement
        if _prints(child, node) and nearest is not None:
            function = ".".join(within)
            texts = tuple(dict.fromkeys(_texts(nearest)))
            last = nearest.end_lineno or nearest.lineno
            yield Place(f"{name}:{function}", path, within[-1], nearest.lineno, last, texts)
        yield from _places_in(child, path, name, within, nearest)


def _prints(node: ast.AST, parent: ast.AST) -> bool:
    if isinstance(node, ast.keyword):
        return node.arg in ("fix", "fixes")
    if isinstance(node, ast.Call):
        function = node.func
        return isinstance(function, ast.Attribute) and function.attr == "on" and len(node.args) > 3
    text = isinstance(node, ast.Constant) and isinstance(node.value, str) and "Fix:" in node.value
    return text and not isinstance(parent, ast.Expr)


def _texts(statement: ast.stmt) -> Iterator[str]:
    """Yield the texts of a statement that begin a line to paste."""
    for node in ast.walk(statement):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "Fix:" in node.value:
            yield node.value[node.value.index("Fix:") :]


def lines_in(message: str, *, one_line: bool = False) -> list[str]:
    """Return the lines to paste at the end of a message; the command line prints them as one line."""
    _, _, text = message.partition("Fix:  ")
    text = text.partition("\n")[0] if one_line else text
    return re.split(" {5}(?:or|and) {5}|\n(?:or {4}|and {3})", text) if text else []


def reached(place: Place, run: Callable[[], str]) -> tuple[bool, str]:
    """Run a function that returns a message, and return whether a place printed the line in it, and the message.

    It did if it was running when the error or a problem of it was made, or if a text of it is in the message.
    """
    frames: set[tuple[str, str, int]] = set()

    def recorded(make: Callable[..., None]) -> Callable[..., None]:
        @wraps(make)
        def wrapped(*arguments: Any, **options: Any) -> None:
            frame: FrameType | None = sys._getframe(1)
            while frame is not None:
                frames.add((frame.f_code.co_filename, frame.f_code.co_name, frame.f_lineno))
                frame = frame.f_back
            make(*arguments, **options)

        return wrapped

    with pytest.MonkeyPatch.context() as patch:
        for cls in (Problem, Keras3ConvError, Exit):
            patch.setattr(cls, "__init__", recorded(cls.__init__))
        message = run()
    lines = {number for file, name, number in frames if name == place.function and _is(file, place.file)}
    is_alone = sum(other.name == place.name for other in places().values()) == 1
    is_running = bool(lines) if is_alone else any(place.first <= number <= place.last for number in lines)
    return is_running or any(text in message for text in place.texts), message


def _is(file: str, other: Path) -> bool:
    return file.endswith(other.name) and os.path.realpath(file) == str(other)


Scope = dict[str, Any]

Edit = Callable[[str, Scope], str]


@dataclass(frozen=True)
class Case:
    """A way to an error that prints lines to paste.

    Attributes:
        place: The name of the place that prints them.
        call: The line of the user that raises, as Python code or as a command line of keras3conv.
        then: The line that the user runs after the pasted one; by default the same one again.
        made: Makes the names that the user has, in a fresh folder.
        further: What the next error says, where the pasted line solves only a part.
        only: A word of the line that is executed, where other places print lines too; empty for every line.
        edit: Changes a line as the user has to, with the names: words in capital letters, a folder.
    """

    place: str
    call: str
    made: Callable[[Path], Scope]
    then: str = ""
    further: str = ""
    only: str = ""
    edit: Edit | None = None


CASES: dict[str, list[Case]] = {}


def case(
    place: str, call: str, *, then: str = "", further: str = "", only: str = "", edit: Edit | None = None
) -> Callable[[Callable[[Path], Scope]], Callable[[Path], Scope]]:
    """Declare that a function makes the names of a case; see `Case`."""

    def declare(made: Callable[[Path], Scope]) -> Callable[[Path], Scope]:
        CASES.setdefault(place, []).append(Case(place, call, made, then, further, only, edit))
        return made

    return declare


def is_command(call: str) -> bool:
    """Return whether a line is for the command line."""
    return call.startswith("keras3conv ")


def with_arguments(call: str, arguments: str) -> str:
    """Return a call with keyword arguments added, or replaced."""
    module = ast.parse(call)
    made = ast.parse(f"_({arguments}\n)").body[0]
    (statement,) = module.body
    assert isinstance(statement, ast.Expr)
    assert isinstance(statement.value, ast.Call)
    assert isinstance(made, ast.Expr)
    assert isinstance(made.value, ast.Call)
    new = {keyword.arg for keyword in made.value.keywords}
    kept = [keyword for keyword in statement.value.keywords if keyword.arg not in new]
    statement.value.keywords = [*kept, *made.value.keywords]
    return ast.unparse(module)


def are_arguments(line: str) -> bool:
    """Return whether a line is one or more keyword arguments: `overwrite=True`."""
    if not re.match(r"\w+=", line):
        return False
    try:
        (statement,) = ast.parse(f"_({line}\n)").body
    except SyntaxError:
        return False
    call = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(call, ast.Call) and not call.args and bool(call.keywords)


def with_options(command: str, options: str) -> str:
    """Return a command with options added, or replaced."""
    parts, new = shlex.split(command), shlex.split(options, comments=True)
    for place, part in enumerate(new):
        if part.startswith("-") and part in parts:
            start = parts.index(part)
            has_value = place + 1 < len(new) and not new[place + 1].startswith("-")
            del parts[start : start + 1 + has_value]
    return shlex.join([*parts, *new])


def function_of(line: str) -> str:
    """Return the function that a line calls: `k3c.transfer`; empty for another statement."""
    found = re.match(r"[\w.]+(?=\()", line)
    return found.group() if found else ""


class Failed(Exception):
    """A command that exited with a status other than 0; its argument is the output."""


def message_of(run: Callable[[], None]) -> str:
    """Run a function, and return the message of the error that it raises; empty if it raises none."""
    try:
        run()
    except Keras3ConvError as error:
        return str(error)
    except Failed as error:
        return str(error.args[0])
    return ""
