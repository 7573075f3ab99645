"""The README: its code runs. The documentation pages: their tables are current, their links exist.

`python tests/torch_backend/test_readme.py` writes the table of rules into docs/layers.md.
"""

import re
from pathlib import Path

import numpy as np
import pytest

from keras3conv.cli.output import rules_markdown
from keras3conv.rules.library import list_rules
from keras3conv.validators.judges import judges
from keras3conv.validators.running.options import Options

ROOT = Path(__file__).resolve().parents[2]
README, DOCS = ROOT / "README.md", ROOT / "docs"
LAYERS, CERTIFICATE = DOCS / "layers.md", DOCS / "certificate.md"
PAGES = [README, *sorted(DOCS.rglob("*.md")), ROOT / "CONTRIBUTING.md"]
BEGIN, END = "<!-- rules: begin -->\n", "<!-- rules: end -->"


def blocks(language: str, page: Path = README) -> list[str]:
    """Return the fenced code blocks of a language in a page, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def with_current_rules(text: str) -> str:
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}{rules_markdown(list_rules())}\n{END}{rest.partition(END)[2]}"


def run(recipe: str) -> None:
    exec(compile(recipe, "README.md", "exec"), {"__name__": "recipe"})  # noqa: S102 - the repository's own text


def broken_links(page: Path, text: str) -> list[str]:
    """Return the relative links of a page that lead to no file."""
    links = re.findall(r"\]\(([^)#]+)", text)
    return [link for link in links if "://" not in link and not (page.parent / link).exists()]


@pytest.mark.slow
def test_the_three_recipes_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    recipes = blocks("python")
    assert len(recipes) == 3
    for recipe in recipes:
        run(recipe)
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"old.h5", "net", "keras_net", "report.html"}
    assert (tmp_path / "net" / "weights.safetensors").exists()
    assert (tmp_path / "keras_net" / "model.keras").exists()
    printed = capsys.readouterr().out
    assert blocks("text")[0] in printed
    assert "x = x *" not in printed  # a fitted factor near one is no cause


def test_the_readme_begins_with_convert_and_with_what_crosses() -> None:
    title, promise, crosses, command, *_ = README.read_text().split("\n\n")
    assert title == "# keras3conv"
    assert promise.startswith("**Move a model between PyTorch and Keras 3")
    assert crosses.startswith("Weights, architectures and the settings of every layer cross")
    assert command.startswith("```sh\nkeras3conv convert ")


def test_the_check_detects_a_failing_recipe() -> None:
    broken = blocks("python")[2].replace("assert not report.ok", "assert report.ok")
    with pytest.raises(AssertionError):
        run(broken.replace('report.save("report.html")', ""))


def test_the_certificate_in_the_readme_has_all_sections() -> None:
    shown = re.findall(r"^  passed   (\w+) ", blocks("text")[1], flags=re.MULTILINE)
    assert shown == [name for name, _ in judges()]


def test_every_proof_is_explained() -> None:
    everything = Options(backends=("torch",), labels=np.zeros(1, np.int64))
    for name, _ in judges(everything):
        assert f"\n| {name} | " in CERTIFICATE.read_text()


def test_the_table_of_rules_is_current() -> None:
    text = LAYERS.read_text()
    assert with_current_rules(text) == text, f"run: python {Path(__file__).relative_to(ROOT)}"


def test_the_check_detects_an_outdated_table_of_rules() -> None:
    text = LAYERS.read_text().replace("| `nn.Linear` | `layers.Dense` |", "| `nn.Linear` | `layers.Other` |")
    assert with_current_rules(text) != text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_to_a_file(page: Path) -> None:
    assert broken_links(page, page.read_text()) == []


def test_the_check_detects_a_broken_link() -> None:
    assert broken_links(README, "[a](docs/layers.md#x) [b](docs/nothing.md) [c](https://keras.io)") == [
        "docs/nothing.md"
    ]


def test_the_readme_has_a_maximum_length() -> None:
    assert README.read_text().count("\n") <= 200


if __name__ == "__main__":
    LAYERS.write_text(with_current_rules(LAYERS.read_text()))
