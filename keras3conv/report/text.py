"""Write a report as plain text, or print it in colour on a terminal."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from keras3conv.errors import Problem
from keras3conv.messages import count, lay_out
from keras3conv.report.cells import visible
from keras3conv.report.fitting import SENTENCE, STEP, fitted_grid, lines_of
from keras3conv.report.grids import arrange
from keras3conv.report.headline import counted, first_cause, is_certificate, key_facts
from keras3conv.report.limits import LIMITS, TITLE
from keras3conv.report.repeats import told_once
from keras3conv.report.sketch import sketch
from keras3conv.report.values import EACH_PAIR, GLYPHS, Cell, Document, Plot, Section, Table
from keras3conv.width import folded
from keras3conv.writing.digests import WrittenFile

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

WIDTH = 110
"""The width of the plain text in a file, in characters, and the largest width of a printed report."""

ROWS = 20
"""The number of rows to which a longer table is cut; failed rows are always shown."""

_DETAILED = ("failed", "unconfirmed")
"""The statuses of the sections that a brief report shows with all details."""

_BRIEF_ROWS = 8
"""The number of rows to which a brief report cuts a table."""

_PROBLEMS = {"roundtrip": 3, "gradients": 3}
"""The number of problems shown in a brief report, for a section whose problems are alike; other sections show all."""

_ALIKE = 20
"""The number of problems shown in a full report, for such a section: a model may have thousands of gradients."""

_ASCII = str.maketrans("✓✗–·×─▁▂▃▄▅▆▇█", "+x-.x-12345678")
_STYLES: Mapping[str, str] = {
    "passed": "green",
    "failed": "bold red",
    "unconfirmed": "yellow",
    "skipped": "yellow",
    "info": "blue",
}


def write(report: Document, *, brief: bool = False, complete: bool = False, width: int = WIDTH) -> str:
    """Return a report as plain text.

    Args:
        report: The report.
        brief: Whether to leave out details of sections that passed, except their facts.
        complete: Whether to write every row of a long table.
        width: The largest number of characters in a line.
    """
    from rich.console import Console

    stream = io.StringIO()
    console = Console(file=stream, width=width, color_system=None, force_terminal=False, force_jupyter=False)
    render(report, console, brief=brief, complete=complete)
    return "\n".join(line.rstrip() for line in stream.getvalue().rstrip().split("\n"))


def render(report: Document, console: "Console", *, brief: bool = False, complete: bool = False) -> None:
    """Print a report: the overall status, a line for every section, then the details.

    If the report passed, the first lines also have the date, output difference, inputs, versions and digests. If it
    failed, they have the first layer that differs, the cause and the suggested fix.

    Args:
        report: The report.
        console: The terminal to print to.
        brief: Whether to leave out details of sections that passed, except their facts.
        complete: Whether to print every row of a long table.
    """
    status, cause, about = report.status, first_cause(report), key_facts(report)
    _print(console, visible(report.title), style="bold")
    _print(console, f"{GLYPHS[status]} {report.verdict}: {counted(report)}", style=_STYLES[status])
    if cause:
        _print(console, _indented(_laid_out(cause[1], console.width - 2)), style="red")
    else:
        _print_facts(about, console)
    console.print()
    _print_overview(report, console)
    if cause and about:
        console.print()
        _print_facts(about, console)
    for section, reference in told_once(report):
        if not brief or section.status in _DETAILED:
            _render_section(section, console, reference, brief=brief, complete=complete)
    others = [part for part in report.sections if brief and part.status not in _DETAILED]
    facts = [f"{part.name}, {name}: {fact}" for part in others for name, fact in part.facts.items()]
    _print_list("Facts", [line for fact in facts for line in _wrapped(visible(fact), console)], console)
    for part in others:
        for table in (table for table in part.tables if table.title == EACH_PAIR):
            _render_table(replace(table, title=f"{part.name}, {EACH_PAIR}"), console, brief=True)
    others_said = [note for note in report.notes if note not in about.values()]
    notes = [line for note in others_said for line in _wrapped(visible(note), console)]
    _print_list("Files", [line for file in report.files for line in _file(file)], console)
    _print_list("Notes", notes, console)
    if not brief:
        _print_list("Environment", _wrapped(_listing(report.environment), console), console)
    if is_certificate(report):
        said = [f"{LIMITS[0]} --verbose lists all {len(LIMITS)} limits."] if brief else LIMITS
        _print_list(TITLE, [line for limit in said for line in _wrapped(limit, console)], console)


def problems_of(section: Section, reference: str, width: int = WIDTH, *, brief: bool = False) -> str:
    """Return the problems of a section as text, laid out in aligned columns like an error message.

    Args:
        section: The section.
        reference: A sentence that says where their causes and fixes stand, for the last line; may be empty.
        width: The largest number of characters in a line.
        brief: Whether to show only the first problems of a section whose problems are all alike.
    """
    problems = section.problems
    limit = len(problems)
    if section.name in _PROBLEMS:
        limit = _PROBLEMS[section.name] if brief else _ALIKE
    # The summary has the numbers, and says what they count; one problem may be about several of these things, or none.
    heading = "Problem:" if len(problems) == 1 else "Problems:"
    text = visible(lay_out(heading, problems, limit=limit), keep="\n")
    return folded("\n".join(filter(None, (text, reference))), width)


def _laid_out(problem: Problem, width: int) -> str:
    """Return one problem as text, laid out like a line of an error message."""
    return folded(visible(lay_out("", [problem], limit=1).lstrip("\n"), keep="\n"), width)


ANSWER_COLUMNS = ("sample", "rank", "torch", "torch's score", "keras", "keras' score")
"""The names of the columns of `answer_rows`."""


def answer_rows(section: Section) -> Iterator[tuple[Cell, ...]]:
    """Yield a row for each sample and rank: caption, rank, torch class and score, Keras class and score."""
    for picture in section.pictures:
        for rank, answer in enumerate(picture.answers, 1):
            yield picture.caption, rank, answer.first, answer.first_score, answer.second, answer.second_score


def _print_overview(report: Document, console: "Console") -> None:
    """Print a line for every section: its status, its name and its outcome, which may take several lines."""
    marks = [f"  {GLYPHS[section.status]} {section.status}" for section in report.sections]
    names = [visible(section.name) for section in report.sections]
    first, second = (max(map(len, column), default=0) for column in (marks, names))
    for section, mark, name in zip(report.sections, marks, names, strict=True):
        text = _beside(visible(section.outcome), first + second + 4, console)
        _print(console, f"{mark:<{first}}", style=_STYLES[section.status], end="")
        _print(console, f"  {name:<{second}}  {text}".rstrip())


def _render_section(section: Section, console: "Console", reference: str, *, brief: bool, complete: bool) -> None:
    """Print the details of a section; print nothing for a section without details beyond its line in the overview.

    `reference` says where the causes and fixes of its problems stand, if not here.
    """
    if not (section.claim or section.facts or section.problems or section.plots or section.tables or section.pictures):
        return
    heading = f"\n{GLYPHS[section.status]} {visible(section.name)}"
    _print(console, heading, style=f"bold {_STYLES[section.status]}")
    if section.claim:
        _print(console, _indented("\n".join(_wrapped(visible(section.claim), console))))
    _print_facts(section.facts, console)
    if section.problems:
        _print(console, _indented(problems_of(section, reference, console.width - 2, brief=brief)), style="red")
    for plot in section.plots:
        _print(console, "\n" + _indented("\n".join(_sketched(plot, console.width - 2))))
    for table in section.tables:
        _render_table(table, console, brief=brief, complete=complete)
    if section.pictures:
        table = Table(title="answers", columns=ANSWER_COLUMNS, rows=tuple(answer_rows(section)))
        _render_table(table, console, complete=complete)


def _sketched(plot: Plot, width: int) -> list[str]:
    """Return the lines of a plot as text; the title and the remarks are wrapped to a width, the curves are not."""
    title, *rest = sketch(plot, width)
    number = sum(not series.is_limit for series in plot.series)
    curves, remarks = rest[:number], rest[number:]
    return [folded(title, width), *curves, *(folded(remark, width) for remark in remarks)]


def _render_table(table: Table, console: "Console", *, brief: bool = False, complete: bool = False) -> None:
    """Print a table; a brief one has only its first rows, those that failed before the others."""
    if table.title:
        _print(console, f"\n  {visible(table.title)}", style="italic")
    grid = arrange(table)
    quiet = 0 if complete else grid.quiet
    listed = [row for row in grid.rows if not (quiet and row.is_quiet)]
    shown = [row for place, row in enumerate(listed) if complete or place < ROWS or row.failed]
    if brief:
        shown = ([row for row in listed if row.failed] or listed)[:_BRIEF_ROWS]
    fitted = fitted_grid(grid, shown, console.width - 2)
    for line in fitted.head:
        _print(console, f"  {line}", style="bold")
    for row, lines in zip(shown, fitted.rows, strict=True):
        _print(console, _indented("\n".join(lines)), style="red" if row.failed else "")
    if rest := len(listed) - len(shown):
        _print(console, f"  ... {count(rest, 'more row')}", style="dim")
    if quiet:
        _print(console, f"  ... {count(quiet, 'row')} {' or '.join(grid.quiet_words)}", style="dim")


def _print_facts(facts: Mapping[str, str], console: "Console") -> None:
    """Print facts in two columns, the name of a fact and its text; a long text takes several lines."""
    width = max((len(visible(name)) for name in facts), default=0)
    for name, fact in facts.items():
        text = _beside(visible(fact), width + 4, console)
        _print(console, f"  {visible(name):<{width}}  {text}".rstrip())


def _beside(text: str, indent: int, console: "Console") -> str:
    """Return a text to print after a label; it begins with a line break if a word does not fit beside the label.

    Args:
        text: The text; long ones take several lines.
        indent: The width of the label, and the indentation of the other lines.
        console: The terminal to print to.
    """
    room = console.width - indent
    if room < SENTENCE or any(len(word) > room for word in text.split()):
        indent, room = STEP, console.width - STEP
        return "".join(f"\n{' ' * indent}{line}" for line in lines_of(text, room))
    return f"\n{' ' * indent}".join(lines_of(text, room))


def _print_list(heading: str, lines: list[str], console: "Console") -> None:
    if lines:
        _print(console, f"\n{heading}", style="bold")
        _print(console, _indented("\n".join(lines)))


def _file(file: WrittenFile) -> list[str]:
    heading = f"{visible(file.path)}  {count(file.size, 'byte')}"
    return [heading, f"  sha256  {visible(file.sha256)}", f"  md5     {visible(file.md5)}"]


def _listing(environment: Mapping[str, str]) -> str:
    return ", ".join(f"{visible(name)} {visible(value)}" for name, value in environment.items())


def _wrapped(text: str, console: "Console") -> list[str]:
    """Return a text as lines that fit the console after an indent of two characters; long words are not split."""
    return lines_of(text, max(SENTENCE, console.width - 2))


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.split("\n"))


def _print(console: "Console", text: str, style: str = "", end: str = "\n") -> None:
    """Print a text without wrapping, so that code to paste stays on one line."""
    console.print(_text(text, console, style), soft_wrap=True, end=end)


def _text(text: str, console: "Console", style: str = "") -> "Text":
    """Return a rich `Text` of characters that the console can encode, in which brackets are not read as markup."""
    from rich.text import Text

    if console.options.ascii_only:
        text = text.translate(_ASCII).encode("ascii", "backslashreplace").decode()
    return Text(text, style=style)
