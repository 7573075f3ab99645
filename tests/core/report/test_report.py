import re
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from keras3conv.errors import InputError, Problem, ProofError
from keras3conv.report.report import Report, current_environment
from keras3conv.report.values import NAMED, Plot, Section, Series, Status, Table


def section(name: str, status: Status) -> Section:
    return Section(
        name=name,
        status=status,
        claim="Both compute the same.",
        summary=f"{name} is done",
        reason="onnxruntime is not installed" if status == "skipped" else "",
        problems=(Problem(fact=f"{name} differs", torch="fc", keras="head"),) if status == "failed" else (),
    )


def report(*statuses: Status) -> Report:
    parts = tuple(section(f"{status}{place}", status) for place, status in enumerate(statuses))
    return Report(title="Net (torch) and net (keras)", sections=parts)


def test_a_skipped_section_needs_a_reason() -> None:
    with pytest.raises(ValueError, match=r"section 'onnx' was skipped, so it needs a reason"):
        Section(name="onnx", status="skipped", claim="", summary="")


def test_a_failed_section_needs_a_problem() -> None:
    with pytest.raises(ValueError, match=r"section 'float64' failed, so it needs a problem"):
        Section(name="float64", status="failed", claim="", summary="")


def test_an_unknown_status_is_refused() -> None:
    with pytest.raises(InputError, match="must be passed or failed or unconfirmed or skipped or info, but is 'green'"):
        Section(name="float64", status="green", claim="", summary="")  # type: ignore[arg-type]


def test_two_sections_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match="two sections have the name 'a'"):
        Report(title="", sections=(section("a", "passed"), section("a", "info")))


@pytest.mark.parametrize(
    ("statuses", "ok", "verdict", "tally"),
    [
        (("passed",), True, "Passed", "1 passed"),
        (("passed", "skipped", "info"), True, "Passed", "1 passed, 1 skipped, 1 info"),
        (("passed", "failed", "passed"), False, "Failed", "2 passed, 1 failed"),
        (("skipped", "skipped"), False, "Nothing proven", "2 skipped"),
        (("info",), False, "Nothing proven", "1 info"),
        ((), False, "Nothing proven", "no sections"),
    ],
)
def test_a_report_is_ok_if_at_least_one_section_passed_and_none_failed(
    statuses: tuple[Status, ...], ok: bool, verdict: str, tally: str
) -> None:
    judged = report(*statuses)
    assert (judged.ok, judged.verdict, judged.tally) == (ok, verdict, tally)


def test_a_report_without_a_proof_that_was_asked_by_name_does_not_pass() -> None:
    missing = replace(section("onnx", "skipped"), facts={NAMED: "so the verdict is not Passed"})
    judged = Report(title="Net and net", sections=(section("structure", "passed"), missing))
    assert (judged.ok, judged.status, judged.verdict) == (False, "skipped", "Not proven")
    assert judged.tally == "1 passed, 1 skipped"
    with pytest.raises(ProofError, match="Net and net is not proven: a proof that was asked for did not run"):
        judged.raise_if_failed()
    assert Report.from_json(judged.to_json()) == judged
    failed = replace(judged, sections=(*judged.sections, section("float64", "failed")))
    assert failed.verdict == "Failed"


def test_a_report_that_is_ok_raises_nothing() -> None:
    report("passed", "skipped").raise_if_failed()


def test_a_failed_report_raises_the_problems_of_every_failed_section_with_float64_first() -> None:
    problem = Problem(fact="would keep its initial value", keras="bn/mean", fixes=('plan.pair("bn.mean", "bn/mean")',))
    lossless = Section(name="lossless", status="failed", claim="", summary="", problems=(problem,))
    judged = Report(
        title="Net and net", sections=(lossless, section("passing", "passed"), section("float64", "failed"))
    )
    with pytest.raises(ProofError) as caught:
        judged.raise_if_failed()
    assert str(caught.value) == (
        "2 proofs failed in Net and net: lossless, float64\n"
        "  fc  <->  head\n"
        "      float64 differs\n"
        "  bn/mean  (keras)  would keep its initial value\n"
        'Fix:  plan.pair("bn.mean", "bn/mean")'
    )


