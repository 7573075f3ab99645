"""The pages of the documentation: their code runs in order, and prints what the page shows.

A page is a session in one folder. A block of Python with a title is a file, any other block of Python is run; all share
their names. A block of `sh` holds commands. A block of `text` after one of them is its output: the same lines, up to
the digits of numbers; "..." stands for any lines. Blocks of `py` are parts of code, which other tests run.

`python tests/torch_backend/test_pages.py` writes the outputs into the pages.
"""

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shutil import copy
from textwrap import dedent, indent
from typing import Any

import keras
import pytest

from keras3conv.report.limits import LIMITS
from tests.support.registered import keep_rules

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

TESTED_ELSEWHERE = {
    "convert.md": "tests/torch_backend/builder/test_readme.py",
    "files.md": "tests/torch_backend/workflows/test_files.py",
    "sweep.md": "tests/torch_backend/workflows/test_sweep.py",
}
"""Pages whose commands are run by other tests, because they need files that the page does not create."""

SLOW = {"sweep.md"}
"""Pages that start a process for each model, as tests/torch_backend/workflows/test_sweep.py does in `make test`."""

FROM_ITS_FOLDER = ("keras_net", "model", "net")
"""The modules that pages import from their folders."""

GIVEN = {
    "guides/keras2.md": {
        "old.h5": "tests/keras2_files/tensorflow-2.4.4/convolutions.h5",
        "golden.npz": "tests/keras2_files/tensorflow-2.4.4/convolutions.npz",
    }
}
"""The files that exist before the code of a page runs."""

_BLOCK = re.compile(r'^( *)```(\w+)(?: title="([^"]+)")?\n(.*?)^\1```$', flags=re.DOTALL | re.MULTILINE)
"""A block of code; in a list it is indented."""

_NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(\.\d+)?(e[+-]?\d+)?")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, the name of its file if it has a title, its text and its position.

    `indentation` is what stands before each line of the text on the page.
    """

    indentation: str
    language: str
    title: str
    text: str
    start: int
    stop: int


def pages() -> list[Path]:
    """Return the pages with code."""
    return [path for path in sorted(DOCS.rglob("*.md")) if "```" in path.read_text(encoding="utf-8")]


def cases() -> list[Any]:
    """Return the pages as parameters of a test; the slow ones run in `make test-full`."""
    names = {path: path.relative_to(DOCS).as_posix() for path in pages()}
    return [
        pytest.param(path, id=name, marks=[pytest.mark.full] if name in SLOW else []) for path, name in names.items()
    ]


def blocks(text: str) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    return [
        Block(
            indentation=found[1],
            language=found[2],
            title=found[3] or "",
            text=dedent(found[4]),
            start=found.start(4),
            stop=found.end(4),
        )
        for found in _BLOCK.finditer(text)
    ]


class Session:
    """Runs the blocks of a page in the current folder, and keeps the names that they define."""

    def __init__(self, page: str) -> None:
        keras.utils.clear_session()  # layers without a name are numbered from the start
        self.page = page
        self.names: dict[str, Any] = {"__name__": "page"}
        for name, source in GIVEN.get(page, {}).items():
            copy(ROOT / source, name)

    def run(self, block: Block) -> str | None:
        """Run a block and return its output; None if the block is not to be run."""
        if block.title:
            Path(block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(block.text, self.page, "exec"), self.names)  # noqa: S102 - the repository's own text
            return printed.getvalue()
        elif block.language == "sh" and self.page not in TESTED_ELSEWHERE:
            return "".join(command(line) for line in block.text.replace("\\\n", " ").splitlines())
        return None


def command(line: str) -> str:
    """Run a command line of keras3conv and return its output; a comment can state an exit status other than 0."""
    from typer.testing import CliRunner

    from keras3conv.cli.commands import app

    text, _, comment = line.partition("  #")
    words = shlex.split(text)
    if not words or words[0] != "keras3conv":
        return ""
    finished = CliRunner().invoke(app, words[1:])
    expected = re.search(r"exit status (\d+)", comment)
    assert finished.exit_code == (int(expected[1]) if expected else 0), finished.output
    return finished.output


def without_digits(text: str) -> list[str]:
    """Return the lines of a text with numbers replaced by a placeholder and without aligning spaces."""
    lines = (" ".join(_NUMBER.sub("0", line).split()) for line in text.splitlines())
    return [re.sub(r"[-─]{3,}", "---", line) for line in lines if line]


def differences(shown: str, printed: str) -> list[str]:
    """Return the lines of a page that were not printed in this order; "..." matches any lines."""
    lines, place, skipping = without_digits(printed), 0, False
    for line in without_digits(shown):
        if line == "...":
            skipping = True
            continue
        found = next((at for at in range(place, len(lines)) if lines[at] == line), None)
        if found is None or (found != place and not skipping):
            return [f"not printed here: {line}", *lines[place : place + 5]]
        place, skipping = found + 1, False
    return [] if skipping or place == len(lines) else [f"not shown: {lines[place]}"]


def outputs(page: Path) -> Iterator[tuple[Block, str]]:
    """Run a page in the current folder; yield every documented block of output with the real output."""
    session, printed = Session(page.relative_to(DOCS).as_posix()), None
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.language == "text" and printed is not None:
            yield block, printed
            printed = None
        else:
            printed = session.run(block)


@pytest.fixture(autouse=True)
def unregistered() -> Iterator[None]:
    """Remove the rules that a page registers."""
    take_back = keep_rules()
    yield
    take_back()


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Remove the modules that pages import from their folders; other tests have modules of the same names."""
    for name in FROM_ITS_FOLDER:
        sys.modules.pop(name, None)
    yield
    for name in FROM_ITS_FOLDER:
        sys.modules.pop(name, None)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, about its own exporter
