"""Every tensor of both sides has one place, or a reason why it has none."""

from collections import Counter

from keras3conv.alignment.pair import tensors_by_path
from keras3conv.alignment.staging import differences
from keras3conv.errors import Problem
from keras3conv.messages import count
from keras3conv.report.values import Section, Table
from keras3conv.validators.running.subject import Subject

CLAIM = "Every tensor of both models has exactly one place, with the shape and the dtype that it needs."


def check(subject: Subject) -> Section:
    """Judges the plan itself."""
    plan = subject.plan
    others = _of_other_models(subject)
    problems = (*others, *plan.problems())
    placed = sum(len(mapping.torch) for mapping in plan.mappings), sum(len(mapping.keras) for mapping in plan.mappings)
    summary = f"{placed[0]} torch tensors <-> {placed[1]} Keras variables in {len(plan.pairs)} pairs"
    decided = Counter(pair.decided_by for pair in plan.pairs)
    facts = {"decided by": ", ".join(f"{kind} {number}" for kind, number in decided.items())}
    if unconfirmed := [pair.torch for pair in plan.pairs if pair.unconfirmed]:
        facts["unconfirmed until the float64 proof"] = ", ".join(unconfirmed)
    if dtypes := _dtypes(subject):
        facts["dtypes"] = dtypes
    tables = (_pairs(subject), _ignored(subject)) if plan.ignored else (_pairs(subject),)
    return Section(
        name="structure",
        status="failed" if problems else "passed",
        claim=CLAIM,
        summary=_failed(len(others), len(problems)) if problems else summary,
        facts=facts,
        tables=tables,
        problems=problems,
    )


def _of_other_models(subject: Subject) -> tuple[Problem, ...]:
    """What tells that the plan was made for other models than these."""
    sides = zip((subject.plan.torch, subject.plan.keras), subject.outlines, strict=True)
    return tuple(problem for planned, found in sides for problem in differences(planned, found))


def _failed(others: int, problems: int) -> str:
    if others:
        return f"the plan is for other models ({count(others, 'difference')})"
    return f"{problems} of the tensors have no place"


def _dtypes(subject: Subject) -> str:
    """The dtypes that change on the way, if any do."""
    torch, keras = map(tensors_by_path, subject.outlines)
    changes = Counter(
        (torch[mapping.torch[0]].dtype, keras[mapping.keras[0]].dtype)
        for mapping in subject.plan.mappings
        if mapping.keras and mapping.torch and mapping.torch[0] in torch and mapping.keras[0] in keras
    )
    return ", ".join(f"{old} <-> {new}: {number}" for (old, new), number in changes.items() if old != new)


def _pairs(subject: Subject) -> Table:
    rows = tuple(
        (pair.torch, pair.keras, pair.rule.split(" <-> ")[1].rpartition(".")[2], pair.decided_by, len(pair.weights))
        for pair in subject.plan.pairs
    )
    return Table(title="alignment", columns=("torch", "keras", "layer", "decided by", "tensors"), rows=rows)


def _ignored(subject: Subject) -> Table:
    rows = tuple((entry.path, entry.side, entry.reason) for entry in subject.plan.ignored)
    return Table(title="left out on purpose", columns=("tensor", "side", "reason"), rows=rows)
