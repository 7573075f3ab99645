"""A report shows a cause and its lines to paste once, and refers to them from the other sections."""

import pytest

from keras3conv.errors import Problem
from keras3conv.report.report import Report
from keras3conv.report.values import Section

LINE = "nn.LayerNorm(4, eps=0.001)  # torch: norm"
OTHER_LINE = "epsilon=1e-05  # Keras: norm"
CAUSE = "epsilon is 1e-05 in torch and 0.001 in Keras"


def section(name: str, *problems: Problem) -> Section:
    return Section(name=name, status="failed" if problems else "passed", claim="", summary="", problems=problems)


def problem(fact: str, *fixes: str, layer: str = "norm") -> Problem:
    return Problem(torch=layer, keras=layer, fact=fact, fixes=fixes)


def report(*sections: Section) -> Report:
    return Report(title="a <-> b", sections=sections)


IN_MANY = report(
    section("hyperparameters", problem("eps is 1e-05, epsilon is 0.001", "eps=0.001  # torch: norm", OTHER_LINE)),
    section("float64", problem(f"the first layer that differs\n      {CAUSE}", LINE, OTHER_LINE)),
    section("activations", problem(f"in isolation it differs\n      {CAUSE}", LINE, OTHER_LINE)),
)


@pytest.mark.parametrize("written", [str(IN_MANY), IN_MANY.to_markdown(), IN_MANY.to_html()])
def test_a_cause_and_its_fix_are_shown_once(written: str) -> None:
    assert written.count(LINE) == written.count(OTHER_LINE) == 1
    assert written.count(CAUSE) == 1
    assert written.count("The cause and its fix stand at the top of the report.") == 2
    assert written.count("The fix stands at the top of the report.") == 1
    assert "eps is 1e-05, epsilon is 0.001" in written, "what another proof found stays"


def test_other_fixes_stay_where_they_are_and_are_referred_to_by_the_section() -> None:
    other = problem("another order", "plan = plan.pair('a', 'b')", layer="head")
    written = str(report(section("roundtrip", other), section("float64", problem(CAUSE, LINE), other)))
    assert written.count("plan = plan.pair('a', 'b')") == 1
    assert "The fix stands at the top of the report and in the section roundtrip." in written


def test_a_report_keeps_all_fixes_as_data() -> None:
    assert all(one.fixes for part in Report.from_json(IN_MANY.to_json()).sections for one in part.problems)
