"""Show each line to paste of a report once: a section whose problems have a cause that was shown refers to it."""

from collections.abc import Iterator
from dataclasses import replace

from keras3conv.errors import Problem
from keras3conv.report.headline import first_cause
from keras3conv.report.values import Document, Section

_CAUSE = "\n      "
"""The text between the fact of a problem and its cause."""

TOP = "at the top of the report"
"""The place of the cause that a report shows first."""


def told_once(report: Document) -> Iterator[tuple[Section, str]]:
    """Yield each section without the causes and fixes that the report has shown before, and a reference to them.

    The reference is empty, or a sentence such as "The cause and its fix stand at the top of the report.".
    """
    found = first_cause(report)
    cause = found[1] if found else Problem(fact="")
    places = dict.fromkeys(cause.fixes, TOP)
    for section in report.sections:
        problems = [_shortened(problem, cause, places) for problem in section.problems]
        pairs = list(zip(section.problems, problems, strict=True))
        left_out = [fix for old, new in pairs if not new.fixes for fix in old.fixes]
        shown = dict.fromkeys(places[fix] for fix in left_out if fix in places)
        what = "The cause and its fix stand" if any(old.fact != new.fact for old, new in pairs) else "The fix stands"
        yield replace(section, problems=tuple(problems)), f"{what} {' and '.join(shown)}." if shown else ""
        for problem in problems:
            places |= {fix: f"in the section {section.name}" for fix in problem.fixes if fix not in places}


def _shortened(problem: Problem, cause: Problem, places: dict[str, str]) -> Problem:
    """Return a problem without its fixes if these were shown before, and without its cause if it is that of the report.

    Other fixes for the same two layers are the same change in other words, if one line is equal.

    Args:
        problem: The problem.
        cause: The problem that the report shows first.
        places: The fixes that were shown before, each with its place in words.
    """
    known = [fix for fix in problem.fixes if fix in places]
    is_same_pair = (problem.torch, problem.keras) == (cause.torch, cause.keras)
    if not known or (len(known) < len(problem.fixes) and not is_same_pair):
        return problem
    text = cause.fact.rpartition(_CAUSE)[2] if _CAUSE in cause.fact else ""
    fact = problem.fact.removesuffix(f"{_CAUSE}{text}") if text else problem.fact
    return replace(problem, fact=fact, fixes=())
