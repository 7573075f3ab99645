"""Texts of the program: help, suggestions after a wrong command, the doctor, tables that fit the terminal."""

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from keras3conv.cli.backend import backend_of_keras
from keras3conv.cli.commands import app
from keras3conv.width import fitted_table, folded

ROOT = Path(__file__).resolve().parents[3]


def run(*arguments: str | Path) -> Result:
    """Run the program in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_without_a_command_the_program_prints_what_to_do_first() -> None:
    result = run()
    assert result.exit_code == 2
    for line in ("keras3conv convert model.h5 -o folder/", "keras3conv doctor", "keras3conv --help"):
        assert line in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_an_unknown_command_suggests_the_most_similar_commands() -> None:
    result = run("convrt", "model.h5")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("there is no command 'convrt'\nFix:  keras3conv convert\n")
    assert "Fix:" not in run("xyzzy").stderr


def test_an_option_of_other_commands_is_an_error_that_names_them() -> None:
    result = run("transfer", "net.pt", "model.keras", "--hint", "a=b")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("transfer has no option --hint: it is an option of validate and align\n")
    assert "--plan plan.json" in result.stderr
    assert run("inspect", "net.pt", "--shape=1,3").stderr.startswith("inspect has no option --shape")
    assert "No such option: --hintt" in run("validate", "net.pt", "model.keras", "--hintt", "a=b").stderr


def test_every_command_is_in_the_order_of_the_help() -> None:
    listed = re.findall(r"^  ([a-z-]+)  ", run("--help").stdout.partition("Commands:")[2], flags=re.MULTILINE)
    assert listed[:3] == ["convert", "validate", "align"]
    assert {"doctor", "rules", "compare-onnx"} < set(listed)


# doctor


def test_the_doctor_names_versions_the_backend_and_every_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    found = json.loads(run("doctor", "--json").stdout)
    assert found["backend"] == "jax"
    assert found["backend chosen by"] == "KERAS_BACKEND"
    assert found["extras"]["report"]["packages"]["jinja2"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(found["extras"]) == set(project) - {"all", "dev", "docs"}
    for name, extra in found["extras"].items():
        wanted = {re.split(r"[>=\[;]", line)[0] for line in project[name]} - {"keras3conv"}
        assert set(extra["packages"]) == wanted, name


def test_the_doctor_says_how_to_install_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(name: str) -> str:
        if name in ("jinja2", "jax"):
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr("keras3conv.cli.doctor.version", installed)
    monkeypatch.setattr("keras3conv.cli.backend.find_spec", lambda name: name == "torch")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    shown = run("doctor").stdout
    assert 'pip install "keras3conv[jax,report]"' in shown
    assert "Keras would use jax, which is not installed:  export KERAS_BACKEND=torch" in shown


def test_doctor_reads_the_backend_from_the_keras_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert backend_of_keras() == ("tensorflow", "the default of Keras")
    (tmp_path / "keras.json").write_text('{"backend": "jax"}')
    assert backend_of_keras() == ("jax", str(tmp_path / "keras.json"))


def test_a_command_uses_an_installed_backend_if_the_default_of_keras_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("keras3conv.cli.backend.find_spec", lambda name: name in ("torch", "jax"))
    assert "(the commands of keras3conv use torch):  export KERAS_BACKEND=torch" in run("doctor").stdout
    assert "KERAS_BACKEND" not in os.environ
    assert run("rules").exit_code == 0
    assert os.environ.pop("KERAS_BACKEND") == "torch"


@pytest.mark.parametrize("chosen", ["jax", "tensorflow"])
def test_a_backend_that_was_chosen_is_kept_even_if_it_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, chosen: str
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", chosen)
    monkeypatch.setattr("keras3conv.cli.backend.find_spec", lambda name: name == "torch")
    assert run("rules").exit_code == 0
    assert os.environ["KERAS_BACKEND"] == chosen


def test_an_unknown_backend_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jaxx")
    done = run("rules")
    assert done.exit_code == 2
    assert "Keras has no backend 'jaxx', which KERAS_BACKEND names: choose torch, jax, tensorflow" in done.stderr


# Width


@pytest.mark.parametrize("width", [50, 80, 120])
def test_tables_and_messages_fit_the_terminal_without_losing_text(width: int) -> None:
    rows = [("a.very.long.name." * 4, "Conv2D", "some words that explain " * 4), ("b", "", "")]
    table = fitted_table(("layer", "class", "note"), rows, width)
    assert max(map(len, table.lines)) <= width
    letters = sorted("".join(row[place] for row in rows for place in range(3)).replace(" ", ""))
    shown = "".join(line for row in table.rows for line in row).replace(" ", "")
    shown = shown if table.head else re.sub(r"(layer|class|note):", "", shown)
    assert sorted(shown) == letters
    message = f"AlignmentError: 2 problems\n  fc  (torch)  {'matched nothing, ' * 9}\nFix:  {'plan.pair ' * 12}"
    parts = folded(message, width).split("\n")
    assert max(len(part) for part in parts if not part.startswith("Fix:")) <= width
    assert " ".join(" ".join(parts).split()) == " ".join(message.split())
    assert parts[-1] == f"Fix:  {'plan.pair ' * 12}"


def test_the_lines_of_both_streams_in_one_pipe_stay_in_order() -> None:
    code = "import sys; from keras3conv.cli import commands; commands.app = lambda **_: (%s); commands.main()"
    lines = "print('first'), print('second', file=sys.stderr), print('third')"
    finished = subprocess.run(
        [sys.executable, "-c", code % lines], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
    )
    assert finished.stdout.splitlines() == ["first", "second", "third"]
