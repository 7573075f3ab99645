"""Every hyper-parameter of every pair of layers, side by side.

Where two layers say a thing in other words, it may be because of their neighbours: a padding that Keras has as a layer
of its own. So a field that differs is judged by what the pair computes. It is the neighbours' doing if the Keras layer,
fed with what torch recorded, gives what torch gave, in float64. What no output shows, because it counts in training
only, is found by an experiment: the torch layer is run again with the value of the Keras side; if nothing changes, the
float64 proof is no witness for this field.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal

from keras3conv.alignment.audit import FieldPair
from keras3conv.errors import Problem
from keras3conv.messages import count
from keras3conv.numerics.difference import FLOAT64_LIMIT, compare
from keras3conv.report.values import Cell, Section, Table
from keras3conv.transforms import Arrays
from keras3conv.validators.running.local import local_probe
from keras3conv.validators.running.meetings import meetings
from keras3conv.validators.running.neighbours import agrees_in_float64, made_up_for
from keras3conv.validators.running.subject import Subject
from keras3conv.validators.running.weightless import weightless_pairs

CLAIM = "Every hyper-parameter of every pair of layers is the same on both sides, in the words of each."

Verdict = Literal["same", "failed", "in training only", "see float64", "not judged"]


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """A field with its verdict, and the reason for it."""

    field: FieldPair
    verdict: Verdict
    note: str = ""


def check(subject: Subject) -> Section:
    """Judges every field that the audit found."""
    judged = [] if subject.not_run else list(_judged(subject))
    if not judged:
        reason = subject.not_run or "no pair of layers tells its configuration on both sides"
        return Section(name="hyperparameters", status="skipped", claim=CLAIM, summary="not judged", reason=reason)
    verdicts = Counter(entry.verdict for entry in judged)
    strict = subject.options.training
    bad = [
        place
        for place, entry in enumerate(judged)
        if entry.verdict == "failed" or (strict and entry.verdict == "in training only")
    ]
    others = [f"{number} {verdict}" for verdict, number in verdicts.items() if verdict not in ("same", "failed")]
    summary = ", ".join([f"{verdicts['same']} of {count(len(judged), 'field')} are the same", *others])
    return Section(
        name="hyperparameters",
        status="failed" if bad else "passed",
        claim=CLAIM,
        summary=f"{len(bad)} of {count(len(judged), 'field')} differ" if bad else summary,
        facts=_facts(judged, strict=strict),
        tables=(_table(judged, bad),),
        problems=tuple(_problem(judged[place]) for place in bad),
    )


def _judged(subject: Subject) -> Iterable[_Judged]:
    weightless = list(weightless_pairs(subject))
    fields = subject.audit([*subject.plan.pairs, *(found.pair for found in weightless)])
    alike = {(found.pair.torch, found.pair.keras): found.same_output for found in weightless}
    agreement = cache(lambda: _agreeing_pairs(subject) | alike)
    for field in fields:
        if field.agrees:
            yield _Judged(field=field, verdict="same")
        elif field.agrees is None:
            yield _Judged(field=field, verdict="see float64" if field.keras_field else "not judged", note=field.note)
        else:
            yield _of_difference(subject, field, agreement())


def _of_difference(subject: Subject, field: FieldPair, agreement: dict[tuple[str, str], bool]) -> _Judged:
    """The verdict on a field that differs."""
    if (field.torch, field.keras) not in agreement:
        return _Judged(field=field, verdict="not judged", note="the layers do not run")
    if not agreement[field.torch, field.keras]:
        return _Judged(field=field, verdict="failed", note="the two layers do not compute the same")
    effect = _effect(subject, field)
    if effect == "shows":
        note = "the two layers compute the same: a layer beside one of them makes up for it"
        return _Judged(field=field, verdict="see float64", note=note)
    if effect == "hidden":
        note = "its effect is too small to be seen with these inputs, and is not with smaller ones"
        return _Judged(field=field, verdict="failed", note=note)
    return _Judged(field=field, verdict="in training only", note="no output of inference depends on it")


def _agreeing_pairs(subject: Subject) -> dict[tuple[str, str], bool]:
    """For every pair that runs, whether the Keras layer alone gives what torch gave, in float64."""
    found: dict[tuple[str, str], bool] = {}
    for meeting in meetings(subject, subject.torch_probe, local_probe(subject)):
        key = meeting.pair.torch, meeting.pair.keras
        found[key] = found.get(key, True) and agrees_in_float64(meeting)
    completed = made_up_for(subject) if not all(found.values()) else frozenset()
    return {key: same or key in completed for key, same in found.items()}


def _effect(subject: Subject, field: FieldPair) -> Literal["shows", "hidden", "none"]:
    """What becomes of torch's own output when the layer gets the value of the Keras side.

    It changes by more than rounding, or by too little to tell from it (an epsilon beside a large variance), or not at
    all, also where the layer is given small numbers. A value that the layer cannot even run with counts as one that
    shows.
    """
    if not field.torch_field or field.in_torch is None:
        return "shows"
    inputs = subject.torch_probe.of(field.torch)[0].inputs
    change = _change(subject, field, inputs)
    if change > FLOAT64_LIMIT:
        return "shows"
    small = tuple(array * _SMALL if array.dtype.kind == "f" else array for array in inputs)
    return "hidden" if change or _change(subject, field, small) else "none"


_SMALL = 2.0**-40
"""What the inputs of a layer are multiplied by, so that no epsilon is small beside what is made of them."""


def _change(subject: Subject, field: FieldPair, inputs: Arrays) -> float:
    """What the value of the Keras side changes in the output, of the largest value; infinite if it cannot run."""
    from keras3conv.frameworks.torch import replay as torch_experiment

    run = partial(torch_experiment.run_with, subject.torch, field.torch)
    before, after = (
        run(attributes, inputs, subject.probe_weights) for attributes in ({}, {field.torch_field: field.in_torch})
    )
    if before is None or after is None or len(before) != len(after):
        return float("inf")
    pairs = [(new, old) for new, old in zip(after, before, strict=True) if old.size or new.size]
    if any(new.shape != old.shape for new, old in pairs):
        return float("inf")
    return max((compare(new, old).max_rel for new, old in pairs), default=0.0)


def _facts(judged: list[_Judged], *, strict: bool) -> dict[str, str]:
    """What counts in training only, by its name: no failure, unless training was asked for."""
    only = Counter(
        f"{entry.field.torch_field or entry.field.keras_field}: {_show(entry.field.torch_value)} in torch, "
        f"{_show(entry.field.keras_value)} in Keras"
        for entry in judged
        if entry.verdict == "in training only"
    )
    if not only or strict:
        return {}
    listed = "; ".join(f"{text} ({count(number, 'layer')})" for text, number in only.items())
    return {"differs in training only": f"{listed}. With training=True this is a failure"}


def _problem(judged: _Judged) -> Problem:
    field = judged.field
    beside = f", {field.beside}" if field.beside else ""
    fact = f"{field.torch_field} is {_show(field.torch_value)} in torch" if field.torch_field else "torch has none"
    fixes: tuple[str, ...] = ()
    if field.keras_field:
        fact += (
            f", {field.keras_field} is {_show(field.keras_value)} in Keras; it would have to be {_show(field.wanted)}"
        )
        fixes = (f"{field.keras_field}={field.wanted!r}  # {field.keras}",)
    else:
        fact += f"; what Keras does is {_show(field.in_torch)} in torch{beside}"
    if field.torch_field and field.in_torch is not None:
        fixes += (f"{field.torch_field}={field.in_torch!r}  # {field.torch}{beside}",)
    return Problem(torch=field.torch, keras=field.keras, fact=f"{fact} ({judged.note})", fixes=fixes)


def _table(judged: list[_Judged], bad: list[int]) -> Table:
    columns = ("torch", "field", "value", "keras", "field in keras", "value in keras", "as the rule says", "verdict")
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            entry.field.torch,
            entry.field.torch_field,
            _show(entry.field.torch_value) if entry.field.torch_field else "",
            entry.field.keras,
            entry.field.keras_field,
            _show(entry.field.keras_value) if entry.field.keras_field else "",
            _show(entry.field.wanted if entry.field.keras_field else entry.field.in_torch),
            f"{entry.verdict}: {entry.note}" if entry.note else entry.verdict,
        )
        for entry in judged
    )
    return Table(title="hyper-parameters, side by side", columns=columns, rows=rows, failed=tuple(bad))


def _show(value: object) -> str:
    """A value for a reader: numbers in full, long ones cut where only rounding is left."""
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, tuple | list):
        return "(" + ", ".join(map(_show, value)) + ")"
    return "-" if value is None else str(value)
