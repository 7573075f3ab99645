"""`verify` of a folder that `convert` wrote: the digests are in `metadata.json`, not in a manifest."""

import hashlib
import json
from pathlib import Path

import pytest

import keras3conv as k3c
from keras3conv.errors import FileError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder like that of a conversion: two files, and their digests."""
    contents = {"model.py": b"code", "weights.safetensors": b"four"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    (tmp_path / "metadata.json").write_text(json.dumps({"format": 1, "sha256": digests}))
    (tmp_path / "README.md").write_text("by the user")
    return tmp_path


@pytest.mark.parametrize("name", ["", "metadata.json", "weights.safetensors"])
def test_a_changed_file_fails(folder: Path, name: str) -> None:
    assert k3c.verify(folder / name).status == "passed"
    (folder / "weights.safetensors").write_bytes(b"five")
    found = k3c.verify(folder / name)
    assert found.status == "failed"
    (problem,) = found.sections[0].problems
    assert problem.fact.startswith(f"the sha256 of {folder / 'weights.safetensors'} is")


def test_files_that_the_record_does_not_state_are_listed_and_not_called_compared(folder: Path) -> None:
    (folder / "other.py").write_text("print()")
    assert k3c.verify(folder).sections[0].summary == "2 files, 0 differences; not compared: README.md, other.py"
    assert k3c.verify(folder / "model.py").sections[0].summary == "1 file, 0 differences"
    (folder / "README.md").unlink()
    (folder / "other.py").unlink()
    assert k3c.verify(folder).sections[0].summary == "2 files, 0 differences"


def test_the_report_says_that_it_finds_no_forgery_and_what_to_compare(folder: Path) -> None:
    (folder / "model.py").write_bytes(b"forged")
    record = json.loads((folder / "metadata.json").read_text())
    record["sha256"]["model.py"] = hashlib.sha256(b"forged").hexdigest()
    (folder / "metadata.json").write_text(json.dumps(record))
    found = k3c.verify(folder)
    assert found.status == "passed"
    (note,) = found.notes
    assert note.startswith("this finds accidents, not forgery")
    assert note.endswith(hashlib.sha256((folder / "metadata.json").read_bytes()).hexdigest())


def test_a_file_is_verified_without_the_others(folder: Path) -> None:
    (folder / "model.py").unlink()
    assert k3c.verify(folder / "weights.safetensors").status == "passed"
    found = k3c.verify(folder)
    assert "model.py cannot be read" in found.sections[0].problems[0].fact


def test_a_file_that_convert_did_not_write_cannot_be_verified(folder: Path) -> None:
    with pytest.raises(FileError, match=r"README.md cannot be verified: .* states the digests of model.py, weights"):
        k3c.verify(folder / "README.md")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"sha256": {"model.py": 1}}', '{"sha256": {"../x": "00"}}'])
def test_a_damaged_record_raises_an_error_instead_of_a_report(folder: Path, text: str) -> None:
    (folder / "metadata.json").write_text(text)
    with pytest.raises(FileError, match=r"metadata\.json"):
        k3c.verify(folder)


def test_a_folder_without_a_record_cannot_be_verified(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"it has no metadata\.json"):
        k3c.verify(tmp_path)
