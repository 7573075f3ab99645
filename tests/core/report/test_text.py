"""Reports as text and Markdown."""

import io
import math
import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from keras3conv.errors import Problem
from keras3conv.report.cells import show, visible
from keras3conv.report.markdown import escape
from keras3conv.report.report import Report
from keras3conv.report.text import write
from keras3conv.report.values import IN_TRAINING, NOT_CONVERTED, UNLIKE, Cell, Plot, Section, Series, Table
from keras3conv.writing.digests import WrittenFile


def sample() -> Report:
    rows = (("stem.conv", "stem/conv", "passed", 2.34567e-16, 432), ("layer1.bn", "layer1/bn", "failed", None, 16))
    table = Table(title="Every layer", columns=("torch", "keras", "status", "error", "values"), rows=rows)
    values = (2e-16, 0.0, None, math.nan, 4e-5)
    plot = Plot(
        title="Error along the depth",
        labels=("a", "b", "c", "d", "e"),
        series=(Series(name="float64", values=values), Series(name="noise floor", values=(1e-7,) * 5)),
        unit="relative error",
    )
    problem = Problem(torch="layer1.bn", keras="layer1/bn", fact="epsilon is 0.001, not 1e-05", fixes=("fix(1)",))
    sections = (
        Section(name="lossless", status="passed", claim="Same bits.", summary="42 tensors", facts={"values": "1,024"}),
        Section(
            name="structural",
            status="failed",
            claim="Same function.",
            summary="differs at layer1.bn",
            tables=(table,),
            plots=(plot,),
            problems=(problem,),
        ),
        Section(name="onnx", status="skipped", claim="", summary="not run", reason="onnxruntime is not installed"),
        Section(name="alignment", status="info", claim="", summary="21 pairs"),
    )
    file = WrittenFile(path="net.weights.h5", size=1234, sha256="ab" * 32, md5="cd")
    return Report(
        title="Net (torch) and net (keras)",
        sections=sections,
        files=(file,),
        environment={"python": "3.11.7", "numpy": "2.4.0"},
        notes=("Seed 0.",),
    )


TEXT = """\
Net (torch) and net (keras)
✗ Failed: 1 passed, 1 failed, 1 skipped, 1 info
    layer1.bn  <->  layer1/bn
        epsilon is 0.001, not 1e-05
  Fix:  fix(1)

  ✓ passed   lossless    42 tensors
  ✗ failed   structural  differs at layer1.bn
  – skipped  onnx        not run: onnxruntime is not installed
  · info     alignment   21 pairs

  versions  python 3.11.7
  files     1 file, with digests below

✓ lossless
  Same bits.
  values  1,024

✗ structural
  Same function.
  Problem:
    layer1.bn  <->  layer1/bn
        epsilon is 0.001, not 1e-05
  The fix stands at the top of the report.

  Error along the depth (relative error, log scale from 2e-16 to 4e-05)
    float64      ▁· ×█
    noise floor  ▆▆▆▆▆
    ·: a difference of zero (1 of 5 values); ×: not finite (1 value); 1 value missing: the table notes why

  Every layer
  status  torch      keras         error  values
  ──────────────────────────────────────────────
  passed  stem.conv  stem/conv  2.35e-16     432
  failed  layer1.bn  layer1/bn         -      16

Files
  net.weights.h5  1,234 bytes
    sha256  abababababababababababababababababababababababababababababababab
    md5     cd

Notes
  Seed 0.

Environment
  python 3.11.7, numpy 2.4.0"""

MARKDOWN = """\
# Net (torch) and net (keras)

**✗ Failed**: 1 passed, 1 failed, 1 skipped, 1 info

```text
  layer1.bn  <->  layer1/bn
      epsilon is 0.001, not 1e-05
Fix:  fix(1)
```

- *versions*: python 3.11.7
- *files*: 1 file, with digests below

| status | section | outcome |
| --- | --- | --- |
| ✓ passed | lossless | 42 tensors |
| ✗ failed | structural | differs at layer1.bn |
| – skipped | onnx | not run: onnxruntime is not installed |
| · info | alignment | 21 pairs |

## ✓ lossless

**passed**: 42 tensors

*Claim*: Same bits.

- *values*: 1,024

## ✗ structural

**failed**: differs at layer1.bn

*Claim*: Same function.

```text
Problem:
  layer1.bn  <->  layer1/bn
      epsilon is 0.001, not 1e-05
The fix stands at the top of the report.
```

```text
Error along the depth (relative error, log scale from 2e-16 to 4e-05)
  float64      ▁· ×█
  noise floor  ▆▆▆▆▆
  ·: a difference of zero (1 of 5 values); ×: not finite (1 value); 1 value missing: the table notes why
```

**Table**: Every layer

| status | torch | keras | error | values |
| --- | --- | --- | ---: | ---: |
| passed | stem.conv | stem/conv | 2.35e-16 | 432 |
| failed | layer1.bn | layer1/bn | - | 16 |

## – onnx

**skipped**: not run: onnxruntime is not installed

## · alignment

**info**: 21 pairs

## Files

| file | bytes | sha256 | md5 |
| --- | ---: | --- | --- |
| net.weights.h5 | 1,234 | `abababababababababababababababababababababababababababababababab` | `cd` |

## Notes

- Note: Seed 0.

**Environment**: python 3.11.7, numpy 2.4.0
"""


