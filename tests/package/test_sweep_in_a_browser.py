"""The page of a sweep in a real browser: filters, sorting, and the width of a phone."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from keras3conv.report.html import write_overview
from keras3conv.report.overview import ROW_STATUSES, Overview, Row
from tests.support.browser import NAMES, Browser, browsing, installed

ROWS = tuple(
    Row(
        name=f"net{place}",
        status=ROW_STATUSES[place % len(ROW_STATUSES)],
        outcome=f"outcome {place}"
        if place
        else "outcome 0 of a layer that differs by much, with the reason for it " * 3,
        sides="a/long/path/to/a/net.py:make <-> another/long/path/to/a/keras_net.py:make",
        seconds=(place * 37) % 100,
        report=f"tasks/net{place}/report.html",
    )
    for place in range(100)
)

VISIBLE = "[...document.querySelectorAll('.tasks tbody tr')].filter(row => !row.hidden)"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = installed()
    if program is None:
        pytest.skip(f"no browser is installed: none of {', '.join(NAMES)} is on the path")
    with browsing(program, tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture
def page(browser: Browser, tmp_path: Path) -> Browser:
    path = tmp_path / "index.html"
    path.write_text(write_overview(Overview(name="zoo", rows=ROWS, earlier=ROWS[:50])), encoding="utf-8")
    browser.complaints.clear()
    browser.open(path)
    return browser


def shown(page: Browser) -> list[str]:
    names = page.evaluate(f"{VISIBLE}.map(row => row.cells[1].textContent.trim())")
    return [str(name) for name in names]


def test_a_status_filters_the_tasks_and_a_second_click_shows_all(page: Browser) -> None:
    button = "document.querySelector('.filters button[data-status=\"timed out\"]')"
    page.evaluate(f"{button}.click()")
    assert shown(page) == [row.name for row in ROWS if row.status == "timed out"]
    assert page.evaluate(f"{button}.getAttribute('aria-pressed')") == "true"
    page.evaluate(f"{button}.click()")
    assert len(shown(page)) == len(ROWS)


def test_a_text_filters_the_tasks(page: Browser) -> None:
    field = "document.querySelector('.filters input')"
    page.evaluate(f"{field}.value = 'Outcome NET42'; {field}.dispatchEvent(new Event('input'))")
    assert shown(page) == ["net42"]
    page.evaluate(f"{field}.value = 'nowhere'; {field}.dispatchEvent(new Event('input'))")
    assert shown(page) == []
    assert page.evaluate("document.querySelector('.nothing').hidden") is False


def test_failed_tasks_come_first_and_tasks_that_were_not_run_last_and_a_click_sorts_them(page: Browser) -> None:
    passed = {row.name for row in ROWS if row.status == "passed"}
    waiting = {row.name for row in ROWS if row.status == "not run"}
    assert {*shown(page)[-len(waiting) :]} == waiting
    assert {*shown(page)[-len(waiting) - len(passed) : -len(waiting)]} == passed
    page.evaluate("document.querySelectorAll('.tasks thead th')[6].firstElementChild.click()")
    seconds = page.evaluate(f"{VISIBLE}.map(row => parseFloat(row.cells[6].textContent))")
    assert seconds == sorted(row.seconds for row in ROWS)


def test_a_row_links_to_its_certificate(page: Browser) -> None:
    link = f"{VISIBLE}.find(row => row.cells[1].textContent.trim() === 'net7').querySelector('a').getAttribute('href')"
    assert page.evaluate(link) == "tasks/net7/report.html"
    assert page.complaints == []


def test_a_long_outcome_leaves_room_for_the_other_columns(page: Browser) -> None:
    for width in (900, 1000, 1600):
        with page.window(width, 900):
            table = "document.querySelector('.tasks')"
            assert page.evaluate(f"{table}.scrollWidth - {table}.clientWidth") <= 0


def test_the_page_fits_the_width_of_a_phone(page: Browser) -> None:
    page._call(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    )
    try:
        assert page.evaluate("document.documentElement.scrollWidth") == 390
    finally:
        page._call("Emulation.clearDeviceMetricsOverride")
