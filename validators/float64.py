"""The two models compute the same function: both run in float64, under weights that hide nothing."""

from keras3conv.compare import FLOAT64_LIMIT, NOT_FINITE, Diff, compare
from keras3conv.errors import Problem, count
from keras3conv.report import Plot, Section, Series, Table
from keras3conv.validators.diagnosis import explain_end, first_to_blame
from keras3conv.validators.ends import output_pairs
from keras3conv.validators.layers import Meeting, meetings
from keras3conv.validators.neighbours import NOTE, made_up_for
from keras3conv.validators.subject import Subject

CLAIM = (
    "Both models compute the same function: in float64, under probe weights, every layer and every output agree "
    f"to {FLOAT64_LIMIT:g} of the largest value."
)


def check(subject: Subject) -> Section:
    """Compares every layer and every output of both models in float64."""
    if subject.not_run:
        return Section(name="float64", status="skipped", claim=CLAIM, summary="not run", reason=subject.not_run)
    met = list(meetings(subject, subject.torch_probe, subject.keras_probe))
    diffs = [None if meeting.odd else _compare(meeting) for meeting in met]
    differing = [place for place, diff in enumerate(diffs) if not _agrees(diff)]
    completed = made_up_for(subject) if differing else frozenset()
    bad = [place for place in differing if _key(met[place]) not in completed]
    ends, worst, end_problems = _ends(subject, explained=all(met[place].odd for place in bad))
    problems = [_layer_problem(subject, met, diffs, bad)] if bad else []
    problems += end_problems
    plot = Plot(
        title="relative error along the depth, float64, probe weights",
        labels=tuple(meeting.pair.torch for meeting in met),
        series=(Series(name="relative error", values=tuple(diff.max_rel if diff else None for diff in diffs)),),
        unit="relative error",
        failed=tuple(bad),
    )
    judged = [diff for meeting, diff in zip(met, diffs, strict=True) if _key(meeting) not in completed]
    summary = f"outputs agree to {worst:.2g}, {count(len(judged), 'layer call')} to {_largest(judged):.2g}"
    summary += f", {len(met) - len(judged)} are completed by a layer beside them" if completed else ""
    return Section(
        name="float64",
        status="failed" if problems else "passed",
        claim=CLAIM,
        summary=f"{len(bad)} of {len(met)} layer calls and {len(end_problems)} outputs differ" if problems else summary,
        tables=(ends, _table(met, diffs, bad, completed)),
        plots=(plot,) if met else (),
        problems=tuple(problems),
    )


def _compare(meeting: Meeting) -> Diff:
    assert meeting.torch is not None
    assert meeting.keras is not None
    return compare(meeting.keras, meeting.torch)


def _agrees(diff: Diff | None) -> bool:
    return diff is not None and diff.max_rel <= FLOAT64_LIMIT and diff.nonfinite == 0


def _said(diff: Diff) -> str:
    return f"in {NOT_FINITE}" if diff.nonfinite else f"by {diff.max_rel:.2g} of the largest value"


def _largest(diffs: list[Diff | None]) -> float:
    return max((diff.max_rel for diff in diffs if diff), default=0.0)


def _layer_problem(subject: Subject, met: list[Meeting], diffs: list[Diff | None], bad: list[int]) -> Problem:
    place, found = first_to_blame(subject, met, bad, subject.probe_weights)
    meeting, diff = met[place], diffs[place]
    beside = "" if place == bad[0] else " and that no layer beside it completes"
    fact = f"the first layer that differs{beside}: "
    fact += meeting.odd if diff is None else _said(diff)
    return Problem(
        torch=meeting.pair.torch,
        keras=meeting.pair.keras,
        fact=f"{fact}\n      {found.cause}" if found else fact,
        fixes=found.fixes if found else (),
    )


def _ends(subject: Subject, *, explained: bool) -> tuple[Table, float, list[Problem]]:
    """The outputs of the whole models: a table, the worst relative error, and what is wrong.

    Where a layer differs already, that is the cause; where none does (`explained`), the cause stands after the last.
    """
    rows: list[tuple[str, str, float | None, str]] = []
    problems = []
    worst = 0.0
    for pair in output_pairs(subject.torch_probe, subject.keras_probe):
        diff = None if pair.odd else compare(pair.keras, pair.torch)
        worst = max(worst, diff.max_rel if diff else float("inf"))
        good = _agrees(diff)
        rows.append((pair.name, pair.layout, diff.max_rel if diff else None, "passed" if good else "failed"))
        if not good:
            fact = f"differs {_said(diff)}" if diff else pair.odd
            found = explain_end(subject, pair, subject.probe_weights) if explained and not pair.odd else None
            fact = f"{fact}\n      {found.cause}" if found else fact
            fixes = found.fixes if found else ()
            problems.append(Problem(torch=pair.torch_name, keras=pair.keras_name, fact=fact, fixes=fixes))
    columns = ("output", "layout", "relative error", "status")
    return Table(title="outputs", columns=columns, rows=tuple(rows)), worst, problems


def _key(meeting: Meeting) -> tuple[str, str]:
    return meeting.pair.torch, meeting.pair.keras


def _table(
    met: list[Meeting], diffs: list[Diff | None], bad: list[int], completed: frozenset[tuple[str, str]]
) -> Table:
    rows = tuple(
        (
            meeting.pair.torch,
            meeting.pair.keras,
            diff.max_rel if diff else None,
            NOTE if _key(meeting) in completed else meeting.odd,
        )
        for meeting, diff in zip(met, diffs, strict=True)
    )
    return Table(title="layers", columns=("torch", "keras", "relative error", "note"), rows=rows, failed=tuple(bad))
