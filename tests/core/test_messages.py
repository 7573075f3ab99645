"""Repeated layers are one problem of a message; nouns have their articles, and numbers their nouns."""

import ast
import re
from itertools import pairwise
from pathlib import Path

from keras3conv.errors import Problem
from keras3conv.messages import collapse_problems, how_many_differ, lay_out, with_article

ROOT = Path(__file__).resolve().parents[2]


def test_problems_of_repeated_layers_are_one_problem() -> None:
    problems = [Problem(torch=f"{place}.conv", fact="matched nothing", fixes=(f"fix {place}",)) for place in range(3)]
    assert collapse_problems(problems) == [Problem(torch="{0..2}.conv", fact="matched nothing", fixes=("fix 0",))]


def test_a_line_to_paste_that_is_the_same_for_repeated_layers_names_all_of_them() -> None:
    fixes = [
        (f"padding=0  # c{number}, after ZeroPad2d(1)", f"epsilon={number}  # c{number}") for number in range(1, 6)
    ]
    problems = [Problem(torch=f"c{number}", fact="f", fixes=lines) for number, lines in enumerate(fixes, 1)]
    (joined,) = collapse_problems(problems)
    assert joined.fixes == ("padding=0  # c1, c2, c3 and 2 more, after ZeroPad2d(1)", "epsilon=1  # c1")
    (two,) = collapse_problems(
        [Problem(torch=f"c{number}", fact="f", fixes=(f"x=1  # c{number}",)) for number in (1, 2)]
    )
    assert two.fixes == ("x=1  # c1, c2",)


def test_a_noun_has_its_article() -> None:
    for noun in ("int", "LSTM", "RNN", "HDF5", "UpSampling2D", "Identity", "unindexed value", "ELU", "onnx model"):
        assert with_article(noun) == f"an {noun}"
    for noun in ("tuple", "GRU", "UNet", "unit", "ReLU", "uint8", "NoneType", "LayerNorm", "torch model"):
        assert with_article(noun) == f"a {noun}"


def counted_without_care(code: str) -> list[str]:
    """Return the texts in code that put a plural after `len(...)`, which reads "1 pairs" for a single one."""
    nouns = r" (\w+ )?(pairs|calls|tensors|variables|outputs|files|differences|layers|mappings)\b"
    found = []
    for node in ast.walk(ast.parse(code)):
        for value, text in pairwise(node.values if isinstance(node, ast.JoinedStr) else ()):
            number = ast.unparse(value.value) if isinstance(value, ast.FormattedValue) else ""
            said = text.value if isinstance(text, ast.Constant) and isinstance(text.value, str) else ""
            if number.startswith("len(") and re.match(nouns, said):
                found.append(f"{{{number}}}{said}")
    return found


def test_a_report_counts_one_thing_in_the_singular() -> None:
    assert how_many_differ(1, 1, "output") == "1 of 1 output differs"
    assert how_many_differ(2, 3, "output") == "2 of 3 outputs differ"
    assert counted_without_care('f"found in {len(pairs)} layer calls"') == ["{len(pairs)} layer calls"]
    for folder in ("validators", "keras3conv/workflows", "keras3conv/report"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            assert counted_without_care(path.read_text(encoding="utf-8")) == [], path


def test_one_line_makes_all_edits_of_a_plan_that_name_different_layers() -> None:
    pairs = [("c1", "a"), ("c2", "b"), ("c3", "a")]  # no layer is left for c3
    problems = [
        Problem(
            torch=torch,
            fact="f",
            fixes=(f'plan = plan.pair("{torch}", "{keras}")', f'plan = plan.ignore("{torch}", "r")'),
        )
        for torch, keras in pairs
    ]
    problems += [Problem(keras="a", fact="f", fixes=('plan = plan.pair("c1", "a")', 'plan = plan.ignore("a", "r")'))]
    problems += [Problem(keras="c3", fact="f", fixes=('plan = plan.ignore("c3", "r", side="keras")',))]
    line = 'plan = plan.pair("c1", "a").pair("c2", "b").ignore("c3", "r", side="keras")'
    assert lay_out("h", problems).endswith(f'\nFix:  {line}     or     plan = plan.ignore("c1", "r")')
    assert lay_out("h", problems, limit=1).endswith(
        '\nFix:  plan = plan.pair("c1", "a")     or     plan = plan.ignore("c1", "r")'
    )


def test_a_line_that_is_no_edit_of_a_plan_stands_beside_the_edits() -> None:
    other = Problem(torch="own", fact="f", fixes=("k3c.register(RULE)",))
    edits = [Problem(torch=name, fact="f", fixes=(f'plan = plan.ignore("{name}", "r")',)) for name in ("x", "y")]
    line = 'plan = plan.ignore("x", "r").ignore("y", "r")'
    assert lay_out("h", [other, *edits]).endswith(f"\nFix:  k3c.register(RULE)     and     {line}")
    assert lay_out("h", [*edits, other]).endswith(f"\nFix:  {line}     and     k3c.register(RULE)")
