"""The README does what it says: its recipes run, its tables are current.

`python tests/torch_backend/test_readme.py` writes the table of rules into it anew.
"""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from keras3conv.cli.output import rules_markdown
from keras3conv.rules.library import list_rules
from keras3conv.validators.judges import judges
from keras3conv.validators.running.options import Options

README = Path(__file__).resolve().parents[2] / "README.md"
BEGIN, END = "<!-- rules: begin -->\n", "<!-- rules: end -->"


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), flags=re.DOTALL | re.MULTILINE)


def with_current_rules(text: str) -> str:
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}{rules_markdown(list_rules())}\n{END}{rest.partition(END)[2]}"


def run(recipe: str) -> None:
    exec(compile(recipe, "README.md", "exec"), {"__name__": "recipe"})  # noqa: S102 - the repository's own text


@pytest.fixture
def in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Runs the recipes in a folder of their own."""
    monkeypatch.chdir(tmp_path)

    def recipes() -> list[str]:
        found = blocks("python")
        for recipe in found:
            run(recipe)
        return found

    return recipes


def test_the_recipes_run(in_order: Callable[[], list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(in_order()) == 4
    assert {path.name for path in tmp_path.iterdir()} == {
        "old.h5",
        "new.pt",
        "trained.pt",
        "trained.keras",
        "report.html",
    }
    printed = capsys.readouterr().out
    diagnosis = blocks("text")[0]
    assert diagnosis in printed


def test_a_recipe_that_fails_is_noticed() -> None:
    broken = blocks("python")[2].replace("assert not report.ok", "assert report.ok")
    with pytest.raises(AssertionError):
        run(broken.replace('report.save("report.html")', ""))


def test_the_certificate_in_it_has_the_sections_of_a_certificate() -> None:
    shown = re.findall(r"^  passed   (\w+) ", blocks("text")[1], flags=re.MULTILINE)
    assert shown == [name for name, _ in judges()]


def test_every_proof_is_explained() -> None:
    everything = Options(backends=("torch",), labels=np.zeros(1, np.int64))
    for name, _ in judges(everything):
        assert f"\n| {name} | " in README.read_text()


def test_the_table_of_rules_is_current() -> None:
    text = README.read_text()
    assert with_current_rules(text) == text, f"run: python {Path(__file__).relative_to(README.parent)}"


def test_an_outdated_table_of_rules_is_noticed() -> None:
    text = README.read_text().replace("| `nn.Linear` | `layers.Dense` |", "| `nn.Linear` | `layers.Other` |")
    assert with_current_rules(text) != text


def test_it_stays_short() -> None:
    outside = README.read_text().partition(BEGIN)[0].count("\n")
    assert outside < 340


if __name__ == "__main__":
    README.write_text(with_current_rules(README.read_text()))
