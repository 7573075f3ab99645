"""The guard of hostile files detects actions that a reader must not take."""

import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from keras3conv.errors import MalformedCheckpoint
from tests.support import guarded
from tests.support.guarded import Case, Outcome


def nothing(folder: Path) -> Path:
    (folder / "x").write_bytes(b"x")
    return folder / "x"


def opens_another_file(_: Path) -> None:
    Path("/etc/hostname").exists()
    Path("/etc/passwd").read_bytes()


def writes_a_file(path: Path) -> None:
    path.with_name("pwned").write_bytes(b"")


def starts_a_process(_: Path) -> None:
    subprocess.run([sys.executable, "-c", ""], check=True)


def imports_a_module(_: Path) -> None:
    importlib.import_module("this_module_does_not_exist")


def allocates(_: Path) -> None:
    bytearray(100 << 20)


def dies(_: Path) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def raises_a_foreign_error(_: Path) -> None:
    raise RuntimeError("foreign")


def says_too_much(_: Path) -> None:
    error = MalformedCheckpoint()
    error.args = ("x" * 10_000,)
    raise error


def speaks_to_the_terminal(_: Path) -> None:
    error = MalformedCheckpoint()
    error.args = ("\x1b[31m",)
    raise error


USES = {
    use.__name__: use
    for use in (
        opens_another_file,
        writes_a_file,
        starts_a_process,
        imports_a_module,
        allocates,
        dies,
        raises_a_foreign_error,
        says_too_much,
        speaks_to_the_terminal,
    )
}
CASES = {name: Case(build=nothing, use=use, error=MalformedCheckpoint) for name, use in USES.items()}
CASES["a good file"] = Case(build=nothing, use=lambda _: None, error=None)


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    return guarded.outcomes(__name__)


@pytest.mark.parametrize("case", USES)
def test_the_guard_detects_forbidden_actions_of_a_reader(case: str, outcomes: dict[str, Outcome]) -> None:
    with pytest.raises(AssertionError):
        guarded.check(CASES[case], outcomes[case])


def test_the_guard_accepts_a_good_file_after_a_crashed_case(outcomes: dict[str, Outcome]) -> None:
    guarded.check(CASES["a good file"], outcomes["a good file"])


def test_the_guard_detects_an_accepted_file_that_should_be_refused() -> None:
    with pytest.raises(AssertionError):
        guarded.check(Case(build=nothing), Outcome())
