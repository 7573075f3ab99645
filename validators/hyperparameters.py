"""Compare every hyper-parameter of every layer pair.

Two layers may differ in a field (a hyper-parameter) because of a neighbouring layer, such as a separate padding layer
in Keras. So a different field is judged by the outputs of the layers: the neighbours compensate the difference if the
Keras layer, on the inputs that torch recorded, returns torch's outputs in float64. A field that matters only in
training has no effect on the outputs. To find such a field, the torch layer is run again with the value of the Keras
side.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from keras3conv.alignment.audit import FieldPair, audit
from keras3conv.alignment.beside import Beside
from keras3conv.alignment.pair import Pair
from keras3conv.errors import Problem, listed
from keras3conv.messages import count
from keras3conv.model.paths import split_layers
from keras3conv.model.views import Side
from keras3conv.numerics.difference import FLOAT64_LIMIT, compare
from keras3conv.report.values import IN_TRAINING, NOT_CONVERTED, Cell, Section, Table
from keras3conv.rules.correspondence import same_value
from keras3conv.transforms import Arrays
from keras3conv.validators.running.batch_norms import masked
from keras3conv.validators.running.call_pairs import call_pairs, probe_calls
from keras3conv.validators.running.isolated import isolated_probe
from keras3conv.validators.running.left_to_float64 import LEFT
from keras3conv.validators.running.neighbours import agrees_in_float64, compensated_pairs, would_agree_in_isolation
from keras3conv.validators.running.stacked_dropouts import is_of_a_stack, with_rates_between
from keras3conv.validators.running.subject import Subject
from keras3conv.validators.running.uncompared import uncompared
from keras3conv.validators.running.weightless import weightless_pairs

CLAIM = (
    "Every compared hyper-parameter of every layer pair has the equivalent value on both sides, or the table names the "
    "difference and why it does not count. Initial values, regularizers, constraints and data types are not compared."
)

Verdict = Literal["equal", "failed", "training only", "left to float64", "not judged"]


@dataclass(frozen=True, kw_only=True)
class _JudgedField:
    """A hyper-parameter (field) of a layer pair, the verdict on it, and the reason for the verdict."""

    field: FieldPair
    verdict: Verdict
    note: str = ""


def check(subject: Subject) -> Section:
    """Judge every hyper-parameter (field) that the rules of the layer pairs compare.

    Returns:
        The section of the report.
    """
    fields = [] if subject.skip_reason else list(_judged_fields(subject))
    if not fields:
        reason = subject.skip_reason or "no layer pair has a configuration on both sides"
        return Section(name="hyperparameters", status="skipped", claim=CLAIM, summary="not judged", reason=reason)
    training = subject.options.training
    failing: tuple[Verdict, ...] = ("failed", "training only") if training else ("failed",)
    failed = [index for index, judged in enumerate(fields) if judged.verdict in failing]
    problems = [_problem(fields[index], subject.port) for index in failed]
    left_out = [_masked_problem(pair) for pair in masked(subject)]
    problems += left_out if training else []
    return Section(
        name="hyperparameters",
        status="failed" if problems else "passed",
        claim=CLAIM,
        summary=_summary_of_failures(fields, failed, problems) if problems else _summary(fields),
        facts={
            **({} if training else _training_facts(fields, left_out)),
            **_penalty_facts(subject),
            **_state_facts(fields),
            **uncompared(subject, [judged.field for judged in fields]),
        },
        tables=(_table(fields, failed),),
        problems=tuple(problems),
    )


def _summary_of_failures(fields: list[_JudgedField], failed: list[int], problems: list[Problem]) -> str:
    if failed:
        return f"{len(failed)} of {count(len(fields), 'field')} differ"
    return f"{count(len(problems), 'batch normalisation')} not alike in training mode"


def _masked_problem(pair: Pair) -> Problem:
    """Return the problem that Keras' statistics of the batch in training are those of the steps that are not masked."""
    fact = "in training Keras leaves masked steps out of the statistics of the batch, torch takes every step"
    return Problem(torch=pair.torch, keras=pair.keras, fact=fact)


def _summary(fields: list[_JudgedField]) -> str:
    verdicts = Counter(judged.verdict for judged in fields)
    parts = [f"{verdicts.pop('equal', 0)} of {count(len(fields), 'field')} equal"]
    parts += [f"{number} {verdict} ({_names(fields, verdict)})" for verdict, number in verdicts.items()]
    return ", ".join(parts)


