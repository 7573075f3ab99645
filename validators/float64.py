"""The two models compute the same function: both run in float64, under weights that hide nothing."""

from dataclasses import replace

from keras3conv.errors import Problem
from keras3conv.messages import count
from keras3conv.numerics.difference import FLOAT64_LIMIT, NOT_FINITE, Diff, compare
from keras3conv.report.values import Plot, Section, Series, Table
from keras3conv.validators.diagnosis.search import explain_end, first_to_blame
from keras3conv.validators.running.ends import output_pairs
from keras3conv.validators.running.magnitudes import at_size, other_sizes
from keras3conv.validators.running.meetings import Meeting, meetings
from keras3conv.validators.running.neighbours import NOTE, made_up_for
from keras3conv.validators.running.repeats import LARGEST, Repeats
from keras3conv.validators.running.repeats import NOTE as ROUNDING
from keras3conv.validators.running.subject import Subject

CLAIM = (
    "Both models compute the same function: in float64, under probe weights, every layer and every output agree "
    f"to {FLOAT64_LIMIT:g} of the largest value."
)

OTHER_CLAIM = " They do so again at values of another size: beside small ones an epsilon is large."


def check(subject: Subject) -> Section:
    """Compares every layer and every output of both models in float64, and again at other sizes of all values.

    What is caught: a relative change of 1e-6 in a number that a layer computes with, and in an epsilon that is added
    to a variance, if it is 1e-10 or more; of one of 1e-12, a change of 1e-3. What is not: a number that no value of
    the runs is compared with (the lower limit of a norm that no vector falls below), and an epsilon beside a variance
    that no weight and no input makes small.
    """
    if subject.not_run:
        return Section(name="float64", status="skipped", claim=CLAIM, summary="not run", reason=subject.not_run)
    found = _judge(subject, subject)
    for size in other_sizes(subject) if found.status == "passed" else ():
        found = _joined(found, subject, size)
        if found.status == "failed":
            break
    return found


def _joined(found: Section, subject: Subject, size: float) -> Section:
    """What was found so far, and what a run at another size of values adds to it."""
    resized = at_size(subject, size)
    if resized.subject is None:
        return replace(found, summary=f"{found.summary}; not run at values of {size:.1g}: {resized.reason}")
    again = _judge(resized.subject, subject, f", at values of {size:.1g}")
    if again.status == "failed":
        return again
    return replace(found, claim=CLAIM + OTHER_CLAIM, summary=f"{found.summary}; {again.summary}")


def _judge(subject: Subject, given: Subject, where: str = "") -> Section:
    """Compares one run of both models.

    What completes a layer is told from the inputs that were `given`: small values hide what an activation does.

    Args:
        subject: The models in that run.
        given: The models in the run on the inputs that were given.
        where: At which size of values, if not at that of the inputs.
    """
    met = list(meetings(subject, subject.torch_probe, subject.keras_probe))
    diffs = [None if meeting.odd else _compare(meeting) for meeting in met]
    differing = [place for place, diff in enumerate(diffs) if not _agrees(diff)]
    completed = made_up_for(given) if differing else frozenset()
    repeats = Repeats(subject)
    rounding = frozenset(
        place for place in differing if _may_be_rounding(diffs[place]) and not repeats.call(place, met[place])
    )
    bad = [place for place in differing if _key(met[place]) not in completed and place not in rounding]
    ends, worst, end_problems = _ends(subject, repeats, where, explained=all(met[place].odd for place in bad))
    problems = [_layer_problem(subject, met, diffs, bad, where)] if bad else []
    problems += end_problems
    plot = Plot(
        title=f"relative error along the depth, float64, probe weights{where}",
        labels=tuple(meeting.pair.torch for meeting in met),
        series=(Series(name="relative error", values=tuple(diff.max_rel if diff else None for diff in diffs)),),
        unit="relative error",
        failed=tuple(bad),
    )
    notes = [_note(place, meeting, completed, rounding) for place, meeting in enumerate(met)]
    judged = [diff for note, diff in zip(notes, diffs, strict=True) if note not in (NOTE, ROUNDING)]
    summary = f"outputs agree to {worst:.2g}, {count(len(judged), 'layer call')} to {_largest(judged):.2g}"
    summary += f", {notes.count(NOTE)} are completed by a layer beside them" if completed else ""
    summary += f", {notes.count(ROUNDING)} differ by rounding alone" if rounding else ""
    if problems:
        summary = f"{len(bad)} of {len(met)} layer calls and {len(end_problems)} outputs differ"
    return Section(
        name="float64",
        status="failed" if problems else "passed",
        claim=CLAIM,
        summary=f"{summary}{where}",
        tables=(ends, _table(met, diffs, notes, bad, where)),
        plots=(plot,) if met else (),
        problems=tuple(problems),
    )


