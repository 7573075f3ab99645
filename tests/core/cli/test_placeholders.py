"""A word of a suggested command for which a user has to write a name is refused as that."""

from pathlib import Path

import pytest

from tests.support.cli_runs import assert_refused, run


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("transfer", "net.safetensors", "net.keras", "-o", "FILE"), "FILE is not a name, but stands for one: write"),
        (("convert", "net.py:make", "--inputs", "FILE.npz", "-o", "out"), "write your file of inputs in its place"),
        (("convert", "model.h5", "-o", "FOLDER"), "write a folder for the files in its place"),
        (("validate", "TORCH", "net.keras"), "write your torch model in its place"),
        (("validate", "net.pt", "net.keras", "--import", "FILE.py"), "write your file of code in its place"),
    ],
)
def test_a_placeholder_is_refused_with_the_name_to_write(
    command: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(run(*command), "InputError: ", said)


def test_a_file_with_the_name_of_a_placeholder_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("FILE").write_text("no model")
    assert "stands for one" not in run("inspect", "FILE").stderr
