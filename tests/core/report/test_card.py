"""The card of a converted model, and the line for the table of a model zoo."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from keras3conv.cli.commands import app
from keras3conv.errors import Problem
from keras3conv.report.card import Card
from keras3conv.report.html import write_card
from keras3conv.report.pictures import Answer, Picture
from keras3conv.report.report import Report
from keras3conv.report.values import Section, Table
from keras3conv.writing.digests import WrittenFile

OUTPUTS = Table(columns=("output", "noise floor"), rows=(("0", 2.5e-7),))
ACCURACY = Table(title="accuracy", columns=("side", "top-1"), rows=(("torch", "91.00%"), ("keras", "91.00%")))
ANSWER = Answer(first="cat | dog", first_score=0.75, second="cat | dog", second_score=0.75)
PICTURE = Picture(png=b"\x89PNG\r\n\x1a\n", caption="sample 0: cat", answers=(ANSWER,))
REPORT = Report(
    title="Certificate: Net (torch) <-> net (keras)",
    sections=(
        Section(name="outputs", status="passed", claim="", summary="3e-8", tables=(OUTPUTS,)),
        Section(name="accuracy", status="passed", claim="", summary="", tables=(ACCURACY,), pictures=(PICTURE,)),
    ),
    environment={"torch": "2.6", "keras": "3.15"},
)
FILE = WrittenFile(path="weights.safetensors", size=4, sha256="ab", md5="cd")


def card(**values: object) -> Card:
    return replace(Card(name="net", report=REPORT, files=(FILE,)), **values)  # type: ignore[arg-type]


def header(text: str) -> dict[str, object]:
    """Return the YAML header, whose values are JSON."""
    first, body, _ = text.split("---\n", 2)
    assert first == ""
    return {line.partition(": ")[0]: json.loads(line.partition(": ")[2]) for line in body.splitlines()}


def test_the_header_has_the_keys_of_model_hubs() -> None:
    text = write_card(card(licence='a "strange" licence: 1', base_model="owner/net"))
    assert header(text) == {
        "license": 'a "strange" licence: 1',
        "library_name": "pytorch",
        "base_model": "owner/net",
        "tags": ["keras3conv", "pytorch"],
    }


def test_a_card_without_a_licence_states_that_none_was_given() -> None:
    text = write_card(card())
    assert "license" not in header(text)
    assert "The author of this card gave no licence" in text


def test_the_card_has_the_verdicts_the_noise_floor_and_the_answers() -> None:
    text = write_card(card(sources=(replace(FILE, path="net.h5"),)))
    for line in (
        "| ✓ passed | outputs | 3e-8 |",
        "| 0 | 2.5e-07 |",
        "| torch | 91.00% |",
        "| sample 0: cat | 1 | cat \\| dog | 0.75 | cat \\| dog | 0.75 |",
        "| net.h5 | 4 | `ab` | `cd` |",
        "- torch 2.6",
    ):
        assert line in text.splitlines(), line


@pytest.mark.parametrize(
    ("path", "has_code", "line"),
    [
        ("w.safetensors", True, "model = Model().eval()"),
        ("w.safetensors", False, 'module.load_state_dict(load_file("w.safetensors"))'),
        ("w.pt", False, 'module.load_state_dict(torch.load("w.pt", weights_only=True))'),
        ("model.keras", True, 'model = keras.saving.load_model("model.keras")'),
        ("model.weights.h5", True, "model = build_model()"),
        ("model.weights.h5", False, 'model.load_weights("model.weights.h5")'),
    ],
)
def test_the_card_says_how_to_load_the_first_file(path: str, has_code: bool, line: str) -> None:
    made = card(files=(replace(FILE, path=path),), has_code=has_code)
    assert line in made.loading.splitlines()
    assert made.loading in write_card(made)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["card", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "weights.safetensors").write_bytes(b"four")
    REPORT.save(tmp_path / "net" / "report.json")
    return tmp_path / "net"


def test_the_command_saves_the_card_and_prints_the_line_for_the_table_of_a_zoo(folder: Path) -> None:
    finished = run(folder, "--license", "mit", "-o", folder / "README.md")
    assert finished.exit_code == 0, finished.output
    sha256, md5 = hashlib.sha256(b"four").hexdigest(), hashlib.md5(b"four", usedforsecurity=False).hexdigest()
    assert finished.stdout == f"weights.safetensors  4  {sha256}  {md5}\n"
    assert (folder / "README.md").read_text().startswith('---\nlicense: "mit"\n')
    assert run(folder, "-o", folder / "README.md").exit_code == 2


def test_the_card_as_json_has_the_files(folder: Path) -> None:
    data = json.loads(run(folder, "--json").stdout)
    assert data["files"][0]["path"] == "weights.safetensors"
    assert data["card"].startswith("---\n")


def test_the_card_of_a_failed_conversion_reports_the_failure_and_exits_with_one(folder: Path) -> None:
    failed = Section(name="outputs", status="failed", claim="", summary="they differ", problems=(Problem(fact="x"),))
    replace(REPORT, sections=(failed,)).save(folder / "report.json")
    finished = run(folder)
    assert finished.exit_code == 1
    assert "| ✗ failed | outputs | they differ |" in finished.stdout


def test_a_card_without_a_certificate_is_refused_with_a_fix(folder: Path) -> None:
    (folder / "report.json").unlink()
    finished = run(folder)
    assert finished.exit_code == 2
    assert "a card needs the certificate\nFix:  --report report.json" in finished.output
    (folder / "weights.safetensors").unlink()
    # The width of the terminal breaks the line at a place that depends on the length of the folder's path.
    assert "contains no file of weights" in " ".join(run(folder).output.split())
