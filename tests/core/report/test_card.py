"""The card of a converted model, and the line for the table of a model zoo."""

import hashlib
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from keras3conv.cli.commands import app
from keras3conv.errors import Problem
from keras3conv.report.card import Card
from keras3conv.report.digests import digest_note, named_files
from keras3conv.report.html import write_card
from keras3conv.report.limits import LIMITS, TITLE
from keras3conv.report.markdown import escape
from keras3conv.report.pictures import Answer, Picture
from keras3conv.report.report import Report
from keras3conv.report.values import Section, Table
from keras3conv.writing.digests import ReadFile, WrittenFile, digest

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
    assert "This card names no licence.\n" in text


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


def test_the_card_says_what_the_answers_are() -> None:
    section = replace(REPORT.sections[1], facts={"output": "logits"})
    text = write_card(card(report=replace(REPORT, sections=(section,))))
    assert "| sample | rank | torch | torch's score | keras | keras' score |\n" in text
    assert "the value in the output logits of shape (samples, classes)," in text
    assert "the value in an output of shape (samples, classes)," in write_card(card())


def test_the_card_has_the_digest_of_each_file_that_the_certificate_read() -> None:
    layer = ReadFile(path="own.py", size=9, sha256="ef", md5="01", entry="")
    given = replace(layer, path="net.keras", sha256="23")
    report = replace(REPORT, sources=(layer, replace(layer, path="again.py"), given, ReadFile(**vars(FILE), entry="")))
    text = write_card(card(report=report, sources=(replace(FILE, path="net.keras", sha256="23"),)))
    _, rows = text.split("## Sources\n")
    assert "| net.keras | 4 | `23` | `cd` |\n| again.py | 9 | `ef` | `01` |\n\n" in rows
    assert rows.count("`ab`") == rows.count("own.py") == 0


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


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "the card names no licence: a hub asks for one; add --license apache-2.0, or another\n"),
        (("--license", "Apache 2.0"), "hubs name a licence in small letters, without spaces: --license apache-2.0\n"),
        (("--license", "apache-2.0"), ""),
    ],
)
def test_a_licence_that_a_hub_would_complain_about_is_one_line(
    folder: Path, options: tuple[str, ...], said: str
) -> None:
    finished = run(folder, *options)
    assert finished.exit_code == 0, "the card is written in any case"
    other = "the certificate does not name this file: weights.safetensors\n"
    assert finished.stderr == f"{said}{other}"


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


def test_the_card_says_what_the_model_takes_and_returns(folder: Path) -> None:
    plain = run(folder)
    assert plain.exit_code == 0, plain.output
    assert "What it takes" not in plain.stdout
    content = {
        "sha256": {},
        "inputs": [{"name": "x", "shape": "(batch, 3, 12)", "dtype": "float32"}],
        "outputs": [
            {"shape": "(batch, 8)", "dtype": "float32"},
            {"keras_name": "reg", "shape": "(batch, 1)", "dtype": "float32"},
        ],
    }
    (folder / "metadata.json").write_text(json.dumps(content))
    text = run(folder).stdout
    assert (
        "- takes x: float32 (batch, 3, 12)\n- returns float32 (batch, 8)\n- returns reg: float32 (batch, 1)\n" in text
    )


def test_the_card_has_the_digest_of_the_certificate_beside_the_weights(folder: Path) -> None:
    beside, elsewhere = folder / "certificate.json", folder.parent / "certificate.json"
    for path in (beside, elsewhere):
        REPORT.save(path)
    sha256 = hashlib.sha256(beside.read_bytes()).hexdigest()
    text = run(folder, "--report", beside).stdout
    assert f"\n{sha256}  certificate.json\nEND\n" in text
    assert f"| certificate.json | {beside.stat().st_size:,} | `{sha256}` |" in text
    assert sha256 not in run(folder, "--report", elsewhere).stdout


@pytest.mark.parametrize(("name", "title"), [("resnet8", "resnet8"), ("functional_1", "net"), ("Model", "net")])
def test_the_title_of_the_card_is_the_name_that_the_author_gave_the_model(folder: Path, name: str, title: str) -> None:
    (folder / "metadata.json").write_text(json.dumps({"sha256": {}, "name": name}))
    assert f"\n# {title}\n" in run(folder).stdout
    assert "\n# own\n" in run(folder, "--name", "own").stdout