@pytest.mark.parametrize("page", cases())
def test_the_code_of_a_page_prints_the_output_shown_on_the_page(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    for shown, printed in outputs(page):
        assert differences(shown.text, printed) == [], printed


def test_the_reference_has_every_public_name() -> None:
    import keras3conv as k3c

    shown = re.findall(r"^::: keras3conv\.(\w+)$", (DOCS / "reference" / "python.md").read_text(), flags=re.MULTILINE)
    assert set(k3c.__all__) - {"Keras3ConvError"} <= set(shown)  # the page has all of `keras3conv.errors`


def test_the_limits_of_a_certificate_are_those_that_every_report_lists() -> None:
    text = (DOCS / "limits.md").read_text()
    for limit in LIMITS:
        assert re.split(r"[.:]", limit)[0] in " ".join(text.split())


def test_the_blocks_of_a_list_are_found() -> None:
    text = '1. First:\n\n    ```sh\n    keras3conv a\n    ```\n\n```python title="a.py"\nb\n    c\n```\n'
    found = [(block.language, block.title, block.text) for block in blocks(text)]
    assert found == [("sh", "", "keras3conv a\n"), ("python", "a.py", "b\n    c\n")]


def test_the_check_detects_an_output_that_is_not_printed() -> None:
    assert differences("a 1.5\n...\nb 2\n", "a 2e-07\nx\ny\nb 3\n") == []
    assert differences("a 1\nb 2\n", "a 1\nx\nb 2\n") != []
    assert differences("a 1\n", "a 1\nb 2\n") == ["not shown: b 0"]
    assert differences("a one\n", "a two\n") != []


def test_the_check_detects_a_command_with_another_exit_status() -> None:
    with pytest.raises(AssertionError):
        command("keras3conv inspect nothing.safetensors")
    assert "nothing.safetensors" in command("keras3conv inspect nothing.safetensors  # exit status 2")


def write(page: Path) -> None:
    """Write the outputs of a page into it, except those that leave lines out."""
    text, moved = page.read_text(encoding="utf-8"), 0
    for block, printed in outputs(page):
        if "..." in block.text.split():
            continue
        lines = [line.rstrip() for line in printed.strip("\n").splitlines()]
        new = indent("\n".join(lines) + "\n", block.indentation)
        text = text[: block.start + moved] + new + text[block.stop + moved :]
        moved += len(new) - (block.stop - block.start)
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    os.environ["COLUMNS"] = "80"
    chosen = [DOCS / name for name in sys.argv[1:]] or pages()
    for one in chosen:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            sys.path.insert(0, folder)
            write(one)
            sys.path.remove(folder)
