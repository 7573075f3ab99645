"""Every line that an error message prints is executed, and the call that raised works then, or gets further.

The cases are in the other files of this folder. Each one says which place of the code prints its line; the test checks
that this place did, and `test_every_place_has_a_case` that no place is without a case.
"""

import ast
import re
import runpy
import shlex
import subprocess
import sys
import tempfile
import tomllib
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.errors import EXTRA_OF
from keras3conv.report.report import Report
from tests.support.cli_runs import run as run_command
from tests.support.fixes import (
    CASES,
    ROOT,
    Case,
    Failed,
    Scope,
    are_arguments,
    function_of,
    is_command,
    lines_in,
    message_of,
    places,
    reached,
    with_arguments,
    with_options,
)
from tests.torch_backend.fixes import (
    archives,
    commands,
    conversions,
    outputs,
    own_code,
    plans,
    proofs,
    saved_plans,
    unfit_rules,
    unknown_layers,
)
from tests.torch_backend.fixes.plans import NAMES

ALL = [case for cases in CASES.values() for case in cases]
_MODULES = (
    archives,
    commands,
    conversions,
    outputs,
    own_code,
    plans,
    proofs,
    saved_plans,
    unfit_rules,
    unknown_layers,
)
assert all(module.__name__ for module in _MODULES), "they declare the cases"

NOT_EXECUTED = {
    "keras3conv/frameworks/torch/pretrained.py:load": "pip install: a test installs nothing",
    "keras3conv/workflows/user_code.py:_failure": "pip install: a test installs nothing",
    "validators/gradients.py:_facts": "in no error: test_the_momentum_that_a_passed_report_prints_makes_training_equal",
}
"""Places without a case, each with the reason."""

X = np.zeros((2, 3), "float32")
SHELL = ("gunzip ", "h5repack ", "tar ", "python -m ")
ENVIRONMENT = re.compile(r"([A-Z_]+)=(\S+)")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of the user."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def execute(line: str, names: Scope) -> None:
    """Run a line of Python, or a command line."""
    if is_command(line):
        parts = shlex.split(line, comments=True)[1:]
        finished = run_command(*parts)
        if finished.exit_code not in (0, 3):
            raise Failed(f"{finished.exception!r}\n{finished.output.rstrip()}")
        return
    exec(line, names)  # noqa: S102 - our own message


def apply(line: str, case: Case, names: Scope) -> None:
    """Do what a line says, and then what the user wanted to do."""
    line = case.edit(line, names) if case.edit else line
    again = partial(execute, case.then or case.call, names)
    if variable := ENVIRONMENT.fullmatch(line):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(variable[1], variable[2])
            if variable[1] == "PYTHONPATH":
                patch.syspath_prepend(variable[2])  # as a new process does
            patch.setattr(tempfile, "tempdir", None)
            again()
    elif line.startswith(SHELL):
        run_in_a_shell(shlex.split(line, comments=True))
        again()
    elif is_command(case.call):
        apply_to_command(line, case, again)
    elif Path(line).is_absolute():
        names["path"] = Path(line)
        again()
    elif are_arguments(line):
        apply_arguments(line, case, names, again)
    else:
        execute(line, names)
        if function_of(line) != function_of(case.call) or case.then:
            again()


def run_in_a_shell(words: list[str]) -> None:
    """Run a program; a module of Python runs in this process, which has imported what it needs."""
    if words[:2] != ["python", "-m"]:
        subprocess.run(words, check=True)
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", words[2:])
        runpy.run_module(words[2], run_name="__main__", alter_sys=True)


def apply_to_command(line: str, case: Case, again: Callable[[], None]) -> None:
    """Add options to a command, replace an argument of it, or run another command first."""
    if line.startswith("-"):
        execute(with_options(case.call, line), {})
    elif ".py:" in line and " " not in line:
        execute(case.call.replace(line.partition(":")[0], line), {})
    elif is_command(line):
        is_misspelt = "resolve_command" in case.place
        execute(" ".join([line, *case.call.split()[2:]]) if is_misspelt else line, {})
        if not is_misspelt and line.split()[1] != case.call.split()[1]:
            again()
    else:
        execute(line, NAMES | {"x": X, "path": "path.npz"})
        again()


