import builtins
import html
import re
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from types import ModuleType

import pytest

from keras3conv.errors import MissingExtra, Problem
from keras3conv.report import html as report_html
from keras3conv.report.grids import arrange
from keras3conv.report.headline import key_facts
from keras3conv.report.html import WORDS
from keras3conv.report.limits import LIMITS
from keras3conv.report.report import Report
from keras3conv.report.values import Plot, Section, Series, Status, Table
from keras3conv.writing.digests import WrittenFile

VOID = {"meta", "br", "img", "link", "input", "hr"}
LOADING = {"src", "srcset", "data", "poster", "action", "formaction", "background", "srcdoc", "manifest", "xlink:href"}


class Page(HTMLParser):
    """Parses a page strictly: every element must be closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in {"script", "style"}:
            self.text.append(data)

    def classes(self, tag: str, word: str) -> list[set[str]]:
        found = [set(attributes.get("class", "").split()) for name, attributes in self.elements if name == tag]
        return [classes for classes in found if word in classes]


def report(name: str = "layer1.conv", layers: int = 3) -> Report:
    labels = tuple(f"{name}{place}" for place in range(layers))
    rows = tuple(
        (label, "failed" if place == 1 else "passed", 1.23456e-7 * place) for place, label in enumerate(labels)
    )
    plot = Plot(
        title=name,
        labels=labels,
        series=(
            Series(name=name, values=tuple(1e-7 * place for place in range(layers))),
            Series(name="noise floor", values=(2e-7,) * layers),
        ),
        unit=name,
        failed=(1,),
    )
    return Report(
        title=name,
        sections=(
            Section(
                name=name,
                status="failed",
                claim=name,
                summary=name,
                facts={name: name},
                tables=(Table(columns=(name, "status", "error"), rows=rows, title=name),),
                plots=(plot,),
                problems=(Problem(fact=name, torch=name, fixes=(name,)),),
            ),
            Section(name="lossless", status="passed", claim="c", summary="s"),
            Section(name="onnx", status="skipped", claim="c", summary="s", reason=name),
            Section(name="alignment", status="info", claim="", summary="s"),
        ),
        files=(WrittenFile(path=name, size=1, sha256=name, md5=name),),
        environment={name: name},
        notes=(name,),
    )


def loaded(elements: Sequence[tuple[str, Mapping[str, str]]], style: str) -> list[str]:
    """Return the addresses that a browser would fetch for a page."""
    found = [
        f"{tag} {name}" for tag, attributes in elements for name in attributes if name in LOADING or name == "style"
    ]
    found += [f"{tag} href" for tag, attributes in elements if not attributes.get("href", "#").startswith("#")]
    found += [tag for tag, _ in elements if tag in {"link", "iframe", "img", "object", "embed", "base", "use", "image"}]
    return found + re.findall(r"url\(|@import|@font-face", style)


def test_the_page_is_well_formed() -> None:
    page = Page(report().to_html())
    assert [tag for tag, _ in page.elements[:3]] == ["html", "head", "meta"]
    assert "svg" in {tag for tag, _ in page.elements}


def test_the_check_detects_a_page_that_is_not_well_formed() -> None:
    for broken in ("<p><b>x</p></b>", "<div>", "</p>"):
        with pytest.raises(AssertionError):
            Page(broken)


def test_the_page_loads_nothing() -> None:
    text = report().to_html()
    assert loaded(Page(text).elements, text) == []
    assert "http:" not in text
    assert "https:" not in text


def test_the_check_detects_a_page_that_loads_a_resource() -> None:
    for planted in ('<img src="x">', '<a href="http://x">x</a>', '<link href="#">', '<p style="x">x</p>'):
        assert loaded(Page(planted).elements, "")
    assert loaded([], "a { background: url(x) }")


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "</style><script>alert(1)</script>",
        "' onmouseover='alert(1)",
        "{{ 7 * 7 }}{% raw %}",
        "</title><b>",
    ],
)
def test_a_name_is_not_interpreted_as_html(name: str) -> None:
    plain, hostile = Page(report("plain").to_html()), Page(report(name).to_html())
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in plain.elements]
    assert [sorted(attributes) for _, attributes in hostile.elements] == [
        sorted(attributes) for _, attributes in plain.elements
    ]
    assert name in "".join(hostile.text)


def test_nothing_but_the_page_s_own_script_may_run() -> None:
    text = report().to_html()
    policy = next(a["content"] for _, a in Page(text).elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for tag in ("script", "style"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert report_html._digest(content) in policy


def test_every_status_has_its_own_style() -> None:
    page = Page(report().to_html())
    proofs = page.classes("a", "proof")
    assert [(classes - {"proof"}).pop() for classes in proofs] == ["failed", "passed", "skipped", "info"]
    assert page.classes("div", "verdict") == [{"verdict", "failed"}]


def test_a_skipped_section_never_has_the_style_of_a_passed_one() -> None:
    skipped = Section(name="onnx", status="skipped", claim="c", summary="s", reason="no onnxruntime")
    page = Page(Report(title="t", sections=(skipped,)).to_html())
    assert [attributes for _, attributes in page.elements if "passed" in attributes.get("class", "").split()] == []
    assert page.classes("div", "verdict") == [{"verdict", "skipped"}]
    assert "Nothing proven" in "".join(page.text)
    assert "no onnxruntime" in "".join(page.text)


def test_failed_rows_and_failed_layers_are_marked() -> None:
    page = Page(report().to_html())
    assert len(page.classes("tr", "bad")) == 1
    assert len(page.classes("path", "failed-at")) == 1
    assert len(page.classes("circle", "bad")) == 1


def certificate(*, failed: bool) -> Report:
    """Return a small certificate; if it failed, two proofs have a problem with a fix."""
    floor = Series(name="noise floor", values=(1e-7,))
    plots = tuple(Plot(title=title, labels=("a",), series=lines, unit="u") for title, lines in
                  (("no floor", ()), ("with floor", (floor,))))  # fmt: skip
    problems = tuple(Problem(torch=name, fact=name, fixes=(f"fix({name})",)) for name in ("epsilon", "padding"))
    status: Status = "failed" if failed else "passed"
    parts = [
        Section(name="structure", status="passed", claim="", summary="all"),
        Section(name="hyperparameters", status=status, claim="", summary="s", problems=problems[:1] * failed),
        Section(name="float64", status=status, claim="", summary="s", problems=problems[1:] * failed, plots=plots),
        Section(name="outputs", status="passed", claim="", summary="2e-07, 1.5 x the noise floor"),
    ]
    notes = ("inputs given for both sides", f"model.keras: 12 bytes, sha256 {'0' * 64}")
    environment = {"date": "2026-01-02 03:04 UTC", "torch": "2.9", "KERAS_BACKEND": "jax", "processors": "2"}
    return Report(title="A <-> B", sections=tuple(parts), notes=notes, environment=environment)


def test_a_passed_certificate_starts_with_its_date_worst_error_inputs_versions_and_digests() -> None:
    assert key_facts(certificate(failed=False)) == {
        "date": "2026-01-02 03:04 UTC",
        "output difference": "2e-07, 1.5 x the noise floor",
        "inputs": "inputs given for both sides",
        "versions": "torch 2.9, Keras on jax",
        "source 1": f"model.keras: 12 bytes, sha256 {'0' * 64}",
    }
    assert "output difference" not in key_facts(certificate(failed=True))


@pytest.mark.parametrize("name", ["outputs", "float64", "onnx", "expected"])
def test_a_certificate_with_a_single_proof_of_the_outputs_starts_with_its_difference(name: str) -> None:
    section = Section(name=name, status="passed", claim="", summary="1e-07 of the scale")
    assert key_facts(Report(title="t", sections=(section,)))["output difference"] == "1e-07 of the scale"


def test_a_failed_certificate_starts_with_the_first_layer_that_differs_and_the_line_to_paste() -> None:
    text = "".join(Page(certificate(failed=True).to_html()).text)
    assert text.index("The cause") < text.index("fix(padding)") < text.index("with floor") < text.index("structure")
    assert text.index("fix(padding)") < text.index("fix(epsilon)")
    assert "The cause" not in certificate(failed=False).to_html()


def test_the_plot_with_the_noise_floor_is_shown_first_and_only_once() -> None:
    page = certificate(failed=False).to_html()
    assert page.count("<strong>with floor</strong>") == page.count("<strong>no floor</strong>") == 1
    assert page.index("with floor") < page.index('class="proofs"') < page.index("no floor")


def test_a_certificate_ends_with_its_limits_and_other_reports_list_none() -> None:
    assert all(html.escape(limit, quote=False) in certificate(failed=False).to_html() for limit in LIMITS)
    assert all(limit in certificate(failed=False).to_markdown() for limit in LIMITS)
    assert LIMITS[0] not in report().to_html()
    assert LIMITS[0] not in report().to_markdown()


def test_a_certificate_explains_its_words_and_other_reports_do_not() -> None:
    explained = html.escape(WORDS["noise floor"], quote=False)
    assert explained in certificate(failed=False).to_html()
    assert explained not in report().to_html()


def test_the_verdict_is_the_first_column_and_empty_columns_are_left_out() -> None:
    rows = tuple((f"l{place}", "", "equal" if place else "training only", 1.0) for place in range(14))
    grid = arrange(Table(columns=("torch", "empty", "verdict", "value"), rows=rows))
    assert [(column.name, column.is_numeric) for column in grid.columns] == [
        ("verdict", False),
        ("torch", False),
        ("value", True),
    ]
    assert grid.rows[0].cells == ("training only", "l0", 1.0)
    assert (grid.is_long, grid.is_open, grid.quiet) == (True, False, 13)


@pytest.mark.parametrize(("number", "verdict", "quiet"), [(12, "differs", 0), (13, "equal", 0), (13, "differs", 12)])
def test_rows_are_folded_in_a_long_table_if_others_remain(number: int, verdict: str, quiet: int) -> None:
    rows = tuple(("equal" if place else verdict,) for place in range(number))
    assert arrange(Table(columns=("verdict",), rows=rows)).quiet == quiet


def test_a_long_table_is_collapsed_unless_a_row_failed() -> None:
    rows = tuple((f"l{place}",) for place in range(13))
    assert not arrange(Table(columns=("torch",), rows=rows)).is_open
    assert arrange(Table(columns=("torch",), rows=rows, failed=(3,))).is_open
    assert arrange(Table(columns=("torch",), rows=rows[1:])).is_open


def test_a_tooltip_shows_all_digits_of_a_number() -> None:
    page = Page(report().to_html())
    assert [attributes["title"] for tag, attributes in page.elements if tag == "td" and "title" in attributes] == [
        "1.23456e-07",
        "2.46912e-07",
    ]


def test_five_hundred_layers_stay_under_two_megabytes() -> None:
    text = report("encoder.layers.attention.self.query", layers=500).to_html()
    assert len(text.encode()) < 2_000_000
    assert text.count("<tr") == 501


def test_an_empty_report_is_a_page_too() -> None:
    assert "Nothing proven" in "".join(Page(Report(title="", sections=()).to_html()).text)


def without_jinja2(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def guarded(name: str, *arguments: object) -> ModuleType:
        if name.partition(".")[0] in {"jinja2", "markupsafe"}:
            raise ImportError(name)
        return real(name, *arguments)  # type: ignore[arg-type]

    report_html._template.cache_clear()
    monkeypatch.setattr(builtins, "__import__", guarded)


def test_a_missing_jinja2_is_an_error_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    without_jinja2(monkeypatch)
    with pytest.raises(MissingExtra, match=re.escape('an HTML report needs jinja2: pip install "keras3conv[report]"')):
        report().to_html()


def test_a_notebook_shows_the_page_in_a_frame() -> None:
    (frame,) = Page(report("<b>")._repr_html_()).elements
    assert frame[0] == "iframe"
    assert frame[1]["title"] == report("<b>").title
    assert frame[1]["sandbox"] == "allow-scripts"
    assert frame[1]["srcdoc"] == report("<b>").to_html()


def test_a_notebook_without_jinja2_shows_the_text_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    without_jinja2(monkeypatch)
    shown = report("<b>")._repr_html_()
    assert shown.startswith("<pre>&lt;b&gt;")
    assert html.escape('pip install "keras3conv[report]"') in shown
