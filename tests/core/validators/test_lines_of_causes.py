"""The lines that say what to change in the code of a model are Python: a statement, or arguments of a call."""

import ast
from collections.abc import Iterator

import pytest

from tests.support.fixes import CAUSES, ROOT


def lines() -> Iterator[tuple[str, str]]:
    """Yield every line of a cause that is written in one place, with `x` for each value in it."""
    for path in sorted((ROOT / CAUSES).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg in ("fix", "keras") and (text := written(node.value)):
                yield f"{path.stem}-{node.value.lineno}", text


def written(node: ast.expr) -> str:
    """Return a text with `x` for each value; empty if it is made elsewhere."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if not isinstance(node, ast.JoinedStr):
        return ""
    return "".join(map(_value, node.values))


def _value(part: ast.expr) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    made = part.value if isinstance(part, ast.FormattedValue) else part
    if isinstance(made, ast.IfExp) and isinstance(made.body, ast.Constant):
        return str(made.body.value)
    is_beginning = isinstance(made, ast.Name) and made.id == "again"
    return "x  # " if is_beginning else "x"


def is_python(line: str) -> bool:
    for form in (line, f"_({line}\n)", f"def forward(x):\n    {line}"):
        try:
            ast.parse(form)
        except SyntaxError:
            continue
        return True
    return False


@pytest.mark.parametrize("line", [pytest.param(text, id=name) for name, text in lines()])
def test_a_line_of_a_cause_is_python(line: str) -> None:
    assert is_python(line)


def test_there_are_lines_and_a_line_that_is_no_python_is_noticed() -> None:
    assert len(list(lines())) > 50
    assert not is_python("padding=0  # conv, then x[...]\nand then x")
