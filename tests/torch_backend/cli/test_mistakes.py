"""Mistakes on the command line end with status 2 and a message; nothing that the user named is left unused."""

from pathlib import Path

import pytest

from tests.support.cli_runs import assert_refused, run
from tests.torch_backend.fixes.commands import files


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    files(tmp_path)
    (tmp_path / "text.txt").write_text("hello\n")
    (tmp_path / "kept").mkdir()
    return tmp_path


USED = [
    ("convert net.py:make --shape 1,3 -o out --keras-weights model.weights.h5", "net.py:make is no Keras model"),
    ("convert net.py:make_keras -o out --torch-weights net.safetensors", "net.py:make_keras is no torch model"),
    ("convert model.keras -o out --torch-weights net.safetensors", "model.keras is no torch model"),
    ("validate net.safetensors model.keras --torch-weights net.safetensors", "net.safetensors has weights of its own"),
    ("validate net.py:make model.keras --keras-weights model.weights.h5", "model.keras has weights of its own"),
    ("align net.safetensors model.keras --keras-weights model.weights.h5", "model.keras has weights of its own"),
    ("transfer net.safetensors model.keras -o new.keras --torch-weights net.safetensors", "has weights of its own"),
    ("inspect model.keras --torch-weights net.safetensors", "model.keras is no torch model"),
]


@pytest.mark.parametrize(("command", "said"), USED)
def test_weights_that_no_model_would_get_are_refused(command: str, said: str, folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    result = run(*command.split())
    assert_refused(result, "-weights", "would not be used, because")
    assert said in " ".join(result.stderr.split())
    assert sorted(path for path in folder.rglob("*") if "__pycache__" not in path.parts) == before


def test_weights_that_a_model_gets_are_accepted() -> None:
    assert run("convert", "model.keras", "-o", "out", "--keras-weights", "model.weights.h5").exit_code == 0
    assert run("inspect", "net.py:make", "--torch-weights", "net.safetensors").exit_code == 0


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("inspect missing", "FileError: missing does not exist, and has an unknown suffix"),
        ("inspect text.txt", "text.txt has an unknown suffix"),
        ("card missing", "FileError: missing does not exist: give the folder or file"),
        ("card net.safetensors --report kept", "kept cannot be read as the JSON report that keras3conv wrote: it is a"),
        ("convert model.keras -o text.txt/out", "because text.txt is not a folder; choose another name"),
        ("convert model.keras -o none/out", "because the folder none does not exist; make the folder first"),
        ("convert model.keras -o out --import kept", "kept is a folder without code (__init__.py): name a Python file"),
        ("validate net.py:make model.keras --labels text.txt", "InputError: the labels cannot be read"),
        ("validate net.py:make model.keras --plan model.keras", "model.keras: it is no text, so it is not a plan"),
    ],
)
def test_the_message_names_what_is_wrong_with_a_path(command: str, said: str) -> None:
    result = run(*command.split())
    assert_refused(result)
    assert said in " ".join(result.stderr.split())


def test_a_path_with_a_space_is_one_word_in_the_line_to_paste(folder: Path) -> None:
    spaced = folder / "my model.keras"
    (folder / "model.keras").rename(spaced)
    assert_refused(run("transfer", "net.safetensors", spaced.name), "Fix:  -o 'new_my model.keras'     or     --over")


def test_a_suggested_align_writes_to_one_file() -> None:
    result = run("validate", "net.py:make", "model.keras", "--plan", "text.txt")
    assert result.stderr.splitlines()[-1] == "Fix:  keras3conv align net.py:make model.keras -o new_text.json"