def test_a_report_in_which_everything_was_skipped_raises_the_reasons() -> None:
    with pytest.raises(ProofError) as caught:
        report("skipped", "info").raise_if_failed()
    assert str(caught.value) == (
        "nothing is proven in Net (torch) and net (keras): no section passed\n"
        "  skipped0 was skipped: onnxruntime is not installed"
    )


def test_a_section_is_found_by_its_name() -> None:
    assert report("passed", "info").section("info1").status == "info"


def test_an_unknown_section_is_refused_with_the_known_names() -> None:
    with pytest.raises(KeyError, match="the report has no section 'x'; its sections are passed0, info1"):
        report("passed", "info").section("x")


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(InputError, match="row 1 of the table 'layers' has 1 cells, but the table has 2 columns"):
        Table(title="layers", columns=("a", "b"), rows=((1, 2), (3,)))


def test_a_cell_that_is_not_a_plain_value_is_refused() -> None:
    with pytest.raises(InputError, match="is of the type tuple"):
        Table(columns=("shape",), rows=(((1, 2),),))  # type: ignore[arg-type]


def test_the_scalars_of_numpy_become_plain_numbers() -> None:
    table = Table(columns=("a", "b", "c"), rows=((np.float32(0.5), np.int64(3), np.float64("nan")),))  # type: ignore[arg-type]
    assert [type(cell) for cell in table.rows[0]] == [float, int, float]
    assert table.rows[0][:2] == (0.5, 3)


def test_a_column_is_numeric_if_it_holds_numbers_and_gaps_only() -> None:
    rows = ((1, None, "x", True, 1), (2.5, None, "y", False, "2"))
    table = Table(columns=("number", "empty", "text", "truth", "mixed"), rows=rows)
    assert [table.is_numeric(place) for place in range(5)] == [True, False, False, False, False]


def test_a_row_fails_by_its_index_or_by_the_word_failed() -> None:
    table = Table(columns=("layer", "status"), rows=(("a", "passed"), ("b", "failed"), ("c", "")), failed=(2,))
    assert [table.has_failed(place) for place in range(3)] == [False, True, True]
    assert table.failures == 2


def test_a_failed_index_out_of_range_is_refused() -> None:
    with pytest.raises(InputError, match="marks index 1 as failed, but has only 1 entries"):
        Table(columns=("layer",), rows=(("a",),), failed=(1,))
    with pytest.raises(InputError, match="marks index -1 as failed, but has only 1 entries"):
        Plot(title="", labels=("a",), series=(), unit="", failed=(-1,))


def test_a_series_of_another_length_is_refused() -> None:
    with pytest.raises(InputError, match="the series 's' of the plot 'depth' has 1 values for 2 labels"):
        Plot(title="depth", labels=("a", "b"), series=(Series(name="s", values=(1.0,)),), unit="")


def test_a_negative_value_of_a_series_is_refused() -> None:
    with pytest.raises(InputError, match="the series 's' of a plot has a negative value"):
        Series(name="s", values=(None, -1e-9))


def test_the_environment_names_versions_and_imports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    before = set(sys.modules)
    found = current_environment()
    assert found["python"] == ".".join(str(part) for part in sys.version_info[:3])
    assert found["numpy"] == np.__version__
    assert int(found["processors"]) > 0
    assert "KERAS_BACKEND" not in found
    assert not {"torch", "keras", "jax", "tensorflow", "onnx", "onnxruntime"} & (set(sys.modules) - before)


def test_the_environment_names_the_backend_once_keras_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = SimpleNamespace(backend=SimpleNamespace(backend=lambda: "jax"))
    monkeypatch.setitem(sys.modules, "keras", fake)
    assert current_environment()["KERAS_BACKEND"] == "jax"


def test_the_environment_has_the_date_that_a_reproducible_build_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert current_environment()["date"] == "1970-01-02 00:00 UTC"
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", current_environment()["date"])
