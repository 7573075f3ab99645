"""The text that a command prints without `--verbose`, and the columns of its tables."""

import pytest

from keras3conv.errors import Problem
from keras3conv.report import text
from keras3conv.report.limits import LIMITS
from keras3conv.report.report import Report
from keras3conv.report.values import WITHOUT_WEIGHTS, Cell, Plot, Section, Series, Table


def report() -> Report:
    problem = Problem(torch="layer1.bn", keras="layer1/bn", fact="epsilon is 0.001, not 1e-05", fixes=("fix(1)",))
    table = Table(title="Every tensor", columns=("a",), rows=(("weight",),))
    sections = (
        Section(
            name="roundtrip",
            status="passed",
            claim="Same bits.",
            summary="42 tensors",
            tables=(table,),
            facts={"a": "b"},
        ),
        Section(name="float64", status="failed", claim="Same function.", summary="one differs", problems=(problem,)),
    )
    return Report(title="Net", sections=sections, environment={"python": "3.11.7"}, notes=("Seed 0.",))


def test_a_brief_report_begins_with_the_cause_and_leaves_out_the_details_of_what_passed() -> None:
    brief = text.write(report(), brief=True)
    cause, sections = brief.index("layer1.bn  <->  layer1/bn"), brief.index("✓ passed  roundtrip  42 tensors")
    assert brief.index("✗ Failed") < cause < brief.index("epsilon is 0.001") < brief.index("Fix:  fix(1)") < sections
    assert "Seed 0." in brief
    assert "Facts\n  roundtrip, a: b" in brief
    for left_out in ("Same bits.", "Every tensor"):
        assert left_out not in brief
        assert left_out in text.write(report())


@pytest.mark.parametrize("differs", [True, False])
def test_weights_that_were_not_given_are_no_cause_of_a_layer_that_differs(differs: bool) -> None:
    new = Problem(torch="net.py:make", fact="was called without its weights", fixes=("--torch-weights FILE",))
    rule = Problem(torch="fc", keras="fc", fact="the layers are paired by your rule")
    problems, facts = ((rule,) if differs else ()), {WITHOUT_WEIGHTS: "net.py:make"}
    sections = (
        Section(name="structure", status="passed", claim="", summary="2 tensors"),
        Section(name="roundtrip", status="failed", claim="", summary="all differ", problems=(new,), facts=facts),
        Section(name="float64", status="failed" if differs else "passed", claim="", summary="", problems=problems),
    )
    brief = text.write(Report(title="Net", sections=sections), brief=True)
    first = rule if differs else new
    assert brief.index("✗ Failed") < brief.index(first.fact) < brief.index("✓ passed")
    assert "--torch-weights FILE" in brief


def test_a_brief_report_shows_three_of_the_weights_that_differ() -> None:
    names = ("stem", "body", "neck", "head", "last")
    problems = tuple(Problem(torch=name, keras=name, fact=f"{name} differs") for name in names)
    sections = (
        Section(name="structure", status="passed", claim="", summary="5 tensors"),
        Section(name="roundtrip", status="failed", claim="", summary="5 of 5 variables differ", problems=problems),
    )
    made = Report(title="Net", sections=sections)
    brief = text.write(made, brief=True)
    assert "neck differs\n    ... and 2 more" in brief
    assert "head differs" not in brief
    assert "last differs" in text.write(made)
    # A path of the source code says nothing to a user of the package.
    assert "docs/" not in brief
    assert "does not say that the model is good" in brief
    assert f"--verbose lists all {len(LIMITS)} limits" in " ".join(brief.split())
    assert all(limit in " ".join(text.write(made).split()) for limit in LIMITS)


def test_names_in_a_table_are_not_divided_beside_sentences() -> None:
    name, why = "encoder.layers.0.normalization", "a neighbouring layer compensates the whole of this difference " * 2
    rows: tuple[tuple[Cell, ...], ...] = ((name, name.replace(".", "/"), "requires_grad", why),)
    table = Table(title="", columns=("a", "b", "c", "d"), rows=rows)
    section = Section(name="s", status="info", claim="", summary="", tables=(table,))
    lines = str(Report(title="t", sections=(section,))).splitlines()
    assert any(name in line and name.replace(".", "/") in line and "requires_grad" in line for line in lines)
    assert max(map(len, lines)) <= text.WIDTH


def passed(*tables: Table) -> Report:
    outputs = Section(name="outputs", status="passed", claim="", summary="1e-07 of the scale", tables=tables)
    notes = ("inputs: random numbers of shape (2, 3)", f"net.pt: 12 bytes, sha256 {'ab' * 32}", "Seed 0.")
    environment = {"date": "2026-01-02 03:04 UTC", "python": "3.11.7", "torch": "2.9.0", "platform": "Linux"}
    return Report(title="Net", sections=(outputs,), environment=environment, notes=notes)


@pytest.mark.parametrize("brief", [True, False])
def test_a_pass_states_date_worst_error_inputs_versions_and_digests_before_the_sections(brief: bool) -> None:
    banner, _, rest = text.write(passed(), brief=brief).partition("\n\n")
    assert banner.splitlines() == [
        "Net",
        "✓ Passed: 1 passed",
        "  date               2026-01-02 03:04 UTC",
        "  output difference  1e-07 of the scale",
        "  inputs             inputs: random numbers of shape (2, 3)",
        "  versions           python 3.11.7, torch 2.9.0",
        f"  source 1           net.pt: 12 bytes, sha256 {'ab' * 32}",
    ]
    assert "Notes\n  Seed 0." in rest
    assert "random numbers" not in rest  # nothing is said twice


def test_equal_rows_are_folded_and_the_verdict_is_the_first_column() -> None:
    equal: tuple[tuple[Cell, ...], ...] = tuple((f"layer{place}", 1e-5, "equal") for place in range(30))
    rows = (*equal, ("norm", 1e-3, "differs"))
    printed = str(passed(Table(title="Fields", columns=("torch", "value", "verdict"), rows=rows)))
    assert "verdict  torch  value" in printed
    assert "differs  norm   0.001" in printed
    assert "layer7" not in printed
    assert "... 30 rows equal" in printed


@pytest.mark.parametrize("width", [60, 80, 110])
def test_a_report_is_not_wider_than_its_console(width: int) -> None:
    cause = (
        "Keras skips the steps that are masked as padding in lstm, and repeats its output there; torch does not " * 3
    )
    problem = Problem(torch="lstm", keras="lstm", fact=cause, fixes=("mask_zero=False",))
    plot = Plot(title="t", labels=("a",) * 300, series=(Series(name="noise floor", values=(1.0,) * 300),), unit=cause)
    failed = Section(
        name="float64",
        status="failed",
        claim=cause,
        summary=cause,
        problems=(problem,),
        facts={"a": cause},
        plots=(plot,),
    )
    made = Report(title="Net", sections=(failed,), notes=(cause,), environment={"date": "today", "python": "3.11.7"})
    for brief in (True, False):
        assert max(map(len, text.write(made, brief=brief, width=width).splitlines())) <= width


def test_a_full_report_counts_all_gradients_that_differ_and_shows_twenty() -> None:
    problems = tuple(Problem(torch=f"part{'x' * number}.weight", fact=f"differs by {number}") for number in range(58))
    section = Section(name="gradients", status="failed", claim="", summary="58 differ", problems=problems)
    shown = text.write(Report(title="Certificate", sections=(section,)))
    _, _, listed = shown.partition("Problems:")
    assert listed.count("differs by") == 20
    assert "... and 38 more" in shown


def test_the_list_of_problems_has_no_number_beside_that_of_the_summary() -> None:
    problems = tuple(Problem(torch=path, fact="differs") for path in ("factory", "a", "b"))
    section = Section(name="roundtrip", status="failed", claim="", summary="2 of 4 variables differ", problems=problems)
    shown = text.write(Report(title="Certificate", sections=(section,)))
    assert "2 of 4 variables differ" in shown
    assert "  Problems:\n" in shown
    assert "3 problems" not in shown