def test_a_card_without_a_certificate_is_refused_with_a_fix(folder: Path) -> None:
    (folder / "report.json").unlink()
    finished = run(folder)
    assert finished.exit_code == 2
    assert "a card needs the certificate\nFix:  --report report.json" in finished.output
    (folder / "weights.safetensors").unlink()
    # The width of the terminal breaks the line at a place that depends on the length of the folder's path.
    assert "contains no file of weights" in " ".join(run(folder).output.split())


def changed(folder: Path) -> Path:
    """Change the weights in a folder whose records name them as they were; return their file."""
    file = folder / "weights.safetensors"
    file.write_bytes(b"five")
    return file


def named(folder: Path) -> None:
    """Replace the certificate in a folder with one that names the weights."""
    replace(REPORT, files=(digest(folder / "weights.safetensors"),)).save(folder / "report.json")


def assert_refused(finished: Result, name: str = "weights.safetensors") -> None:
    assert finished.exit_code == 2, finished.output
    assert f"{name} is not the file that this certificate was made for" in " ".join(finished.output.split())


def test_the_card_of_weights_that_the_certificate_names_has_no_warning(folder: Path) -> None:
    named(folder)
    finished = run(folder)
    assert finished.exit_code == 0
    assert "does not name" not in finished.output


def test_weights_that_changed_after_the_certificate_are_refused(folder: Path) -> None:
    named(folder)
    changed(folder)
    assert_refused(run(folder, "-o", folder / "README.md"))
    assert not (folder / "README.md").exists()


@pytest.mark.parametrize("record", ["metadata.json", "weights.safetensors.manifest.json"])
def test_weights_that_changed_after_their_digest_was_recorded_are_refused(folder: Path, record: str) -> None:
    sha256 = hashlib.sha256(b"four").hexdigest()
    files = [{"path": "weights.safetensors", "sha256": sha256}]
    (folder / record).write_text(json.dumps({"format": 1, "sha256": {"weights.safetensors": sha256}, "files": files}))
    assert run(folder).exit_code == 0
    changed(folder)
    assert_refused(run(folder))


@pytest.mark.parametrize("name", ["model.py", "published.keras"])
def test_code_and_sources_that_changed_after_the_certificate_are_refused(folder: Path, name: str) -> None:
    (folder / name).write_text("old")
    files = (digest(folder / "weights.safetensors"), digest(folder / name))
    replace(REPORT, files=files).save(folder / "report.json")
    given = () if name == "model.py" else ("--source", folder / name)
    weights = folder / "weights.safetensors"
    assert run(weights, *given).exit_code == 0
    (folder / name).write_text("new")
    assert_refused(run(weights, *given), name)


def test_code_that_changed_is_refused_also_with_a_certificate_of_the_weights_alone(folder: Path) -> None:
    (folder / "model.py").write_text("old")
    sha256 = {name: digest(folder / name).sha256 for name in ("model.py", "weights.safetensors")}
    (folder / "metadata.json").write_text(json.dumps({"format": 1, "sha256": sha256}))
    named(folder)
    finished = run(folder)
    assert finished.exit_code == 0
    assert sha256["model.py"] in finished.output
    (folder / "model.py").write_text("new")
    assert_refused(run(folder), "model.py")


def test_the_certificate_of_another_model_is_refused(folder: Path) -> None:
    note = digest_note(WrittenFile(path="other/net.keras", size=4000, sha256="0" * 64, md5=""))
    replace(REPORT, notes=(note,)).save(folder / "report.json")
    finished = run(folder)
    assert_refused(finished)
    assert "states the digests of net.keras, and of no file of this model" in " ".join(finished.output.split())


def test_a_certificate_names_files_in_notes_and_facts() -> None:
    file = WrittenFile(path="other/net.keras", size=4000, sha256="1" * 64, md5="")
    facts = {"source net.pt": f"sha256 {'2' * 64}, md5 x", "format": "keras"}
    notes = ("inputs given", digest_note(file), f"source a.pt: sha256 {'3' * 64}, md5 x")
    report = replace(REPORT, sections=(replace(REPORT.sections[0], facts=facts),), notes=notes, files=(FILE,))
    found = (("weights.safetensors", "ab"), ("net.keras", "1" * 64), ("a.pt", "3" * 64), ("net.pt", "2" * 64))
    assert named_files(report) == found