def _names(fields: list[_JudgedField], verdict: Verdict) -> str:
    """Return the names of the fields with a verdict, without the index of a layer: "padding, eps"."""
    found = [judged.field for judged in fields if judged.verdict == verdict]
    names = dict.fromkeys((field.torch_field or field.keras_field or "all").rpartition(".")[2] for field in found)
    return listed(names, 3)


def _judged_fields(subject: Subject) -> Iterator[_JudgedField]:
    from keras3conv.frameworks.torch.module import frozen_parameters

    weightless = list(weightless_pairs(subject))
    agreement: dict[tuple[str, str], bool] | None = None
    pairs, frozen = [*subject.plan.pairs, *(match.pair for match in weightless)], frozen_parameters(subject.torch)
    for audited in audit(pairs, subject.torch_view, subject.keras_view, frozen=frozen):
        field = with_rates_between(subject, audited) if is_of_a_stack(audited) else audited
        if field.agrees:
            yield _JudgedField(field=field, verdict="equal", note=_equal_because(field))
        elif field.agrees is None:
            verdict: Verdict = LEFT if field.keras_field else "not judged"
            yield _JudgedField(field=field, verdict=verdict, note=field.note)
        elif (judged := _judged_without_outputs(field)) is not None:
            yield judged
        else:
            if agreement is None:  # `_agreement` runs the Keras model, so it is called only if a field differs
                agreement = _agreement(subject) | {match.key: match.same_output for match in weightless}
            judged = _judged_difference(subject, field, agreement)
            follows = judged.verdict == "failed" and field.follows
            note = f"it differs only because {field.follows} does"
            yield replace(judged, verdict="not judged", note=note) if follows else judged


def _equal_because(field: FieldPair) -> str:
    """Return why a field is equal although Keras has another value than the translation of torch's value; else "".

    For example, padding="same" with a kernel of size 1 is padding=0 in torch. This may depend on the input size.
    """
    if not (field.torch_field and field.keras_field) or same_value(field.wanted, field.keras_value):
        return ""
    beside = f" {field.beside}" if field.beside else ""
    return f"for inputs of this size, {_show(field.keras_value)} in Keras is {_show(field.in_torch)} in torch{beside}"


def _judged_without_outputs(field: FieldPair) -> _JudgedField | None:
    """Return the verdict on a hyper-parameter that differs, but cannot change the outputs of one inference: momentum.

    Return None for a hyper-parameter that can change these outputs: the verdict on it depends on them.
    """
    if field.selects:
        note = "Keras returns a part of torch's outputs, and float64 compares this part"
        return _JudgedField(field=field, verdict=LEFT, note=note)
    if field.acts == "in training":
        return _JudgedField(field=field, verdict="training only", note=_TRAINING)
    if field.acts == "between calls":
        note = "every run of the proofs begins with the initial state"
        return _JudgedField(field=field, verdict="not judged", note=note)
    return None


def _judged_difference(subject: Subject, field: FieldPair, agreement: dict[tuple[str, str], bool]) -> _JudgedField:
    """Return the verdict on a field (hyper-parameter) that has different values on the two sides.

    Args:
        subject: The two models.
        field: The field on both sides.
        agreement: Whether the two layers of a pair compute the same function, by their paths.
    """
    if (field.torch, field.keras) not in agreement:
        return _judged_by_others(subject, field)
    effect = _effect(subject, field)
    if effect != "none" and not agreement[field.torch, field.keras]:
        return _JudgedField(field=field, verdict="failed", note="the two layers compute different values")
    if effect == "visible":
        is_same = field.torch_field and same_value(field.torch_value, field.in_torch)
        note = "the whole Keras layer corresponds to this value" if is_same else _COMPENSATED
        return _JudgedField(field=field, verdict=LEFT, note=note)
    if effect == "hidden":
        note = "its effect is too small to be seen with these inputs, but not with smaller inputs"
        return _JudgedField(field=field, verdict="failed", note=note)
    return _JudgedField(field=field, verdict="training only", note=_TRAINING)


def _judged_by_others(subject: Subject, field: FieldPair) -> _JudgedField:
    """Return the verdict on a field of layers without an output of their own (two torch layers for one of Keras).

    If all of them run, the layers after them and the outputs of the model show what a difference does.
    """
    sides = (subject.torch_probe, split_layers(field.torch)), (subject.keras_probe, split_layers(field.keras))
    if all(run.of(path) for run, paths in sides for path in paths):
        note = "the layers of this pair together are judged by the layers after them"
        return _JudgedField(field=field, verdict=LEFT, note=note)
    return _JudgedField(field=field, verdict="not judged", note="no run calls these layers")


