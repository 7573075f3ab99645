"""The overview of a sweep: totals, differences, and its forms."""

import json
import math
from dataclasses import replace

import pytest

from keras3conv.errors import InputError
from keras3conv.report.html import write_overview
from keras3conv.report.overview import Overview, Row, StepResult, read_rows
from keras3conv.report.overview_text import row_line, to_markdown, to_text
from keras3conv.writing.digests import WrittenFile

PASSED = Row(
    name="net",
    status="passed",
    outcome="7 passed",
    proofs=(StepResult(name="outputs", status="passed"), StepResult(name="float64", status="passed")),
    files=(WrittenFile(path="tasks/net/x.h5", size=3, sha256="ab", md5="cd"),),
    report="tasks/net/report.html",
    digests={"/a": (1, 2, "ef")},
    seconds=1.5,
)
CRASHED = Row(
    name="bad", status="crashed", outcome="it died", message="<b>Segmentation</b> & fault", log="tasks/bad/log.txt"
)
WAITING = Row(name="later", status="not run")


def overview(*rows: Row, earlier: tuple[Row, ...] | None = None) -> Overview:
    return Overview(name="<zoo>", rows=rows, earlier=earlier, environment={"python": "3"})


def test_a_row_survives_its_json() -> None:
    assert Row.from_json(PASSED.to_json()) == PASSED
    assert "\n" not in PASSED.to_json()


@pytest.mark.parametrize("line", ["{", "[]", '{"name": "x"}', PASSED.to_json().replace('"passed"', '"fine"', 1)])
def test_a_line_that_is_not_a_row_is_refused_with_its_line_number(line: str) -> None:
    with pytest.raises(InputError, match="results, line 2 cannot be read: the line is "):
        read_rows([PASSED.to_json(), line], "results")


def test_a_later_row_replaces_an_earlier_row_of_the_same_task() -> None:
    later = replace(PASSED, status="failed")
    assert read_rows([PASSED.to_json(), CRASHED.to_json(), later.to_json()], "x") == (later, CRASHED)


def test_a_sweep_passes_only_if_every_task_passed() -> None:
    assert overview(PASSED).ok
    assert not overview().ok
    assert [overview(*rows).status for rows in ((PASSED,), (PASSED, CRASHED), (PASSED, WAITING))] == [
        "passed",
        "failed",
        "skipped",
    ]


def test_the_first_failure_is_the_first_proof_that_failed() -> None:
    proofs = (StepResult(name="structure", status="passed"), StepResult(name="float64", status="failed"))
    row = Row(name="x", status="failed", proofs=proofs, steps=(StepResult(name="validate", status="failed"),))
    assert row.first_failure == "float64"
    assert (PASSED.first_failure, CRASHED.first_failure, WAITING.first_failure) == ("", "crashed", "")


def test_a_proof_that_no_longer_passes_is_worse_although_the_task_passes() -> None:
    now = replace(
        PASSED, proofs=(StepResult(name="outputs", status="passed"), StepResult(name="float64", status="skipped"))
    )
    (difference,) = overview(now, earlier=(PASSED,)).differences
    assert (difference.change, difference.before) == ("worse", "passed, with float64")
    (back,) = overview(PASSED, earlier=(now,)).differences
    assert back.change == "better"


def test_a_task_that_was_not_run_did_not_change() -> None:
    assert overview(replace(WAITING, name="net"), earlier=(PASSED,)).differences == ()


def test_tasks_that_got_worse_come_first_in_every_format() -> None:
    found = overview(replace(PASSED, status="failed", outcome="float64: 1e-3"), CRASHED, earlier=(PASSED,))
    assert to_text(found).startswith("worse: net\n")
    assert "  see results/tasks/bad/log.txt" in to_text(found, "results").splitlines()[-1]
    page, markdown = write_overview(found), to_markdown(found)
    assert page.index("Worse than before") < page.index('class="verdict')
    assert markdown.index("Worse than before") < markdown.index("## What failed first")


def test_the_markdown_has_each_line_to_paste_once_with_its_tasks() -> None:
    message = "AlignmentError: x\nFix:  hints = { a = 1 }\nor    ignore = { a = 2 }\nProofError: y\n  Fix:  eps=1\nmore"
    rows = [replace(CRASHED, name=name, message=message) for name in ("a", "b")]
    text = to_markdown(overview(PASSED, *rows, CRASHED))
    fence = "```"
    assert (
        "## Lines to paste\n\n[a](tasks/bad/log.txt), [b](tasks/bad/log.txt):\n\n"
        f"{fence}text\nFix:  hints = {{ a = 1 }}\nor    ignore = {{ a = 2 }}\nFix:  eps=1\n{fence}\n\n## All tasks"
    ) in text
    assert "## Lines to paste" not in to_markdown(overview(PASSED, CRASHED))


def test_the_text_counts_the_tasks_by_what_failed_first_in_them() -> None:
    assert "\nthe first thing that failed: crashed (1 task)\n" in to_text(overview(PASSED, CRASHED))


def test_the_page_escapes_the_text_of_tasks_and_loads_nothing() -> None:
    page = write_overview(overview(PASSED, CRASHED))
    assert "<b>Segmentation" not in page
    assert "&lt;b&gt;Segmentation&lt;/b&gt; &amp; fault" in page
    assert 'href="tasks/net/report.html"' in page
    assert "src=" not in page
    assert "://" not in page


def test_a_row_is_one_line_with_its_number() -> None:
    assert row_line(PASSED, 3, 120) == "  3/120  ✓ passed         net  1.5 s  7 passed"


def test_the_json_of_the_overview_has_rows_totals_and_differences() -> None:
    data = json.loads(overview(PASSED, CRASHED, earlier=(PASSED,)).to_json())
    assert data["totals"] == {"passed": 1, "crashed": 1}
    assert [row["name"] for row in data["rows"]] == ["net", "bad"]
    assert data["differences"] == [{"name": "bad", "change": "new", "before": "-", "now": "crashed: it died"}]


def test_a_row_without_finite_numbers_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="JSON"):
        replace(PASSED, seconds=math.nan).to_json()