def test_the_card_marks_files_that_the_certificate_does_not_name(folder: Path) -> None:
    (folder / "net.py").write_text("code")
    finished = run(folder, "--source", folder / "net.py")
    assert finished.exit_code == 0
    assert "the certificate does not name this file: weights.safetensors" in finished.stderr
    assert "The certificate does not name this file**: weights.safetensors." in finished.stdout
    assert "- net.py is named by the author of this card, not read by the certificate." in finished.stdout
    assert "the certificate does not name this source: net.py; the card says that you name it" in finished.stderr


def test_a_second_file_of_the_conversion_has_no_warning_if_its_digest_was_recorded(folder: Path) -> None:
    named(folder)
    (folder / "model.keras").write_bytes(b"the same weights in another format")
    sha256 = {name: digest(folder / name).sha256 for name in ("model.keras", "weights.safetensors")}
    warning = "The certificate does not name this file**: model.keras."
    assert warning in run(folder).stdout
    (folder / "metadata.json").write_text(json.dumps({"format": 1, "sha256": sha256}))
    finished = run(folder)
    assert "does not name" not in finished.output
    assert "model.keras is not the file that was validated: " in finished.stdout
    (folder / "metadata.json").write_text(json.dumps({"format": 1, "sha256": {"model.keras": sha256["model.keras"]}}))
    assert warning in run(folder).stdout  # the conversion of this record did not write the weights


def test_the_card_says_if_the_certificate_calls_a_source_by_another_name(folder: Path) -> None:
    (folder / "copy.h5").write_bytes(b"source")
    note = digest_note(replace(digest(folder / "copy.h5"), path="original.h5"))
    replace(REPORT, notes=(note,)).save(folder / "report.json")
    finished = run(folder, "--source", folder / "copy.h5")
    assert "- copy.h5 is the file that the certificate calls original.h5: the sha256 is the same." in finished.stdout


@pytest.mark.parametrize(
    ("record", "command"),
    [
        ("", ""),
        ("metadata.json", "keras3conv verify ."),
        ("weights.safetensors.manifest.json", "keras3conv verify weights.safetensors"),
    ],
)
def test_the_commands_on_the_card_check_the_files_and_find_a_change(folder: Path, record: str, command: str) -> None:
    if record:
        (folder / record).write_text(json.dumps({"format": 1, "sha256": {}, "files": []}))
    text = run(folder).stdout
    block = text.partition("## How to check it\n\n```sh\n")[2].partition("```")[0]
    *digests, last = block.splitlines()
    assert (last if command else "") == command
    lines = "\n".join(digests if command else [*digests, last])
    shell = ["sh", "-c", lines]
    assert subprocess.run(shell, cwd=folder, check=False, capture_output=True).returncode == 0
    (folder / "weights.safetensors").write_bytes(b"five")
    assert subprocess.run(shell, cwd=folder, check=False, capture_output=True).returncode == 1


def test_the_card_says_what_the_certificate_does_not_say() -> None:
    text = write_card(card())
    assert f"## {TITLE}" in text
    for limit in LIMITS:
        assert f"- {escape(limit)}" in text.splitlines(), limit


def test_the_author_s_code_that_the_model_imports_is_on_the_card(folder: Path) -> None:
    own = b"class Mixer: ...\n"
    digests = {"sha256": hashlib.sha256(own).hexdigest(), "md5": hashlib.md5(own, usedforsecurity=False).hexdigest()}
    read = ReadFile(path="code/mixer.py", size=len(own), entry="", **digests)
    weights = digest(folder / "weights.safetensors")
    files = (read, ReadFile(path="weights.safetensors", size=4, sha256=weights.sha256, md5=weights.md5, entry=""))
    replace(REPORT, sources=files).save(folder / "report.json")
    (folder / "model.py").write_text("import torch\nfrom torch import nn\nfrom mixer import Mixer\n")
    absent = run(folder)
    assert "import mixer  # the author's code of custom layers, which must be on the path\nfrom model" in absent.output
    assert "model.py imports mixer.py, which is not in the folder" in absent.output
    (folder / "mixer.py").write_bytes(own)
    present = run(folder)
    assert "not in the folder" not in present.output
    assert f"{digests['sha256']}  mixer.py\n" in present.output
