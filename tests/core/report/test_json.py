import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras3conv.errors import InputError, Problem
from keras3conv.report.pictures import Answer, Picture
from keras3conv.report.report import Report
from keras3conv.report.values import Plot, Section, Series, Table
from keras3conv.writing.digests import ReadFile, WrittenFile

texts = st.text(st.characters(), max_size=8)  # with control characters, without lone surrogates
cells = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts)
values = st.one_of(st.none(), st.floats(min_value=0), st.just(math.nan))


@st.composite
def tables(draw: st.DrawFn) -> Table:
    columns = draw(st.lists(texts, max_size=3))
    row = st.tuples(*(cells for _ in columns))
    rows = draw(st.lists(row, max_size=3))
    failed = draw(st.lists(st.sampled_from(range(len(rows))), max_size=1)) if rows else []
    return Table(columns=tuple(columns), rows=tuple(rows), title=draw(texts), failed=tuple(failed))


@st.composite
def plots(draw: st.DrawFn) -> Plot:
    labels = draw(st.lists(texts, max_size=4))
    line = st.builds(Series, name=texts, values=st.tuples(*(values for _ in labels)))
    return Plot(title=draw(texts), labels=tuple(labels), series=tuple(draw(st.lists(line, max_size=2))), unit="x")


problems = st.builds(Problem, fact=texts, torch=texts, keras=texts, fixes=st.tuples(texts))
answers = st.builds(Answer, first=texts, first_score=st.floats(), second=texts, second_score=st.floats())
pictures = st.builds(
    Picture,
    png=st.binary(max_size=9).map(lambda rest: b"\x89PNG\r\n\x1a\n" + rest),
    caption=texts,
    answers=st.tuples(answers),
)
sections = st.builds(
    Section,
    name=texts,
    status=st.sampled_from(["passed", "failed", "skipped", "info"]),
    claim=texts,
    summary=texts,
    reason=st.text(min_size=1, max_size=3),
    facts=st.dictionaries(texts, texts, max_size=2),
    tables=st.tuples(tables()),
    plots=st.tuples(plots()),
    problems=st.tuples(problems),
    pictures=st.tuples(pictures),
)
files = st.builds(WrittenFile, path=texts, size=st.integers(0), sha256=texts, md5=texts)
reports = st.builds(
    Report,
    title=texts,
    sections=st.lists(sections, max_size=2, unique_by=lambda section: section.name).map(tuple),
    files=st.tuples(files),
    environment=st.dictionaries(texts, texts, max_size=2),
    notes=st.tuples(texts),
    seconds=st.dictionaries(texts, st.floats(0, 1e6)),
    format=st.just(5),
)


@pytest.mark.slow
@given(report=reports)
@settings(deadline=None, max_examples=60)
def test_every_report_is_equal_after_a_round_trip_through_json(report: Report) -> None:
    # Unlike ==, repr distinguishes 1, 1.0 and True, and 0.0 from -0.0, and NaN has one repr.
    assert repr(Report.from_json(report.to_json())) == repr(report)


@pytest.mark.slow
@given(report=reports)
@settings(deadline=None, max_examples=30)
def test_every_report_can_be_written_in_every_format(report: Report) -> None:
    for text in (str(report), report.to_markdown(), report.to_html(), report.to_json()):
        assert text.encode("utf-8")


def test_a_lone_surrogate_in_a_digest_is_escaped_in_every_form() -> None:
    written = WrittenFile(path="a", size=0, sha256="\ud800", md5="\ud800")
    report = Report(title="t", sections=(), files=(written,))
    for text in (str(report), report.to_markdown(), report.to_html(), report.to_json()):
        assert text.encode("utf-8")


def small() -> Report:
    row = (math.nan, math.inf, -math.inf, "NaN", None)
    table = Table(columns=("a", "b", "c", "d", "e"), rows=(row,))
    return Report(title="t", sections=(Section(name="s", status="passed", claim="", summary="", tables=(table,)),))


def test_nan_and_infinity_are_objects_and_text_stays_text() -> None:
    content = json.loads(small().to_json())
    assert content["sections"][0]["tables"][0]["rows"] == [
        [{"float": "NaN"}, {"float": "Infinity"}, {"float": "-Infinity"}, "NaN", None]
    ]


def test_json_is_strict_and_ascii() -> None:
    text = Report(title="Größe \ud83d", sections=()).to_json()
    assert text.isascii()
    assert Report.from_json(text).title == "Größe \ud83d"


def changed(**changes: Any) -> str:
    return json.dumps({**json.loads(small().to_json()), **changes})


def test_the_first_format_which_had_no_pictures_is_still_read() -> None:
    content = json.loads(small().to_json())
    for section in content["sections"]:
        del section["pictures"]
    del content["seconds"], content["status"], content["sources"]
    assert repr(Report.from_json(json.dumps({**content, "format": 1}))) == repr(small())


def test_the_fourth_format_which_had_no_sources_is_still_read() -> None:
    content = json.loads(small().to_json())
    del content["sources"]
    assert repr(Report.from_json(json.dumps({**content, "format": 4}))) == repr(small())
    with pytest.raises(InputError, match="lacks the key 'sources'"):
        Report.from_json(json.dumps(content))


def test_the_files_that_were_read_are_objects_with_their_state_dict() -> None:
    source = ReadFile(path="last.ckpt", size=3, sha256="a", md5="b", entry="ema.state_dict")
    report = Report(title="t", sections=(), sources=(source,))
    written = json.loads(report.to_json())["sources"]
    assert written == [{"path": "last.ckpt", "size": 3, "sha256": "a", "md5": "b", "entry": "ema.state_dict"}]
    assert Report.from_json(report.to_json()) == report