def printed(report: Report, encoding: str = "utf-8", color_system: str | None = None) -> str:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=stream, width=110, color_system=color_system, force_terminal=True)  # type: ignore[arg-type]
    report.render(console)
    stream.seek(0)
    return stream.read()


def one_table(table: Table) -> Report:
    section = Section(name="layers", status="info", claim="", summary="", tables=(table,))
    return Report(title="t", sections=(section,))


def test_the_plain_text_of_a_report() -> None:
    assert str(sample()) == TEXT


def test_the_markdown_of_a_report() -> None:
    assert sample().to_markdown() == MARKDOWN


def test_the_plain_text_has_no_colours_wherever_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    assert write(sample()) == TEXT


def test_a_printed_report_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for width in (60, 80):
        monkeypatch.setenv("COLUMNS", str(width))
        lines = str(sample()).splitlines()
        assert max(len(line) for line in lines if "sha256" not in line) <= width


def test_a_terminal_gets_colours() -> None:
    assert "\x1b[1;31m✗ Failed" in printed(sample(), color_system="standard")


def test_a_terminal_without_unicode_gets_ascii() -> None:
    text = printed(sample(), encoding="ascii")
    assert "x Failed" in text
    assert "- skipped  onnx" in text
    assert "float64      1. x8" in text


def test_a_long_table_is_cut_but_what_failed_is_shown() -> None:
    rows = tuple((f"layer{place}", "failed" if place == 44 else "skipped") for place in range(60))
    text = str(one_table(Table(columns=("layer", "status"), rows=rows, failed=(50,))))
    assert "  ... 38 more rows" in text
    assert re.findall(r"layer\d+", text) == [f"layer{place}" for place in [*range(20), 44, 50]]


def test_a_saved_text_has_every_row(tmp_path: Path) -> None:
    rows = tuple((f"layer{place}", "passed") for place in range(60))
    answers = tuple(
        Table(title=title, columns=("layer", "status"), rows=tuple((name, word) for name, _ in rows))
        for title, word in (("quiet", "passed"), ("long", "skipped"))
    )
    for table in answers:
        one_table(table).save(tmp_path / "report.txt")
        text = (tmp_path / "report.txt").read_text(encoding="utf-8")
        assert re.findall(r"layer\d+", text) == [name for name, _ in rows]
        assert "more row" not in text


def test_rows_that_passed_are_folded_but_what_failed_is_shown() -> None:
    rows = tuple((f"layer{place}", "failed" if place == 44 else "passed") for place in range(60))
    text = str(one_table(Table(columns=("layer", "status"), rows=rows, failed=(50,))))
    assert "  ... 58 rows passed" in text
    assert re.findall(r"layer\d+", text) == ["layer44", "layer50"]


def test_one_hidden_row_is_counted_in_the_singular() -> None:
    assert "... 1 more row" in str(one_table(Table(columns=("layer",), rows=(("a",),) * 21))).splitlines()[-1]


def test_a_long_name_in_a_table_is_folded_and_never_shortened() -> None:
    name = "encoder." * 40
    text = str(one_table(Table(columns=("layer", "error"), rows=((name, 1.5),))))
    assert max(len(line) for line in text.splitlines()) <= 110
    assert "".join(re.findall(r"[a-z.]{6,}", text.partition("─")[2])) == name


def test_a_line_to_paste_is_not_broken() -> None:
    fix = "plan.pair(" + "x" * 300 + ")"
    section = Section(name="s", status="failed", claim="", summary="", problems=(Problem(fact="f", fixes=(fix,)),))
    assert f"Fix:  {fix}" in str(Report(title="t", sections=(section,)))


