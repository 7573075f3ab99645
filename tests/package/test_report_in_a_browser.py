"""The page of a report in a real browser: offline, with clicks, in light and dark mode."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keras3conv.errors import Problem
from keras3conv.report.report import Report
from keras3conv.report.values import Plot, Section, Series, Status, Table
from keras3conv.writing.digests import WrittenFile
from tests.support.browser import NAMES, Browser, axe_core, browsing, installed

LAYERS = 500


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = installed()
    if program is None:
        pytest.skip(f"no browser is installed: none of {', '.join(NAMES)} is on the path")
    with browsing(program, tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    labels = tuple(f"encoder.layers.{place}.attention.self.query" for place in range(LAYERS))
    # Errors that no order of texts or of places would sort.
    errors = tuple(((place * 197) % LAYERS + 1) * 10.0 ** -(7 + place % 3) for place in range(LAYERS))
    rows = tuple((label, label.replace(".", "/"), error) for label, error in zip(labels, errors, strict=True))
    plot = Plot(
        title="error along the depth",
        labels=labels,
        series=(Series(name="error", values=errors), Series(name="noise floor", values=(2e-7,) * LAYERS)),
        unit="relative error",
    )
    table = Table(title="layers", columns=("torch", "keras", "relative error"), rows=rows)
    section = Section(name="float64", status="passed", claim="c", summary="s", tables=(table,), plots=(plot,))
    path = tmp_path_factory.mktemp("report") / "report.html"
    Report(title="500 layers", sections=(section,)).save(path)
    return path


def numbers(browser: Browser) -> list[float]:
    cells = "[...document.querySelectorAll('table.sortable tbody tr')].map(row => row.cells[2])"
    return [float(text) for text in browser.evaluate(f"{cells}.map(cell => cell.title || cell.textContent)")]


def click(browser: Browser, column: int) -> str:
    button = f"document.querySelectorAll('table.sortable thead th')[{column}].firstElementChild.click()"
    browser.evaluate(button)
    return str(browser.evaluate(f"document.querySelectorAll('table.sortable thead th')[{column}].ariaSort"))


def test_the_page_of_five_hundred_layers_is_small_and_complete(browser: Browser, page: Path) -> None:
    assert page.stat().st_size < 2_000_000
    browser.open(page)
    assert browser.evaluate("document.querySelectorAll('table.sortable tbody tr').length") == LAYERS


def test_a_fact_has_the_width_of_the_page_if_it_is_alone_or_long(browser: Browser, tmp_path: Path) -> None:
    alone = {"exercised": "the inputs, at values of 32 and 4e-06"}
    names = "; ".join(f"lstm/forward_lstm/lstm_cell/bias_{place}" for place in range(4))
    both = {"declared loss": f"only the sum of 2 tensors is kept: {names}", "decided by": "probe 6"}
    sections = tuple(
        Section(name=name, status="passed", claim="c", summary="s", facts=facts)
        for name, facts in (("float64", alone), ("roundtrip", both))
    )
    Report(title="facts", sections=sections).save(tmp_path / "facts.html")
    widths = "[...document.querySelectorAll('section dl > div')].map(fact => fact.clientWidth)"
    with browser.window(1200, 900):
        browser.open(tmp_path / "facts.html")
        shown = browser.evaluate(widths)
    assert min(shown[:2]) > 800, shown
    with browser.window(400, 900):
        browser.open(tmp_path / "facts.html")
        assert browser.evaluate("document.documentElement.scrollWidth") == 400


def test_a_table_is_sorted_by_the_column_that_is_clicked(browser: Browser, page: Path) -> None:
    browser.open(page)
    before = numbers(browser)
    assert before != sorted(before)
    assert click(browser, 2) == "ascending"
    assert numbers(browser) == sorted(before)
    assert click(browser, 2) == "descending"
    assert numbers(browser) == sorted(before, reverse=True)
    click(browser, 2)
    assert numbers(browser) == before


def test_names_with_numbers_in_them_are_sorted_by_the_numbers(browser: Browser, page: Path) -> None:
    browser.open(page)
    click(browser, 2)
    click(browser, 0)
    cells = "[...document.querySelectorAll('table.sortable tbody tr')].map(row => row.cells[0].textContent)"
    names = browser.evaluate(cells)
    assert names == sorted(names, key=lambda name: int(name.split(".")[2]))


def brightness(browser: Browser, what: str) -> float:
    colour = browser.evaluate(f"getComputedStyle(document.body).{what}")
    red, green, blue = (float(part) for part in colour.partition("(")[2].rstrip(")").split(",")[:3])
    return (0.299 * red + 0.587 * green + 0.114 * blue) / 255


@pytest.mark.parametrize(("scheme", "is_dark"), [("light", False), ("dark", True)])
def test_the_page_follows_the_colour_scheme_of_the_browser(
    browser: Browser, page: Path, scheme: str, is_dark: bool
) -> None:
    browser.open(page, scheme)
    ground, ink = brightness(browser, "backgroundColor"), brightness(browser, "color")
    assert (ground < ink) is is_dark
    assert abs(ground - ink) > 0.5


CONTRAST = """(() => {
  const parts = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = colour => {
    const [r, g, b] = colour.map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const over = (ground, [r, g, b, a = 1]) => ground.map((v, i) => v * (1 - a) + [r, g, b][i] * a);
  const lineage = node => node ? [...lineage(node.parentElement), node] : [];
  const shown = node => node.getClientRects().length && !["SCRIPT", "STYLE"].includes(node.tagName);
  const told = node => [...node.childNodes].some(child => child.nodeType === 3 && child.textContent.trim());
  document.querySelectorAll("details").forEach(node => node.open = true);
  return [...document.querySelectorAll("body *")].filter(node => told(node) && shown(node)).map(node => {
    const style = getComputedStyle(node), line = lineage(node);
    const ground = line.reduce((c, n) => over(c, parts(getComputedStyle(n).backgroundColor)), [255, 255, 255]);
    const ink = parts(node instanceof SVGElement ? style.fill : style.color);
    const seen = line.reduce((a, n) => a * getComputedStyle(n).opacity, ink[3] ?? 1);
    const pair = [light(over(ground, [...ink.slice(0, 3), seen])), light(ground)].sort((a, b) => b - a);
    return [(pair[0] + 0.05) / (pair[1] + 0.05), node.textContent.trim().slice(0, 40)];
  });
})()"""
"""JavaScript that returns every text on the page with its WCAG 2 contrast against its background."""

READABLE = 4.5
"""The contrast that WCAG 2 requires of normal text at level AA."""


def hard_to_read(browser: Browser) -> list[str]:
    found = browser.evaluate(CONTRAST)
    assert found
    return [text for contrast, text in found if contrast < READABLE]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_enough_contrast_in_light_and_dark(browser: Browser, tmp_path: Path, scheme: str) -> None:
    plot = Plot(title="p", labels=("a", "b"), series=(Series(name="s", values=(1e-7, 1e-3)),), unit="u", failed=(1,))
    table = Table(title="t", columns=("a", "note"), rows=(("x", 1.0), ("y", 2.0)), failed=(1,))
    problem = Problem(torch="a", keras="b", fact="differs", fixes=("a line to paste",))
    parts: dict[str, Any] = {"claim": "c", "summary": "s", "facts": {"f": "g"}, "tables": (table,), "plots": (plot,)}
    sections = (
        Section(name="one", status="passed", **parts),
        Section(name="two", status="failed", problems=(problem,), **parts),
        Section(name="three", status="skipped", reason="r", **parts),
        Section(name="four", status="info", **parts),
    )
    Report(title="all", sections=sections, notes=("n",), environment={"a": "b"}).save(tmp_path / "report.html")
    browser.open(tmp_path / "report.html", scheme)
    assert hard_to_read(browser) == []


def test_the_check_detects_a_text_with_low_contrast(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "bad.html").write_text('<p>black</p><p style="color: #999">grey</p><p style="opacity: 0.4">faint</p>')
    browser.open(tmp_path / "bad.html")
    assert hard_to_read(browser) == ["grey", "faint"]


def test_the_page_makes_no_requests_and_logs_no_errors(browser: Browser, page: Path) -> None:
    browser.requests.clear()
    browser.complaints.clear()
    browser.open(page)
    click(browser, 1)
    assert browser.requests == [page.as_uri()]
    assert browser.complaints == []


def test_the_check_detects_requests_and_console_errors(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "bad.html"
    path.write_text('<img src="https://nowhere.invalid/x.png"><script>console.error("x"); missing()</script>')
    browser.requests.clear()
    browser.complaints.clear()
    browser.open(path)
    assert "https://nowhere.invalid/x.png" in browser.requests
    assert len(browser.complaints) >= 2


def test_the_plots_are_drawn_and_wider_than_a_line(browser: Browser, page: Path) -> None:
    browser.open(page)
    boxes = "[...document.querySelectorAll('svg')].map(svg => svg.getBoundingClientRect())"
    width, height = max(browser.evaluate(f"{boxes}.map(box => [box.width, box.height])"))
    assert width > 300
    assert height > 100
    assert browser.evaluate(FITS), "nothing runs off the side"


WORDS = (
    "Keras applies the activation inside the layer; in torch it is a call after this layer, with the same value on "
    "both sides"
)


def certificate(*, failed: bool) -> Report:
    """Return a certificate with every part of the page: long and wide tables, plots, problems, notes, files."""
    labels = tuple(f"stages.{place}.convolution" for place in range(30))
    plot = Plot(
        title="error along the depth",
        labels=labels,
        series=(Series(name="difference", values=(1e-7,) * 30), Series(name="noise floor", values=(2e-7,) * 30)),
        unit="absolute difference",
        failed=(7,) if failed else (),
    )
    columns = ("torch", "field", "value", "keras", "field in keras", "value in keras", "expected value", "verdict")
    rows = tuple(
        (label, "padding", "(1, 1)", label, "padding", "same", "valid", "equal" if place else f"proven: {WORDS}")
        for place, label in enumerate(labels)
    )
    table = Table(title="hyper-parameters", columns=columns, rows=rows, failed=(7,) if failed else ())
    problem = Problem(torch="a", keras="b", fact="differs", fixes=("x = F.pad(x, (0, 1, 0, 1))  # " + "long " * 30,))
    status: Status = "failed" if failed else "passed"
    sections = (
        Section(name="structure", status="passed", claim="c", summary="s", facts={"decided by": "probe 12"}),
        Section(
            name="float64",
            status=status,
            claim="c",
            summary="s",
            tables=(table,),
            plots=(plot,),
            problems=(problem,) if failed else (),
        ),
        Section(name="onnx", status="skipped", claim="c", summary="s", reason="no onnxruntime"),
        Section(name="timing", status="info", claim="c", summary="s"),
    )
    files = (WrittenFile(path="folder/net.safetensors", size=12, sha256="0" * 64, md5="1" * 32),)
    environment = {"date": "2026-01-02 03:04 UTC", "torch": "2.9"}
    notes = ("random inputs of shape (2, 3, 8, 8)", f"net.keras: 12 bytes, sha256 {'0' * 64}")
    return Report(title="A <-> B", sections=sections, files=files, environment=environment, notes=notes)


@pytest.mark.parametrize("failed", [False, True])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_accessibility_violation(browser: Browser, tmp_path: Path, scheme: str, failed: bool) -> None:
    axe = axe_core()
    if axe is None:
        pytest.skip("axe-core is not installed: npm install --no-save axe-core")
    certificate(failed=failed).save(tmp_path / "report.html")
    browser.open(tmp_path / "report.html", scheme)
    browser.evaluate(OPEN_ALL)
    assert browser.faults(axe) == []


def test_the_check_detects_an_accessibility_violation(browser: Browser, tmp_path: Path) -> None:
    axe = axe_core()
    if axe is None:
        pytest.skip("axe-core is not installed: npm install --no-save axe-core")
    (tmp_path / "bad.html").write_text('<html lang="en"><title>t</title><main><h1>t</h1><input></main></html>')
    browser.open(tmp_path / "bad.html")
    assert [fault.partition(":")[0] for fault in browser.faults(axe)] == ["label"]


OPEN_ALL = "document.querySelectorAll('details').forEach(part => part.open = true)"

ROWS = """[...document.querySelectorAll('tbody tr')].filter(row => row.getClientRects().length).map(row =>
  [row.getBoundingClientRect().height, Math.max(...[...row.cells].map(cell => {
    const line = document.createRange();
    line.selectNodeContents(cell);
    return line.getBoundingClientRect().height;
  }))])"""
"""The height of every visible row, and of the text of its highest cell."""

OUTSIDE = """[...document.querySelectorAll('main *')].filter(node => node.getClientRects().length)
  .filter(node => !node.closest('.scroll') && !node.closest('pre') && !node.closest('svg'))
  .filter(node => node.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
  .map(node => node.outerHTML.slice(0, 80))"""
"""JavaScript that returns the elements beyond the right side of the window, except inside scrolling boxes."""

FITS = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
"""JavaScript that tells whether the page is as wide as its window. A phone's `innerWidth` would grow with the page."""


@pytest.mark.parametrize("width", [360, 800, 1280])
@pytest.mark.parametrize("failed", [False, True])
def test_no_row_is_stretched_and_nothing_overflows_the_page_at_any_width(
    browser: Browser, tmp_path: Path, width: int, failed: bool
) -> None:
    certificate(failed=failed).save(tmp_path / "report.html")
    with browser.window(width, 800):
        browser.open(tmp_path / "report.html")
        browser.evaluate(OPEN_ALL)
        rows = browser.evaluate(ROWS)
        assert rows
        assert [height for height, text in rows if height > 60 or height > text + 20] == []
        assert browser.evaluate(OUTSIDE) == []
        assert browser.evaluate(FITS)


def test_the_check_detects_a_stretched_row_and_an_overflowing_element(browser: Browser, tmp_path: Path) -> None:
    page = "<main><p style='width: 5000px'>x</p><table><tbody><tr style='height: 200px'><td>x</td></tr></table></main>"
    (tmp_path / "bad.html").write_text(page)
    with browser.window(360, 800):
        browser.open(tmp_path / "bad.html")
        assert [height for height, text in browser.evaluate(ROWS) if height > text + 20]
        assert len(browser.evaluate(OUTSIDE)) == 1
        assert not browser.evaluate(FITS)


def shown_rows(browser: Browser) -> int:
    rows = "[...document.querySelectorAll('table.searchable tbody tr')].filter(row => !row.hidden).length"
    return int(browser.evaluate(rows))


def test_a_long_table_is_folded_searched_and_narrowed(browser: Browser, tmp_path: Path) -> None:
    certificate(failed=False).save(tmp_path / "report.html")
    browser.open(tmp_path / "report.html")
    assert not browser.evaluate("document.querySelector('details.table').open")
    browser.evaluate(OPEN_ALL)
    assert shown_rows(browser) == 1
    assert browser.evaluate("document.querySelector('.tools button').textContent") == (
        "Show 29 more rows without a difference"
    )
    browser.evaluate("document.querySelector('.tools button').click()")
    assert shown_rows(browser) == 30
    search = "document.querySelector('.tools input')"
    browser.evaluate(f"{search}.value = 'stages.1'; {search}.dispatchEvent(new Event('input'))")
    assert shown_rows(browser) == 11
    browser.evaluate("document.querySelectorAll('.tools label input')[2].click()")
    hidden = "[...document.querySelectorAll('table.searchable th')].map(head => head.hidden)"
    assert browser.evaluate(hidden) == [place == 2 for place in range(8)]


def test_a_line_to_paste_has_a_button_that_copies_it(browser: Browser, tmp_path: Path) -> None:
    certificate(failed=True).save(tmp_path / "report.html")
    browser.open(tmp_path / "report.html")
    buttons = "document.querySelectorAll('.problems .copy')"
    assert browser.evaluate(f"{buttons}.length") == browser.evaluate("document.querySelectorAll('pre').length") == 1
    # The other section refers to the line at the top.
    assert browser.evaluate("document.querySelector('.remark [href=\"#cause\"]').textContent") == "To the cause"
    written = (
        "Object.defineProperty(navigator, 'clipboard', {value: {writeText: t => (window.got = t, Promise.resolve())}})"
    )
    browser.evaluate(f"{written}; {buttons}[0].click()")
    assert browser.evaluate("window.got").startswith("x = F.pad(x, (0, 1, 0, 1))")