def _compare(meeting: Meeting) -> Diff:
    assert meeting.torch is not None
    assert meeting.keras is not None
    return compare(meeting.keras, meeting.torch)


def _may_be_rounding(diff: Diff | None) -> bool:
    return diff is not None and diff.max_rel <= LARGEST and diff.nonfinite == 0


def _note(place: int, meeting: Meeting, completed: frozenset[tuple[str, str]], rounding: frozenset[int]) -> str:
    if _key(meeting) in completed:
        return NOTE
    return ROUNDING if place in rounding else meeting.odd


def _agrees(diff: Diff | None) -> bool:
    return diff is not None and diff.max_rel <= FLOAT64_LIMIT and diff.nonfinite == 0


def _said(diff: Diff) -> str:
    return f"in {NOT_FINITE}" if diff.nonfinite else f"by {diff.max_rel:.2g} of the largest value"


def _largest(diffs: list[Diff | None]) -> float:
    return max((diff.max_rel for diff in diffs if diff), default=0.0)


def _layer_problem(
    subject: Subject, met: list[Meeting], diffs: list[Diff | None], bad: list[int], where: str
) -> Problem:
    place, found = first_to_blame(subject, met, bad, subject.probe_weights)
    meeting, diff = met[place], diffs[place]
    beside = "" if place == bad[0] else " and that no layer beside it completes"
    fact = f"the first layer that differs{beside}: "
    fact += meeting.odd if diff is None else f"{_said(diff)}{where}"
    return Problem(
        torch=meeting.pair.torch,
        keras=meeting.pair.keras,
        fact=f"{fact}\n      {found.cause}" if found else fact,
        fixes=found.fixes if found else (),
    )


def _ends(subject: Subject, repeats: Repeats, where: str, *, explained: bool) -> tuple[Table, float, list[Problem]]:
    """The outputs of the whole models: a table, the worst relative error, and what is wrong.

    Where a layer differs already, that is the cause; where none does (`explained`), the cause stands after the last.
    """
    rows: list[tuple[str, str, float | None, str]] = []
    problems = []
    worst = 0.0
    for place, pair in enumerate(output_pairs(subject.torch_probe, subject.keras_probe)):
        diff = None if pair.odd else compare(pair.keras, pair.torch)
        rounding = not _agrees(diff) and _may_be_rounding(diff) and not repeats.end(place, pair)
        good = rounding or _agrees(diff)
        worst = worst if rounding else max(worst, diff.max_rel if diff else float("inf"))
        rows.append((pair.name, pair.layout, diff.max_rel if diff else None, "passed" if good else "failed"))
        if not good:
            fact = f"differs {_said(diff)}{where}" if diff else pair.odd
            found = explain_end(subject, pair, subject.probe_weights) if explained and not pair.odd else None
            fact = f"{fact}\n      {found.cause}" if found else fact
            fixes = found.fixes if found else ()
            problems.append(Problem(torch=pair.torch_name, keras=pair.keras_name, fact=fact, fixes=fixes))
    columns = ("output", "layout", "relative error", "status")
    return Table(title=f"outputs{where}", columns=columns, rows=tuple(rows)), worst, problems


def _key(meeting: Meeting) -> tuple[str, str]:
    return meeting.pair.torch, meeting.pair.keras


def _table(met: list[Meeting], diffs: list[Diff | None], notes: list[str], bad: list[int], where: str) -> Table:
    rows = tuple(
        (meeting.pair.torch, meeting.pair.keras, diff.max_rel if diff else None, note)
        for meeting, diff, note in zip(met, diffs, notes, strict=True)
    )
    return Table(
        title=f"layers{where}", columns=("torch", "keras", "relative error", "note"), rows=rows, failed=tuple(bad)
    )
