"""Run a command of the command line in this process, and check that it was refused."""

from pathlib import Path

from typer.testing import CliRunner, Result

from keras3conv.cli.commands import app


def run(*arguments: str | Path) -> Result:
    """Return the result of a command with these arguments."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def assert_refused(result: Result, *words: str, status: int = 2) -> None:
    """Check that a command ended with a status, without output, and with these words in its message."""
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr
