"""The text that a command prints without `--verbose`, and the columns of its tables."""

from keras3conv.errors import Problem
from keras3conv.report import text
from keras3conv.report.report import Report
from keras3conv.report.values import Cell, Section, Table


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
    cause, claim = brief.index("The cause"), brief.index("Same function.")
    assert cause < brief.index("layer1.bn  <->  layer1/bn", cause) < brief.index("Fix:  fix(1)", cause) < claim
    assert "✓ passed  roundtrip  42 tensors" in brief
    assert "Seed 0." in brief
    assert "Facts\n  roundtrip, a: b" in brief
    for left_out in ("Same bits.", "Every tensor", "python 3.11.7"):
        assert left_out not in brief
        assert left_out in text.write(report())


def test_names_in_a_table_are_not_divided_beside_sentences() -> None:
    name, why = "encoder.layers.0.normalization", "a neighbouring layer compensates the whole of this difference " * 2
    rows: tuple[tuple[Cell, ...], ...] = ((name, name.replace(".", "/"), "requires_grad", why),)
    table = Table(title="", columns=("a", "b", "c", "d"), rows=rows)
    section = Section(name="s", status="info", claim="", summary="", tables=(table,))
    lines = str(Report(title="t", sections=(section,))).splitlines()
    assert any(name in line and name.replace(".", "/") in line and "requires_grad" in line for line in lines)
    assert max(map(len, lines)) <= text.WIDTH
