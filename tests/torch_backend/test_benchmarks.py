"""The benchmarks: each prints its help."""

import sys

import pytest

from benchmarks.__main__ import main, scripts


@pytest.mark.parametrize("name", scripts())
def test_a_benchmark_prints_its_help(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [])  # `main` replaces it
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert "usage: " in capsys.readouterr().out
