"""Compare every hyper-parameter of every layer pair, and name the lines that make a different one equal."""

from collections import Counter

from keras3conv.alignment.audit import FieldPair
from keras3conv.alignment.pair import Pair
from keras3conv.errors import Problem, listed
from keras3conv.messages import count
from keras3conv.report.values import IN_TRAINING, NOT_CONVERTED, Cell, Section, Table
from keras3conv.validators.diagnosis.lines import lines_for, setting_lines
from keras3conv.validators.running.batch_norms import masked
from keras3conv.validators.running.judged_fields import JudgedField, Verdict, judged_fields, shown
from keras3conv.validators.running.subject import Subject
from keras3conv.validators.running.uncompared import uncompared

CLAIM = (
    "Every compared hyper-parameter of every layer pair has the equivalent value on both sides, or the table names the "
    "difference and why it does not count. Initial values, regularizers, constraints and data types are not compared."
)


def check(subject: Subject) -> Section:
    """Judge every hyper-parameter (field) that the rules of the layer pairs compare.

    Returns:
        The section of the report.
    """
    fields = [] if subject.skip_reason else list(judged_fields(subject))
    if not fields:
        reason = subject.skip_reason or "no layer pair has a configuration on both sides"
        return Section(name="hyperparameters", status="skipped", claim=CLAIM, summary="not judged", reason=reason)
    training = subject.options.training
    failing: tuple[Verdict, ...] = ("failed", "training only") if training else ("failed",)
    failed = [index for index, judged in enumerate(fields) if judged.verdict in failing]
    problems = [_problem(subject, fields[index]) for index in failed]
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


def _summary_of_failures(fields: list[JudgedField], failed: list[int], problems: list[Problem]) -> str:
    if failed:
        return f"{len(failed)} of {count(len(fields), 'field')} differ"
    return f"{count(len(problems), 'batch normalisation')} not alike in training mode"


def _masked_problem(pair: Pair) -> Problem:
    """Return the problem that Keras' statistics of the batch in training are those of the steps that are not masked."""
    fact = "in training Keras leaves masked steps out of the statistics of the batch, torch takes every step"
    return Problem(torch=pair.torch, keras=pair.keras, fact=fact)


def _summary(fields: list[JudgedField]) -> str:
    verdicts = Counter(judged.verdict for judged in fields)
    parts = [f"{verdicts.pop('equal', 0)} of {count(len(fields), 'field')} equal"]
    parts += [f"{number} {verdict} ({_names(fields, verdict)})" for verdict, number in verdicts.items()]
    return ", ".join(parts)


def _names(fields: list[JudgedField], verdict: Verdict) -> str:
    """Return the names of the fields with a verdict, without the index of a layer: "padding, eps"."""
    found = [judged.field for judged in fields if judged.verdict == verdict]
    names = dict.fromkeys((field.torch_field or field.keras_field or "all").rpartition(".")[2] for field in found)
    return listed(names, 3)


def _training_facts(fields: list[JudgedField], left_out: list[Problem]) -> dict[str, str]:
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
            in_torch = f"{shown(field.torch_value)} in torch" if field.torch_field else "none in torch"
            differing[f"{name}: {in_torch}, {shown(field.keras_value)} in Keras"] += 1
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


def _state_facts(fields: list[JudgedField]) -> dict[str, str]:
    """Return a line for the report that lists the stateful Keras layers; {} if there are none.

    A stateful layer begins a call with the state in which the last call ended, which torch's layers do not do.
    """
    stateful = (one.field for one in fields if one.verdict != "equal" and one.field.acts == "between calls")
    paths = [field.keras for field in stateful]
    return {"differs between calls": f"Keras keeps the state for the next call: {', '.join(paths)}"} if paths else {}


def _problem(subject: Subject, judged: JudgedField) -> Problem:
    field = judged.field
    beside = f", {field.beside}" if field.beside else ""
    fact = f"{field.torch_field} is {shown(field.torch_value)} in torch" if field.torch_field else "torch has none"
    if field.is_built_in and field.acts == "always":
        fact = f"torch has no {field.keras_field} and computes with {shown(field.torch_value)}"
    in_keras: tuple[str, ...] = ()
    if field.keras_field:
        keras_beside = f", {field.keras_beside}" if field.keras_beside else ""
        fact += f", {field.keras_field} is {shown(field.keras_value)} in Keras"
        fact += f"; it must be {shown(field.wanted)}{keras_beside}"
        in_keras = setting_lines(field.keras_field, field.wanted, field.keras_value, field.keras, field.keras_beside)
    else:
        fact += f"; Keras' behaviour corresponds to {shown(field.in_torch)} in torch{beside}"
    in_torch: tuple[str, ...] = ()
    if field.torch_field and field.in_torch is not None:
        place = field.torch or "the module itself"
        in_torch = setting_lines(field.torch_field, field.in_torch, field.torch_value, place, field.beside)
    fixes = lines_for(subject, in_torch, in_keras)
    return Problem(torch=field.torch, keras=field.keras, fact=f"{fact} ({judged.note})", fixes=fixes)


def _table(fields: list[JudgedField], failed: list[int]) -> Table:
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
                shown(field.keras_value) if field.keras_field else None,
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
    return f"{shown(value)} in {'Keras' if field.keras_field else 'torch'}"


def _in_torch(field: FieldPair) -> str | None:
    if field.is_built_in and field.acts == "always":
        return f"{shown(field.torch_value)} (built in)"
    return shown(field.torch_value) if field.torch_field else None