def _agreement(subject: Subject) -> dict[tuple[str, str], bool]:
    """Return, for every pair of layers that runs, whether its layers compute the same function, by their paths.

    They compute the same function if the Keras layer, on torch's inputs, returns torch's outputs in float64, or if
    neighbouring layers compensate the difference.
    """
    agreement: dict[tuple[str, str], bool] = {}
    whole = probe_calls(subject)
    if would_agree_in_isolation(whole):
        return {call.key: True for call in whole}
    for call in call_pairs(subject, subject.torch_probe, isolated_probe(subject)):
        agreement[call.key] = agreement.get(call.key, True) and agrees_in_float64(call)
    if subject.keras_probe.masks and not all(agreement.values()):  # padding that only Keras masks is no field's fault
        for call in call_pairs(subject, subject.torch_probe, isolated_probe(subject, masked=False)):
            agreement[call.key] = agreement.get(call.key, True) or agrees_in_float64(call)
    compensated = frozenset() if all(agreement.values()) else compensated_pairs(subject)
    return {key: agrees or key in compensated for key, agrees in agreement.items()}


def _effect(subject: Subject, field: FieldPair) -> Literal["visible", "hidden", "none"]:
    """Return the effect of a field's Keras value on the output of the torch layer: "hidden", "none" or "visible".

    "hidden": the effect is within rounding (an epsilon that is added to a large variance). "none": the output does not
    change even at small inputs. "visible": any other effect; also if the layer raises with this value.
    """
    if not field.torch_field or field.in_torch is None or same_value(field.torch_value, field.in_torch):
        return "visible"
    inputs = subject.torch_probe.of(field.torch)[0].inputs
    change = _change(subject, field, inputs)
    if change > FLOAT64_LIMIT:
        return "visible"
    small = tuple(array * _SMALL if array.dtype.kind == "f" else array for array in inputs)
    return "hidden" if change or _change(subject, field, small) else "none"


_COMPENSATED = "a neighbouring layer compensates the difference"

_TRAINING = "no output depends on it in inference"
"""The note on a hyper-parameter that has an effect in training only."""

_SMALL = 2.0**-40
"""The factor on a layer's inputs that makes its values so small that the effect of an epsilon is visible."""


def _change(subject: Subject, field: FieldPair, inputs: Arrays) -> float:
    """Return the relative change of the torch layer's output when a field gets the value of the Keras side.

    The change is infinite if the layer cannot run with this value.
    """
    from keras3conv.frameworks.torch import replay as torch_experiment

    run = partial(torch_experiment.run_with, subject.torch, field.torch)
    before = run({}, inputs, subject.probe_weights)
    after = run({field.torch_field: field.in_torch}, inputs, subject.probe_weights)
    if before is None or after is None or len(before) != len(after):
        return float("inf")
    pairs = [(new, old) for new, old in zip(after, before, strict=True) if old.size or new.size]
    if any(new.shape != old.shape for new, old in pairs):
        return float("inf")
    return max((compare(new, old).max_rel for new, old in pairs), default=0.0)


def _training_facts(fields: list[_JudgedField], left_out: list[Problem]) -> dict[str, str]:
    """Return a line for the report with what differs, and has an effect in training only; {} for nothing.

    The line has the values of both sides: {"differs in training only": "p: 0.1 in torch, 0.2 in Keras (2 layers)..."}.

    Args:
        fields: The judged fields.
        left_out: The problems of batch normalisations that leave masked steps out in Keras only.
    """
    differing: Counter[str] = Counter()
    for judged in fields:
        if judged.verdict == "training only":
            field = judged.field
            name = field.torch_field or field.keras_field
            in_torch = f"{_show(field.torch_value)} in torch" if field.torch_field else "none in torch"
            differing[f"{name}: {in_torch}, {_show(field.keras_value)} in Keras"] += 1
    texts = [f"{text} ({count(number, 'layer')})" for text, number in differing.items()]
    paths: dict[str, list[str]] = {}
    for problem in left_out:
        paths.setdefault(problem.fact, []).append(problem.keras)
    texts += [f"{', '.join(those)}: {fact}" for fact, those in paths.items()]
    if not texts:
        return {}
    return {IN_TRAINING: f"{'; '.join(texts)}. With --training (training=True in Python) this is a failure"}


def _penalty_facts(subject: Subject) -> dict[str, str]:
    """Return a line for the report with the regularizers and constraints of the Keras model; {} if it has none."""
    from keras3conv.frameworks.keras.training_only import penalties

    found = penalties(subject.keras)
    return {NOT_CONVERTED: "; ".join(found)} if found else {}


