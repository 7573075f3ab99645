"""Write a report as GitHub Markdown. All names are escaped."""

import re
from collections.abc import Iterable, Iterator, Mapping

from keras3conv.messages import lay_out
from keras3conv.report.cells import show, visible
from keras3conv.report.grids import arrange
from keras3conv.report.headline import counted, first_cause, is_certificate, key_facts
from keras3conv.report.limits import LIMITS, PAGE, TITLE
from keras3conv.report.repeats import told_once
from keras3conv.report.sketch import sketch
from keras3conv.report.text import ANSWER_COLUMNS, answer_rows, problems_of
from keras3conv.report.values import GLYPHS, Document, Section, Table

_MARKUP = re.compile(r"[\\`*\[\]|~]|(?<![^\W_])_|_(?![^\W_])")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def write(report: Document) -> str:
    """Return the report as Markdown: the verdict, a table of the sections, then every section in full."""
    status = report.status
    blocks = [f"# {escape(report.title)}", f"**{GLYPHS[status]} {report.verdict}**: {counted(report)}"]
    if cause := first_cause(report):
        blocks.append(fenced(visible(lay_out("", [cause[1]]).lstrip("\n"), keep="\n")))
    if about := key_facts(report):
        blocks.append(_listed(about))
    certificate = [[_mark(part), escape(part.name), escape(part.outcome)] for part in report.sections]
    if certificate:
        blocks.append(_grid(["status", "section", "outcome"], [False] * 3, certificate))
    for section, reference in told_once(report):
        blocks += _section(section, reference)
    if report.files:
        rows = [
            [escape(file.path), f"{file.size:,}", f"`{visible(file.sha256)}`", f"`{visible(file.md5)}`"]
            for file in report.files
        ]
        blocks += ["## Files", _grid(["file", "bytes", "sha256", "md5"], [False, True, False, False], rows)]
    if report.notes:
        blocks += ["## Notes", "\n".join(f"- Note: {escape(note)}" for note in report.notes)]
    if report.seconds:
        listing = ", ".join(f"{escape(name)} {value:.2f} s" for name, value in report.seconds.items())
        blocks.append(f"**Time**: {listing}")
    if report.environment:
        listing = ", ".join(f"{escape(name)} {escape(value)}" for name, value in report.environment.items())
        blocks.append(f"**Environment**: {listing}")
    if is_certificate(report):
        blocks += [f"## {TITLE}", "\n".join(f"- {limit}" for limit in LIMITS), f"With examples: `{PAGE}`"]
    return "\n\n".join(blocks) + "\n"


def escape(text: str) -> str:
    """Return a text with Markdown and HTML escaped; underscores inside a word mean nothing in Markdown and stay."""
    bare = "".join(_ENTITIES.get(letter, letter) for letter in visible(text.replace("\n", " ")))
    return _MARKUP.sub(lambda match: "\\" + match.group(), bare)


def _section(section: Section, reference: str) -> Iterator[str]:
    yield f"## {GLYPHS[section.status]} {escape(section.name)}"
    yield f"**{section.status}**: {escape(section.outcome)}"
    if section.claim:
        yield f"*Claim*: {escape(section.claim)}"
    if section.facts:
        yield _listed(section.facts)
    if section.problems:
        yield fenced(problems_of(section, reference))
    for plot in section.plots:
        yield fenced("\n".join(sketch(plot)))
    for table in section.tables:
        if table.title:
            yield f"**Table**: {escape(table.title)}"
        yield table_of(table)
    if section.pictures:
        rows = [[escape(show(cell)) for cell in row] for row in answer_rows(section)]
        yield _grid(list(ANSWER_COLUMNS), [False, True, False, True, False, True], rows)


def table_of(table: Table) -> str:
    """Return a table as a Markdown table, with the column of verdicts first."""
    grid = arrange(table)
    rows = ([escape(show(cell)) for cell in row.cells] for row in grid.rows)
    names = [escape(column.name) for column in grid.columns]
    return _grid(names, [column.is_numeric for column in grid.columns], rows)


def _grid(columns: list[str], numeric: list[bool], rows: Iterable[list[str]]) -> str:
    rule = ["---:" if right else "---" for right in numeric]
    return "\n".join(f"| {' | '.join(row)} |" for row in [columns, rule, *rows])


def _listed(facts: Mapping[str, str]) -> str:
    return "\n".join(f"- *{escape(name)}*: {escape(fact)}" for name, fact in facts.items())


def fenced(text: str) -> str:
    """Return a text as a code block, with a fence longer than any run of backticks in the text."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def _mark(section: Section) -> str:
    return f"{GLYPHS[section.status]} {section.status}"
