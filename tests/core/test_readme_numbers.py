"""The numbers in the README are those in the tables that the benchmarks wrote."""

from pathlib import Path

import pytest

from docs.tools import readme


def test_the_numbers_in_the_readme_are_current() -> None:
    text = readme.README.read_text(encoding="utf-8")
    assert readme.with_numbers(text) == text


def test_the_check_detects_an_outdated_number() -> None:
    text = readme.README.read_text(encoding="utf-8")
    outdated = text.replace(readme.size(), "0.1 GB")
    assert outdated != text
    assert readme.with_numbers(outdated) == text


def test_the_time_of_the_tests_is_the_measured_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readme, "ROOT", tmp_path)
    monkeypatch.setattr(readme, "TEST_TIME", tmp_path / "benchmarks" / "TESTS.md")
    assert readme.time_of_tests() == "takes a time that `python -m docs.tools.time_of_tests` measures"
    readme.TEST_TIME.parent.mkdir()
    rows = (
        "| command | minutes | processors | date |",
        "| --- | --- | --- | --- |",
        "| `make test` | 14 | 2 | today |",
    )
    readme.TEST_TIME.write_text("\n".join(rows))
    assert readme.time_of_tests() == "took 14 minutes on 2 processors ([measured](benchmarks/TESTS.md))"
