"""The progress of a command on a terminal."""

import sys

import pytest


def test_the_step_that_runs_is_shown_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from keras3conv.cli.progress import shown
    from keras3conv.steps import step

    with shown(verbose=False, quiet=False), step("probe"):
        pass
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with shown(verbose=False, quiet=False), step("probe"):
        pass
    assert "probe" in capsys.readouterr().err
