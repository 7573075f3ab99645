"""Prove that the plan maps every tensor of both models exactly once, or ignores it with a reason."""

from collections import Counter

from keras3conv.alignment.made_for import made_for_others
from keras3conv.alignment.pair import tensors_by_path
from keras3conv.alignment.text import unconfirmed_reason
from keras3conv.collapsing import collapse
from keras3conv.messages import count
from keras3conv.report.values import Section, Table
from keras3conv.validators.running.subject import Subject

CLAIM = "The plan maps every tensor of both models exactly once, to tensors of fitting shape and dtype."


def check(subject: Subject) -> Section:
    """Check that the plan (pairs of torch tensors and Keras variables) fits both models and leaves no tensor out.

    Returns:
        The section of the report.
    """
    plan = subject.plan
    other_models = made_for_others(*zip((plan.torch, plan.keras), subject.outlines, strict=True))
    problems = (*other_models, *plan.problems())
    torch_tensors = sum(len(mapping.torch) for mapping in plan.mappings)
    keras_variables = sum(len(mapping.keras) for mapping in plan.mappings)
    summary = f"{count(torch_tensors, 'torch tensor')} <-> {count(keras_variables, 'Keras variable')}"
    summary += f" in {count(len(plan.pairs), 'pair')}"
    if other_models:
        summary = "the plan is for other models"
    elif problems:
        summary = count(len(problems), "problem")
    decided = Counter(pair.decided_by for pair in plan.pairs)
    facts = {"decided by": ", ".join(f"{kind} {number}" for kind, number in decided.items())}
    if unconfirmed := collapse([(pair.torch,) for pair in plan.pairs if pair.unconfirmed]):
        facts["unconfirmed in the plan"] = ", ".join(line.paths[0] for line in unconfirmed)
    is_open = bool(subject.skip_reason and plan.unconfirmed)  # no proof of this certificate runs the models
    if dtypes := _dtypes(subject):
        facts["dtypes"] = dtypes
    tables = (_pairs(subject), *([_ignored(subject)] if plan.ignored else [])) if not other_models else ()
    return Section(
        name="structure",
        status="failed" if problems else "unconfirmed" if is_open else "passed",
        reason=unconfirmed_reason(plan.unconfirmed) if is_open and not problems else "",
        claim=CLAIM,
        summary=summary,
        facts=facts,
        tables=tables,
        problems=problems,
    )


def _dtypes(subject: Subject) -> str:
    """Return the dtypes that differ between torch and Keras, with numbers of tensors: "float32 <-> float16: 12"."""
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
    return Table(title="ignored tensors", columns=("tensor", "side", "reason"), rows=rows)
