"""Write a table of the public names into the page of the Python interface, so that it can be read without the site.

`python -m docs.tools.python_page` replaces the tables between the marks; a test compares the page with the program.
"""

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "python.md"

BEGIN, END = "<!-- names: begin -->\n", "<!-- names: end -->\n\n"
_TABLE = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
_NAME = re.compile(r"^::: (keras3conv\.\S+)$", re.MULTILINE)
_HEADING = "\n## "


def with_tables(text: str) -> str:
    """Return the text of the page, with a table before the first name of each section."""
    first, *sections = _TABLE.sub("", text).split(_HEADING)
    return _HEADING.join([first, *map(_with_table, sections)])


def _with_table(section: str) -> str:
    paths = _NAME.findall(section)
    if not paths:
        return section
    lines = ["| name | summary |", "| --- | --- |"]
    lines += [f"| `{path}` | {_summary(value)} |" for start in paths for path, value in _documented(start)]
    start = section.index("::: ")
    return section[:start] + BEGIN + "\n".join(lines) + "\n" + END + section[start:]


def _documented(path: str) -> Iterator[tuple[str, object]]:
    """Yield a public function or class with its path; for a module, each of its public functions and classes."""
    parent, _, name = path.rpartition(".")
    value = getattr(importlib.import_module(parent), name, None) or importlib.import_module(path)
    if not isinstance(value, ModuleType):
        yield path, value
        return
    for member in value.__all__:
        one = getattr(value, member)
        if inspect.isclass(one) or inspect.isfunction(one):
            yield f"{path}.{member}", one


def _summary(value: object) -> str:
    """Return the first paragraph of a docstring, the summary, on one line."""
    documentation = inspect.getdoc(value) or ""
    return documentation.split("\n\n")[0].replace("\n", " ").replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