def _state_facts(fields: list[_JudgedField]) -> dict[str, str]:
    """Return a line for the report that lists the stateful Keras layers; {} if there are none.

    A stateful layer begins a call with the state in which the last call ended, which torch's layers do not do.
    """
    stateful = (one.field for one in fields if one.verdict != "equal" and one.field.acts == "between calls")
    paths = [field.keras for field in stateful]
    return {"differs between calls": f"Keras keeps the state for the next call: {', '.join(paths)}"} if paths else {}


def _problem(judged: _JudgedField, port: Side | None) -> Problem:
    field = judged.field
    beside = f", {field.beside}" if field.beside else ""
    fact = f"{field.torch_field} is {_show(field.torch_value)} in torch" if field.torch_field else "torch has none"
    if field.is_built_in and field.acts == "always":
        fact = f"torch has no {field.keras_field} and computes with {_show(field.torch_value)}"
    in_keras: tuple[str, ...] = ()
    if field.keras_field:
        keras_beside = f", {field.keras_beside}" if field.keras_beside else ""
        fact += f", {field.keras_field} is {_show(field.keras_value)} in Keras"
        fact += f"; it must be {_show(field.wanted)}{keras_beside}"
        in_keras = _fix(field.keras_field, field.wanted, field.keras_value, field.keras, field.keras_beside)
    else:
        fact += f"; Keras' behaviour corresponds to {_show(field.in_torch)} in torch{beside}"
    in_torch: tuple[str, ...] = ()
    if field.torch_field and field.in_torch is not None:
        place = field.torch or "the module itself"
        in_torch = _fix(field.torch_field, field.in_torch, field.torch_value, place, field.beside)
    fixes = (*in_keras, *in_torch) if port == "keras" else (*in_torch, *in_keras)
    return Problem(torch=field.torch, keras=field.keras, fact=f"{fact} ({judged.note})", fixes=fixes)


def _fix(name: str, value: object, present: object, place: str, beside: Beside) -> tuple[str, ...]:
    """Return the lines of code that set a field to a new value, in a tuple; () if the field has this value already.

    Args:
        name: The field: "units", or "layer.units" for the layer inside a wrapper such as Bidirectional.
        value: The new value.
        present: The present value.
        place: The layer that has the field, for the comment after the line.
        beside: The layers that are needed before or after it.
    """
    if same_value(value, present):
        return ()
    inner, _, argument = name.rpartition(".")
    inside = f"{inner} of " if inner and not inner.isdigit() else ""
    line = f"{argument if inside else name}={_code(argument, value)}  # {inside}{place}"
    return (beside.with_lines(line, place),)


def _code(argument: str, value: object) -> str:
    """Return a value as code, in the form of the other proofs: a text in double quotes, equal padding as one number."""
    if isinstance(value, str):
        return json.dumps(value)
    is_equal_padding = argument == "padding" and isinstance(value, tuple) and len(set(value)) == 1
    return repr(value[0] if is_equal_padding and isinstance(value, tuple) else value)


def _table(fields: list[_JudgedField], failed: list[int]) -> Table:
    columns = ("torch", "field", "value", "keras", "field in keras", "value in keras", "expected value", "verdict")
    rows: list[tuple[Cell, ...]] = []
    for judged in fields:
        field = judged.field
        rows.append(
            (
                field.torch,
                field.torch_field or _ABSENT,
                _in_torch(field),
                field.keras,
                field.keras_field or _ABSENT,
                _show(field.keras_value) if field.keras_field else None,
                _expected(field),
                f"{judged.verdict}: {judged.note}" if judged.note else judged.verdict,
            )
        )
    return Table(title="hyper-parameters", columns=columns, rows=tuple(rows), failed=tuple(failed))


_ABSENT = "no such field"
"""The cell for the name of a field in the framework whose layer does not have it."""


def _expected(field: FieldPair) -> str | None:
    """Return the value that the other framework's value corresponds to, and the framework in which it is expected.

    Such as "valid in Keras". None if no value is expected: the field only selects results, or is not translated.
    """
    value = field.wanted if field.keras_field else field.in_torch
    if field.selects or value is None:
        return None
    return f"{_show(value)} in {'Keras' if field.keras_field else 'torch'}"


def _in_torch(field: FieldPair) -> str | None:
    if field.is_built_in and field.acts == "always":
        return f"{_show(field.torch_value)} (built in)"
    return _show(field.torch_value) if field.torch_field else None


def _show(value: object) -> str:
    """Return a field's value as text for a report; floats get twelve digits, so that rounding is not visible."""
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, tuple | list):
        return "(" + ", ".join(map(_show, value)) + ")"
    return "-" if value is None else str(value)
