"""Models that the command line takes from factories, and factories that it refuses."""

import sys
from pathlib import Path

import pytest

from tests.support.cli_models import MODELS
from tests.support.cli_runs import assert_refused, run


def test_a_model_in_a_module_needs_no_factory(models: Path) -> None:
    result = run("inspect", f"{models}:module")
    assert result.exit_code == 0
    assert "torch.nn.Linear  weight (3, 7), bias (3,)" in result.stdout


def test_a_factory_in_a_package_is_found_in_the_current_folder(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = models.parent / "models_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    models.rename(package / "nets.py")
    monkeypatch.chdir(package.parent)
    assert run("inspect", "models_package.nets:make").exit_code == 0


def test_a_file_named_like_a_framework_does_not_replace_it(models: Path) -> None:
    path = models.rename(models.parent / "keras.py")
    before = sys.modules["keras"]
    assert run("inspect", f"{path}:make").exit_code == 0
    assert sys.modules["keras"] is before


def test_a_factory_that_raises_gives_one_message_with_the_line(models: Path) -> None:
    line = MODELS.splitlines().index('    raise ValueError("no such size")') + 1
    assert_refused(
        run("inspect", f"{models}:raises"),
        f"ModelError: {models}:raises raised ValueError: no such size",
        f"models.py, line {line}, in raises",
        'raise ValueError("no such size")',
    )


def test_a_file_that_cannot_be_imported_gives_one_message(tmp_path: Path) -> None:
    path = tmp_path / "models_broken.py"
    path.write_text("import torch\n\ntorch.no_such_name\n")
    assert_refused(run("inspect", f"{path}:make"), "when it was imported", "models_broken.py, line 3")
    path.write_text("def make(:\n")
    assert_refused(run("inspect", f"{path}:make"), "models_broken.py cannot be imported\n  line 1: SyntaxError")


def test_a_factory_that_calls_exit_gives_one_message(models: Path) -> None:
    assert_refused(run("inspect", f"{models}:stops"), "stops raised SystemExit: 0")


def test_a_factory_that_returns_something_else_is_refused(models: Path) -> None:
    assert_refused(run("inspect", f"{models}:returns_a_dict"), "returned a dict: a factory returns a torch module or")


def test_an_object_that_is_neither_model_nor_factory_is_refused(models: Path) -> None:
    assert_refused(run("inspect", f"{models}:NUMBER"), "must be a model, or a function that returns one, but is an int")


def test_a_factory_with_arguments_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "models_sized.py"
    path.write_text("def make(width, depth, height=3): ...\n")
    assert_refused(run("inspect", f"{path}:make"), "models_sized.py:make needs the arguments width, depth, ")


def test_an_unknown_name_is_refused_with_the_known_ones(models: Path) -> None:
    words = "models.py has no model or function mak; it has Net, make, wrong, wide, make_keras"
    assert_refused(run("inspect", f"{models}:mak"), words)


def test_a_factory_that_imports_a_missing_package_is_refused_with_the_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    path = tmp_path / "needs_an_extra.py"
    path.write_text("import jax2onnx\n")
    assert_refused(run("inspect", f"{path}:make"), "needs_an_extra.py, line 1", 'pip install "keras3conv[onnx-jax]"')
    other = tmp_path / "needs_another.py"
    other.write_text("import no_package_of_ours\n")
    result = run("inspect", f"{other}:make")
    assert_refused(result, "no_package_of_ours")
    assert "pip install" not in result.stderr