@pytest.mark.parametrize("width", [80, 110])
def test_prose_is_broken_between_words_to_fit_the_terminal(width: int) -> None:
    prose = " ".join(["every layer agrees"] * 20)
    section = Section(name="s", status="passed", claim=prose, summary="fine")
    stream = io.StringIO()
    environment = {f"package{number}": "1.2.3" for number in range(20)}
    report = Report(title="t", sections=(section,), notes=(prose,), environment=environment)
    report.render(Console(file=stream, width=width, force_terminal=True, color_system=None))
    assert max(map(len, stream.getvalue().splitlines())) <= width
    assert " ".join(stream.getvalue().split()).count(prose) == 2


@pytest.mark.parametrize("name", ["[red]x[/red]", ":smile:", "[/]", "\\[bold]"])
def test_names_are_not_markup_in_text(name: str) -> None:
    section = Section(name=name, status="passed", claim=name, summary="", facts={name: name})
    assert str(Report(title=name, sections=(section,))).count(name) >= 4


def test_escape_sequences_in_names_are_shown_and_not_sent() -> None:
    name = "conv\x1b[2J\x07\u202e"
    table = Table(columns=(name,), rows=((name,),))
    section = Section(name=name, status="passed", claim=name, summary=name, tables=(table,))
    report = Report(title=name, sections=(section,), notes=(name,))
    for text in (str(report), report.to_markdown(), report.to_html()):
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "x1b" in text


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (1.23456e-7, "1.23e-07"),
        (0.0, "0"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        (1234567, "1,234,567"),
        (True, "yes"),
        (False, "no"),
        (None, "-"),
        ("a\nb", "a\\nb"),
    ],
)
def test_a_cell_is_formatted_as_text(cell: Cell, text: str) -> None:
    assert show(cell) == text


def test_lone_surrogates_are_escaped() -> None:
    assert visible("a\ud800") == "a\\ud800"


HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))",
    "![x](http://example.org/x.png)",
    "a | b",
    "*a* _b_ __c__ `d` ~~e~~",
    "&lt;b&gt;",
    "\\",
    "a\n\n# b",
    "````",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_not_markup_in_markdown(name: str) -> None:
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parseInline(f"Name: {escape(name)}")
    children = tokens[0].children or []
    assert {token.type for token in children} <= {"text", "text_special"}
    assert "".join(token.content for token in children) == "Name: " + name.replace("\n", " ")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_do_not_change_the_shape_of_the_markdown(name: str) -> None:
    def shape(text: str) -> list[str]:
        table = Table(columns=(text, "b"), rows=((text, 1),), title=text)
        section = Section(
            name=text, status="failed", claim=text, summary=text, tables=(table,), problems=(Problem(fact=text),)
        )
        report = Report(title=text, sections=(section,), notes=(text,), environment={text: text})
        return [token.type for token in MarkdownIt("commonmark").enable("table").parse(report.to_markdown())]

    assert shape(name) == shape("plain")


def test_an_underscore_inside_a_word_stays_readable_in_markdown() -> None:
    assert escape("layer1_0_conv") == "layer1_0_conv"
    assert escape("__init__") == "\\_\\_init\\_\\_"


def test_words_of_a_table_are_whole_on_a_terminal_of_eighty_columns() -> None:
    columns = ("verdict", "torch", "field", "value", "keras", "field in keras", "value in keras", "expected value")
    fields = ("in_channels", "padding_mode", "dilation", "requires_grad")
    rows = tuple(("equal", "0", name, "(1, 1)", "conv2d", "dilation_rate", "(1, 1)", "zeros") for name in fields)
    section = Section(
        name="hyperparameters",
        status="passed",
        claim="",
        summary="",
        tables=(Table(title="", columns=columns, rows=rows),),
    )
    text = write(Report(title="", sections=(section,), files=(), environment={}, notes=()), width=80)
    assert {*fields, "dilation_rate"} <= set(text.split())
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("fact", [IN_TRAINING, NOT_CONVERTED, UNLIKE])
def test_a_model_that_trains_differently_is_marked_beside_the_verdict(fact: str) -> None:
    told = Section(name="hyperparameters", status="passed", claim="", summary="", facts={fact: "momentum"})
    alike = Section(name="outputs", status="passed", claim="", summary="")
    mark = "2 passed; trains differently, see hyperparameters"
    marked, plain = Report(title="t", sections=(alike, told)), Report(title="t", sections=(alike,))
    for text in (str(marked), marked.to_markdown(), marked.to_html()):
        assert mark in text
    assert "trains differently" not in f"{plain}{plain.to_markdown()}"


def test_a_failed_report_has_no_mark_about_training() -> None:
    facts = {IN_TRAINING: "momentum"}
    failed = Section(name="h", status="failed", claim="", summary="", facts=facts, problems=(Problem(fact="f"),))
    assert "trains differently" not in str(Report(title="t", sections=(failed,)))
