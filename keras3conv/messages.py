"""Lay out error messages, and write numbers and nouns in sentences."""

import re
from collections.abc import Sequence
from dataclasses import replace

from keras3conv.collapsing import collapse
from keras3conv.errors import Problem
from keras3conv.fixes import joined_fixes, listed_fixes
from keras3conv.width import whole_lists


def collapse_problems(problems: Sequence[Problem]) -> list[Problem]:
    """Collapse problems with the same fact about layers that differ only in numbers; return one problem for each line.

    A collapsed problem has the fixes of the first of its problems. If all problems have the same line of code, its
    comment names all their layers, such as "padding=0  # c1, c2".
    """
    keys = [(problem.fact, bool(problem.torch), bool(problem.keras)) for problem in problems]
    lines = collapse([(problem.torch, problem.keras) for problem in problems], keys)
    return [
        replace(
            problems[line.places[0]],
            torch=line.paths[0],
            keras=line.paths[1],
            fixes=joined_fixes([problems[place].fixes for place in line.places]),
        )
        for line in lines
    ]


def lay_out(headline: str, problems: Sequence[Problem], *, limit: int = 20) -> str:
    """Return an error message: the headline, the problems in aligned columns, and the lines that fix them.

    There are at most two lines, joined by "or" if one problem has both, and by "and" if they fix two problems. One line
    makes all edits of a plan that fix problems.

    Args:
        headline: The first line: the error and the models that it concerns.
        problems: The problems. Repeated blocks become one line, such as "layer{1..4}.conv".
        limit: The number of problems to show, unless `whole_lists`; a last line has the number of those left out.
    """
    first = [(problem.side.strip("()"), problem.fixes[0]) for problem in problems if problem.fixes]
    problems = collapse_problems(problems)
    shown = problems if whole_lists.get() else problems[:limit]
    width = max((len(problem.where) for problem in shown if problem.side), default=0)
    lines = [headline]
    for problem in shown:
        if problem.side:
            lines.append(f"  {problem.where:<{width}}  {problem.side}  {problem.fact}")
        elif problem.where:
            lines += [f"  {problem.where}", f"      {problem.fact}"]
        else:
            lines.append(f"  {problem.fact}")
    if left_out := len(problems) - len(shown):
        lines.append(f"  ... and {left_out} more")
    fixes = list(dict.fromkeys(fix for problem in problems for fix in problem.fixes))
    if fixes:
        edits = _edits_together(first, len(first) if whole_lists.get() else limit)
        fixes = [fixes[0], *(fix for fix in fixes[1:] if fixes[0] not in edits or fix not in edits)][:2]
        is_choice = any(set(fixes) <= set(problem.fixes) for problem in problems)
        fixes = [_PLAN + "".join(edit.removeprefix(_PLAN) for edit in edits) if fix in edits else fix for fix in fixes]
        lines.append(f"Fix:  {listed_fixes(fixes, 'or' if is_choice else 'and')}")
    return "\n".join(lines)


_PLAN = "plan = plan"
_EDIT = re.compile(r'plan = plan\.(?:(pair)\("([^"]*)", "([^"]*)"\)|ignore\("([^"]*)", "[^"]*"(?:, side="\w+")?\))')
"""The pattern of an edit of a plan that needs no transform."""


def _edits_together(fixes: Sequence[tuple[str, str]], limit: int) -> list[str]:
    """Return the edits of a plan that can all be made, as no two name the same layer of one model.

    Args:
        fixes: For each problem, its side and its first line to paste: ("torch", 'plan = plan.pair("fc", "dense")'). A
            line that is no such edit is left out.
        limit: The largest number of edits.
    """
    found: dict[str, None] = {}
    named: set[tuple[str, str]] = set()
    for side, line in fixes:
        if edit := _EDIT.fullmatch(line):
            names = {("torch", edit[2]), ("keras", edit[3])} if edit[1] else {(side, edit[4])}
            if not names & named and len(found) < limit:
                found[line] = None
                named |= names
    return [*found]


_LETTERS = frozenset("AEFHILMNORSX")
"""The letters whose own names begin with a vowel: an LSTM, an RNN."""

_VOWEL = re.compile(r"(?!one|use|eu|uint|uni(?![nm]))[aeiou]", re.IGNORECASE)


def with_article(noun: str) -> str:
    """Return a noun with its article: "an int", "a tuple", "an LSTM", "a UNet"."""
    is_spelled = len(noun) > 1 and noun[:2].isupper()
    takes_an = noun[0] in _LETTERS if is_spelled else _VOWEL.match(noun) is not None
    return f"{'an' if takes_an else 'a'} {noun}"


def count(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: `count(1, "pair") == "1 pair"`, `count(2, "pair") == "2 pairs"`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def how_many_differ(number: int, total: int, noun: str) -> str:
    """Return a clause on the number that differs: "1 of 3 outputs differs", "2 of 3 outputs differ"."""
    return f"{number:,} of {count(total, noun)} {'differs' if number == 1 else 'differ'}"
