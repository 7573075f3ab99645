"""The page on certificates explains every column, fact, verdict and fixed cell of a report of `validate`."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

SOURCES = (
    *sorted((ROOT / "validators").rglob("*.py")),
    ROOT / "keras3conv" / "report" / "values.py",
    ROOT / "keras3conv" / "report" / "headline.py",
    ROOT / "keras3conv" / "workflows" / "validate.py",
)

SETTLED = {"left to float64": {"proven by float64", "not proven"}}
"""Words that are replaced before a report is printed, each with those in its place."""

TABLES = ("_table", "table", "note", "_in_torch")
"""The functions that write the cells of tables."""

_OTHER_NAMES = ("compare_files.py", "suspects")
"""Files whose dicts are no facts of a certificate: the comparison of two ONNX files, and the causes."""


def words_in(trees: list[ast.Module]) -> set[str]:
    """Return the names of columns and facts, the verdicts, and the fixed texts of cells in the code of the proofs."""
    named = dict(pair for tree in trees for pair in _constants(tree))
    return {word for tree in trees for node in ast.walk(tree) for word in _words(node, named) if word.strip(" ,:()-")}


def _constants(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield the names and values of the texts that a module defines."""
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name) and isinstance(node.value.value, str):
                    yield target.id, node.value.value


def _words(node: ast.AST, named: dict[str, str]) -> Iterator[str]:
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        if node.targets[0].id in ("columns", "Verdict"):
            yield from _texts(node.value, named)
        if node.targets[0].id == "facts":
            yield from _keys(node.value, named)
    elif isinstance(node, ast.keyword) and node.arg == "columns":
        yield from _texts(node.value, named)
    elif isinstance(node, ast.keyword) and node.arg == "facts":
        yield from _keys(node.value, named)
    elif (
        isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store) and getattr(node.value, "id", "") == "facts"
    ):
        yield from _texts(node.slice, named)
    elif isinstance(node, ast.FunctionDef):
        if "facts" in node.name or node.name in ("exercised", "uncompared"):
            yield from (key for one in node.body for key in _keys(one, named))
            yield from (text for one in ast.walk(node) if isinstance(one, ast.Yield) for text in _first(one, named))
        if node.name in TABLES:
            yield from (text for one in node.body for text in _texts(one, named))


def _first(node: ast.Yield, named: dict[str, str]) -> Iterator[str]:
    if isinstance(node.value, ast.Tuple):
        yield from _texts(node.value.elts[0], named)


def _keys(node: ast.AST, named: dict[str, str]) -> Iterator[str]:
    for one in ast.walk(node):
        if isinstance(one, ast.Dict):
            yield from (text for key in one.keys if key for text in _texts(key, named))


def _texts(node: ast.AST, named: dict[str, str]) -> Iterator[str]:
    """Yield the texts in a node; those of docstrings, of f-strings, subscripts, comparisons and titles are left out."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.Name) and node.id in named:
        yield named[node.id]
    is_left_out = isinstance(node, ast.JoinedStr | ast.Subscript | ast.Compare) or (
        isinstance(node, ast.keyword) and node.arg == "title"
    )
    if is_left_out and not (isinstance(node, ast.Subscript) and getattr(node.value, "id", "") == "Literal"):
        return
    if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
        for child in ast.iter_child_nodes(node):
            yield from _texts(child, named)


def explained(page: str) -> set[str]:
    """Return the words in italics in the section of the page that explains the words of a report.

    Of a fact with its text, as "known difference: torch stores ...", the name is returned, too.
    """
    section = page.partition("\n## Words of a report\n")[2].partition("\n## ")[0]
    found = set(re.findall(r"(?<!\*)\*([^*\n]+)\*(?!\*)", section))
    return found | {text.partition(":")[0] for text in found}


@pytest.fixture(scope="module")
def words() -> set[str]:
    paths = [path for path in SOURCES if not any(part in _OTHER_NAMES for part in path.parts)]
    found = words_in([ast.parse(path.read_text(encoding="utf-8")) for path in paths])
    return (found - SETTLED.keys()).union(*SETTLED.values())


def test_the_page_explains_every_word_of_a_report(words: set[str]) -> None:
    page = (ROOT / "docs" / "certificate.md").read_text(encoding="utf-8")
    assert sorted(words - explained(page)) == []


def test_the_words_are_found(words: set[str]) -> None:
    assert {"expected value", "no such field", "exercised", "declared loss", "training only", "top-1"} <= words


def test_a_word_that_is_missing_on_the_page_is_noticed() -> None:
    code = 'def _facts():\n    """No fact: {"a": "b"}."""\n    facts["new fact"] = f"{number} of them"\n'
    assert words_in([ast.parse(code)]) - explained("\n## Words of a report\n| *new facts* | *other* |\n## Next\n") == {
        "new fact"
    }


def test_every_word_of_the_page_has_an_address_of_its_own() -> None:
    page = (ROOT / "docs" / "certificate.md").read_text(encoding="utf-8")
    section = page.partition("\n## Words of a report\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ") and "| meaning |" not in line]
    rows = [row for row in rows if "---" not in row and not row.startswith("| decided by |")]
    assert len(rows) > 50
    assert all('<a id="word-' in row for row in rows)
    addresses = re.findall(r'<a id="([^"]+)"></a>', section)
    assert len(addresses) == len(set(addresses))