def test_the_status_of_a_report_is_one_key() -> None:
    failed = Section(name="f", status="failed", claim="", summary="", problems=(Problem(fact="x"),))
    for sections, status in (((), "skipped"), (small().sections, "passed"), ((*small().sections, failed), "failed")):
        assert json.loads(Report(title="t", sections=sections).to_json())["status"] == status


def test_a_status_that_the_sections_do_not_have_is_refused() -> None:
    with pytest.raises(InputError, match="states the status 'failed', but its sections have the status 'passed'"):
        Report.from_json(changed(status="failed"))


def test_the_third_format_which_had_no_status_is_still_read() -> None:
    content = json.loads(small().to_json())
    del content["status"], content["sources"]
    assert repr(Report.from_json(json.dumps({**content, "format": 3}))) == repr(small())


def test_bytes_that_are_not_a_picture_are_refused_with_their_position() -> None:
    content = json.loads(small().to_json())
    content["sections"][0]["pictures"] = [{"png": "***", "caption": "", "answers": []}]
    with pytest.raises(InputError, match=r"pictures\[0\]\.png of the report must be bytes in base64, but is '\*\*\*'"):
        Report.from_json(json.dumps(content))


@pytest.mark.parametrize("number", [6, 0, "1", None, True, [1]])
def test_an_unknown_format_is_refused(number: object) -> None:
    with pytest.raises(
        InputError,
        match=r"the report has the format .*, but this version of keras3conv reads the formats 1, 2, 3, 4, 5",
    ):
        Report.from_json(changed(format=number))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"title": 3}, r"the entry report\.title of the report must be a string, but is '3'"),
        ({"sections": {}}, r"report\.sections of the report must be a list, but is '{}'"),
        ({"sections": [7]}, r"report\.sections\[0\] of the report must be an object, but is '7'"),
        ({"sections": [{}]}, r"report\.sections\[0\] of the report lacks the key 'name'"),
        ({"extra": 1}, r"the entry report of the report has the key 'extra', which its format does not have"),
        ({"notes": ["a", None]}, r"the entry report\.notes\[1\] of the report must be a string, but is 'None'"),
        (
            {"environment": {"torch": 2}},
            r"the entry report\.environment\.torch of the report must be a string, but is '2'",
        ),
        (
            {"files": [{"path": "a", "size": True, "sha256": "", "md5": ""}]},
            r"files\[0\]\.size of the report must be an integer, but is 'True'",
        ),
    ],
)
def test_wrong_keys_and_values_are_refused_with_their_position(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Report.from_json(changed(**changes))


@pytest.mark.parametrize("cell", [{"float": "nan"}, {"float": 1}, {"double": "NaN"}, {}, []])
def test_a_cell_that_is_an_object_is_refused(cell: object) -> None:
    content = json.loads(small().to_json())
    content["sections"][0]["tables"][0]["rows"][0][0] = cell
    with pytest.raises(InputError, match=r"rows\[0\]\[0\]"):
        Report.from_json(json.dumps(content))


def test_an_unknown_status_is_refused_when_read() -> None:
    with pytest.raises(
        InputError,
        match="status of the section 's' must be passed or failed or unconfirmed or skipped or info, but is 'green'",
    ):
        Report.from_json(small().to_json().replace('"passed"', '"green"'))


@pytest.mark.parametrize(
    "text",
    ["", "[]x", '{"format": NaN}', '{"format": 1, "format": 1}', "[" * 200_000, '{"format": ' + "1" * 5000 + "}"],
    ids=["empty", "tail", "constant", "repeated key", "depth bomb", "digit bomb"],
)
def test_text_that_is_not_strict_json_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="the text is not a report, because it is not valid JSON"):
        Report.from_json(text)


def test_json_that_is_not_an_object_is_refused() -> None:
    with pytest.raises(InputError, match="the report has the format None, but this version of keras3conv reads"):
        Report.from_json("[1]")


def documented() -> dict[str, set[str]]:
    """Return the keys of every object in the table of REPORT.md."""
    found: dict[str, set[str]] = {}
    current = ""
    for line in (Path(__file__).parents[3] / "REPORT.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 3 and "`" in cells[1]:
            current = cells[0] or current
            found.setdefault(current, set()).update(re.findall("`([a-z_0-9]+)`", cells[1]))
    return found


def test_the_description_of_the_format_names_the_keys_that_are_written() -> None:
    table = Table(columns=("a",), rows=((1,),))
    plot = Plot(title="p", labels=("a",), series=(Series(name="s", values=(1.0,)),), unit="u")
    png = b"\x89PNG\r\n\x1a\n"
    picture = Picture(png=png, caption="c", answers=(Answer(first="a", first_score=1.0, second="b", second_score=1.0),))
    problem = Problem(fact="f")
    parts: dict[str, Any] = {"tables": (table,), "plots": (plot,), "problems": (problem,), "pictures": (picture,)}
    section = Section(name="n", status="failed", claim="c", summary="s", **parts)
    file = WrittenFile(path="p", size=1, sha256="s", md5="m")
    source = ReadFile(**vars(file), entry="ema")
    report = json.loads(Report(title="t", sections=(section,), files=(file,), sources=(source,)).to_json())
    (written,) = report["sections"]
    names = {"table": "tables", "plot": "plots", "problem": "problems", "picture": "pictures"}
    objects = {"report": report, "section": written, "file": report["files"][0], "source": report["sources"][0]}
    objects |= {name: written[key][0] for name, key in names.items()}
    assert documented() == {name: set(content) for name, content in objects.items()}
