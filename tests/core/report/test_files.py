import hashlib
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from keras3conv.errors import FileError, InputError, Problem
from keras3conv.report.report import Report
from keras3conv.report.values import Section, Status

REPORT = Report(title="Net", sections=(Section(name="lossless", status="passed", claim="c", summary="s"),))


@pytest.mark.parametrize(
    ("name", "start"),
    [("a.html", "<!doctype html>"), ("a.HTML", "<!doctype"), ("a.md", "# Net"), ("a.json", "{"), ("a.txt", "Net")],
)
def test_the_suffix_chooses_the_form(tmp_path: Path, name: str, start: str) -> None:
    REPORT.save(tmp_path / name)
    assert (tmp_path / name).read_text(encoding="utf-8").startswith(start)


def test_a_saved_report_is_described_by_size_and_digests(tmp_path: Path) -> None:
    written = REPORT.save(tmp_path / "a.json")
    content = (tmp_path / "a.json").read_bytes()
    assert written.path == str(tmp_path / "a.json")
    assert written.size == len(content)
    assert written.sha256 == hashlib.sha256(content).hexdigest()
    assert written.md5 == hashlib.md5(content).hexdigest()
    assert Report.from_json(content.decode()) == REPORT


@pytest.mark.parametrize(("name", "said"), [("a.pdf", ".pdf"), ("a", "missing")])
def test_an_unknown_suffix_is_refused_with_the_known_ones(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(InputError, match=rf"its suffix must be one of \.html, \.md, \.json, \.txt, but is {said}"):
        REPORT.save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the folder .* does not exist"):
        REPORT.save(tmp_path / "none" / "a.md")


@pytest.mark.parametrize("fault", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failed_save_leaves_the_old_file_untouched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    target = tmp_path / "a.md"
    REPORT.save(target)
    old = target.read_text()

    def fail(descriptor: int) -> None:
        raise fault

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises((FileError, KeyboardInterrupt)):
        REPORT.save(target)
    assert target.read_text() == old
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("suffix", [".html", ".md", ".json", ".txt"])
@pytest.mark.parametrize("status", get_args(Status))
def test_a_report_replaces_an_older_report_and_no_other_file(tmp_path: Path, suffix: str, status: Status) -> None:
    target = tmp_path / f"a{suffix}"
    problems = (Problem(fact="f"),) if status == "failed" else ()
    section = Section(name="one", status=status, claim="c", summary="s", reason="r", problems=problems)
    replace(REPORT, sections=(section,), title="long " * 40).save(target)
    REPORT.save(target)
    REPORT.save(tmp_path / f"b{suffix}")
    assert target.read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    target.write_text('# Notes\n\n{"format": 3}\n')
    with pytest.raises(FileError, match="exists and is not a report: only a report is replaced; choose another name"):
        REPORT.save(target)
    assert target.read_text().startswith("# Notes")


def test_a_save_replaces_the_file_and_keeps_its_mode(tmp_path: Path) -> None:
    target = tmp_path / "a.md"
    target.touch()
    target.chmod(0o640)
    REPORT.save(target)
    assert target.read_text(encoding="utf-8") == REPORT.to_markdown()
    assert target.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [target]