def apply_arguments(line: str, case: Case, names: Scope, again: Callable[[], None]) -> None:
    """Add arguments to the call, or, where a comment names a layer, to the layer."""
    if setting := re.search(r"  # (?:(?:torch|Keras): )?([\w.]+)$", line):
        names["rebuilt"](names, setting[1], eval(f"dict({line}\n)", names))  # noqa: S307 - our own message
        again()
    else:
        execute(with_arguments(case.call, line), names)


def undo(names: Scope) -> None:
    """Take back what a case changed outside of its folder."""
    names.get("undo", lambda: None)()


def provoked(case: Case, names: Scope) -> str:
    """Return the message of a case, printed by the place that it names."""
    was_reached, message = reached(places()[case.place], lambda: message_of(partial(execute, case.call, names)))
    assert was_reached, f"another place printed: {message}"
    return message


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Layer InputLayer does not have a")  # of Keras, for any quantized model
@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # numpy, about a symbolic tensor; torch, about torch.jit
@pytest.mark.parametrize("case", ALL, ids=lambda case: f"{case.place}-{case.made.__name__}")
def test_a_printed_line_is_executed_and_helps(case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    number, count = 0, 1
    while number < count:
        within = folder / str(number)
        within.mkdir()
        monkeypatch.chdir(within)
        names = case.made(within)
        try:
            message = provoked(case, names)
            lines = lines_in(message, one_line=is_command(case.call))
            lines = [line for line in lines if case.only in line]
            assert lines, message
            said = message_of(partial(apply, lines[number], case, names))
        finally:
            undo(names)
        got_further = case.further and re.search(case.further, said) and said != message
        assert not said or got_further, f"{lines[number]}\n{said}"
        number, count = number + 1, len(lines)


def test_every_place_has_a_case() -> None:
    assert set(places()) - NOT_EXECUTED.keys() == set(CASES)


def test_a_new_place_without_a_case_is_found() -> None:
    assert "keras3conv/writing/outputs.py:_check_place" in places()
    assert "keras3conv/alignment/staging.py:Staging._fitted" in places()
    assert "keras3conv/frameworks/keras/tracing/problems.py:cannot_follow" in places()


def test_a_line_that_does_not_help_is_noticed(folder: Path) -> None:
    case = next(case for case in ALL if case.made is outputs.a_file_that_exists)
    assert "exists" in message_of(partial(apply, "overwrite=False", case, case.made(folder)))


def test_the_momentum_that_a_passed_report_prints_makes_training_equal() -> None:
    def keras_model(**arguments: float) -> keras.Model:
        given = keras.Input((4,))
        norm = keras.layers.BatchNormalization(epsilon=1e-5, name="norm", **arguments)
        return keras.Model(given, norm(given))

    def judged(model: keras.Model, *, training: bool) -> Report:
        k3c.transfer(module, model, k3c.align(module, model))
        return k3c.validate(module, model, inputs=torch.randn(5, 4), proofs=["gradients"], training=training)

    module = nn.Sequential(OrderedDict(norm=nn.BatchNorm1d(4))).eval()
    report = judged(keras_model(), training=False)
    _, _, line = report.section("gradients").facts["moving statistics not compared"].partition("Fix: ")
    assert line.endswith("# Keras: norm")
    assert not judged(keras_model(), training=True).ok
    assert judged(eval(f"keras_model({line}\n)"), training=True).ok  # noqa: S307 - our own message


@pytest.mark.slow
def test_an_installation_names_an_extra_that_exists() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(EXTRA_OF.values()) <= set(project)
    texts = [path.read_text() for path in (ROOT / "keras3conv").rglob("*.py")]
    packages = {
        argument.value
        for text in texts
        if "MissingExtra(" in text or "require(" in text
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("MissingExtra", "require")
        for argument in node.args[1:]
        if isinstance(argument, ast.Constant)
    }
    assert packages
    assert packages <= set(EXTRA_OF)
