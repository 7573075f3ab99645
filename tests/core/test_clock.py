"""No result depends on the clock: few files read it, and no test has a limit of seconds that a slow machine exceeds."""

import re
from pathlib import Path

import pytest

from tests.core.test_project import PACKAGE, ROOT, assert_none, sources

READS = re.compile(r"\b(?:monotonic|perf_counter|process_time|thread_time|time\.time|timeit)(?:_ns)?\b")
LIMITS = re.compile(r"\b(?:timeout|deadline)=(?!None\b)")

MEASURED = {
    "report/stages.py": "the seconds of a stage are printed",
    "steps.py": "the seconds of a step are printed",
    "workflows/sweep/process.py": "the time limit of a task, which the user states",
    "workflows/sweep/run.py": "the table is written again after some seconds",
    "workflows/sweep/checks.py": "code that is imported may never end",
    "frameworks/processes.py": "another process may never end",
    "formats/safe/hdf5_reader.py": "another process that does not end is killed",
    "validators/onnx/compare_files.py": "the time limit of a run, which the user states",
}
"""The files of the package that read the clock, and why the proofs and causes do not depend on it."""

TRIED = {
    "support/guarded.py": "the processor time of a fixed computation is the unit",
    "support/fuzzing.py": "`make fuzz` goes on for the time that it is given",
    "core/writing/test_outputs.py": "the moment of a kill is random, and every moment is right",
    "core/report/test_stages.py": "it replaces the clock by a counter",
    "core/test_clock.py": "this file",
}
"""The tests that read the clock, and why a slow machine does not change what they find."""


def readers(paths: list[Path], root: Path, known: dict[str, str]) -> list[str]:
    """Return the files that read the clock, or limit a time, and are not known."""
    names = {path.relative_to(root).as_posix(): path.read_text() for path in paths}
    return [name for name, text in names.items() if name not in known and (READS.search(text) or LIMITS.search(text))]


@pytest.mark.slow
def test_no_proof_and_no_search_reads_the_clock() -> None:
    assert_none(readers(sources(), PACKAGE, MEASURED))


def test_no_test_has_a_limit_of_seconds() -> None:
    assert_none(readers(sorted((ROOT / "tests").rglob("*.py")), ROOT / "tests", TRIED))


@pytest.mark.parametrize(
    "line", ["from time import monotonic", "start = time.time()", "process.wait(timeout=5)", "perf_counter_ns()"]
)
def test_the_check_detects_a_file_that_reads_the_clock(line: str, tmp_path: Path) -> None:
    (tmp_path / "search.py").write_text(line)
    assert readers([tmp_path / "search.py"], tmp_path, {}) == ["search.py"]
