"""Write the overview of a sweep as Markdown, and its rows as lines of text."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from keras3conv.messages import count
from keras3conv.report.cells import visible
from keras3conv.report.markdown import escape, fenced
from keras3conv.report.overview import Change, Difference, Overview, Row
from keras3conv.report.values import GLYPHS

_TITLES: Mapping[Change, str] = {
    "worse": "Worse than before",
    "better": "Better than before",
    "new": "New",
    "gone": "Gone",
}

_FIX = re.compile(r"^ *(Fix:  .*(?:\n *(?:or {4}|and {3}| {6}).*)*)", re.MULTILINE)
"""The pattern of the lines to paste in a message."""


def to_markdown(overview: Overview) -> str:
    """Return the overview as Markdown: what got worse, the totals, the failures, the lines to paste, all tasks."""
    blocks = [f"# Sweep {escape(overview.name)}", f"**{GLYPHS[overview.status]} {overview.verdict}**: {overview.tally}"]
    blocks += _changes(overview)
    if overview.first_failures:
        rows = [(escape(name), str(number)) for name, number in overview.first_failures.items()]
        blocks += ["## What failed first", _table(("what", "tasks"), rows)]
    if fixes := _fixes(overview):
        blocks += ["## Lines to paste", *fixes]
    if overview.rows:
        header = ("task", "status", "outcome", "models", "backend", "dtype", "seconds", "memory")
        blocks += ["## All tasks", _table(header, [_full(row) for row in overview.failed_first])]
    if overview.environment:
        listing = ", ".join(f"{escape(name)} {escape(value)}" for name, value in overview.environment.items())
        blocks.append(f"**Environment**: {listing}")
    return "\n\n".join(blocks) + "\n"


def to_text(overview: Overview, folder: str | Path = "") -> str:
    """Return the text that ends a sweep on a terminal: tasks that got worse, the totals, the failed tasks.

    Args:
        overview: The results of the sweep.
        folder: The folder of the results, with which the paths of reports and logs begin.
    """
    lines = []
    for one in overview.with_change("worse"):
        lines += [
            f"worse: {visible(one.name)}",
            f"    before  {visible(one.before)}",
            f"    now     {visible(one.now)}",
        ]
    if overview.earlier is not None:
        counted = [f"{len(overview.with_change(change))} {change}" for change in ("worse", "better", "new", "gone")]
        lines += [f"compared with the earlier sweep: {', '.join(counted)}", ""]
    lines.append(f"{GLYPHS[overview.status]} {overview.verdict}: {overview.tally}")
    if overview.first_failures:
        parts = (f"{name} ({count(number, 'task')})" for name, number in overview.first_failures.items())
        lines.append(f"the first thing that failed: {', '.join(parts)}")
    width = max((len(row.name) for row in overview.not_passed), default=0)
    for row in overview.not_passed:
        lines.append(f"  {visible(row.name):<{width}}  {row.status:<13}  {visible(row.outcome)}".rstrip())
        if row.report or row.log:
            lines.append(f"  {'':<{width}}  {'':<13}  see {visible(str(Path(folder, row.report or row.log)))}")
    return "\n".join(lines)


def row_line(row: Row, done: int, total: int) -> str:
    """Return the line that is printed when a task ends, such as "  3/12  ✓ passed  resnet  4.2 s  7 passed"."""
    width = len(str(total))
    status = f"{GLYPHS[row.tone]} {row.status}"
    parts = (
        f"{done:>{width}}/{total}",
        f"{status:<15}",
        visible(row.name),
        f"{row.seconds:.1f} s",
        visible(row.outcome),
    )
    return "  ".join(parts).rstrip()


def _changes(overview: Overview) -> Iterator[str]:
    if overview.earlier is None:
        return
    if not overview.differences:
        yield "Nothing changed since the earlier sweep."
    for change, title in _TITLES.items():
        if found := overview.with_change(change):
            yield f"## {title}: {count(len(found), 'task')}"
            yield _table(("task", "before", "now"), [_change(one) for one in found])


def _fixes(overview: Overview) -> list[str]:
    """Return the lines to paste in the messages of tasks that did not pass, each after the tasks that have it."""
    found: dict[str, list[str]] = {}
    for row in overview.not_passed:
        if lines := "\n".join(dict.fromkeys(_FIX.findall(row.message))):
            found.setdefault(visible(lines, keep="\n"), []).append(_linked(row))
    return [f"{', '.join(tasks)}:\n\n{fenced(lines)}" for lines, tasks in found.items()]


def _change(one: Difference) -> Sequence[str]:
    return escape(one.name), escape(one.before), escape(one.now)


def _full(row: Row) -> Sequence[str]:
    status = f"{GLYPHS[row.tone]} {row.status}"
    memory = f"{row.peak_memory / 1024**2:,.0f} MiB" if row.peak_memory else "-"
    shown = (escape(row.outcome), escape(row.sides), row.backend or "-", row.dtype, f"{row.seconds:.1f}", memory)
    return _linked(row), status, *shown


def _linked(row: Row) -> str:
    target = row.report or row.log
    return f"[{escape(row.name)}]({target})" if target else escape(row.name)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [columns, ["---"] * len(columns), *rows])
