"""Prove that both models train in the same way: compare one backward pass in float64, and one training step.

The loss is a weighted sum of all output elements; the plan maps its gradients from torch to Keras. A step of stochastic
gradient descent changes every tensor by its gradient times the learning rate. The gradients are compared instead of the
updated tensors, in which rounding would hide a small difference.
"""

import numpy as np

from keras3conv.errors import Problem
from keras3conv.messages import count
from keras3conv.numerics.difference import FLOAT64_LIMIT
from keras3conv.numerics.judgement import NOT_FINITE, agreement
from keras3conv.report.values import Cell, Section, Table
from keras3conv.validators.diagnosis.causes import explained_problem
from keras3conv.validators.diagnosis.momentum import explain_step
from keras3conv.validators.running.batch_norms import BatchNorm, renormalised
from keras3conv.validators.running.compared_gradients import Comparison, compared_gradients
from keras3conv.validators.running.subject import Subject
from keras3conv.validators.running.training_facts import (
    corrected,
    kept_states,
    not_alike,
    statistics_facts,
    trained_as_a_whole,
    unlike,
    untrained_facts,
    untried_facts,
)

CLAIM = (
    "The gradients of both models agree: in float64, under probe weights, those of one loss agree for every tensor to "
    f"{FLOAT64_LIMIT:g} of its largest gradient. With batch normalisation, so do the gradients of one step in training "
    "mode, and the moving statistics after it, unless the result says that they are not compared. Settings with which "
    "the models train differently, such as another momentum, are listed; training=True makes them failures."
)


def check(subject: Subject) -> Section:
    """Compare the gradients of all tensors in the plan, also in training mode; return the section of the report."""
    if subject.skip_reason:
        return _skipped(subject.skip_reason)
    found = compared_gradients(subject)
    if isinstance(found, str):
        return _skipped(found)
    inference, training, norms = found.inference, found.training, found.norms
    statistics, frozen = found.statistics, found.frozen
    comparisons = [*inference, *training]
    failed = [index for index, comparison in enumerate(comparisons) if not comparison.passed]
    worst = max((comparison.error for comparison in inference), default=0.0)
    summary = f"{count(len(inference), 'gradient')} agree {agreement(worst)}"
    if training:
        summary += f", one step in training mode {agreement(max(comparison.error for comparison in training))}"
    different = [unlike(subject, *entry) for entry in statistics.values() if entry[1] != entry[2]]
    different += [corrected(pair) for pair in renormalised(subject)]
    lost, computed = trained_as_a_whole(subject), kept_states(subject)
    problems = [_problem(comparisons[index]) for index in failed]
    if _is_conversion(subject):
        problems += lost  # a conversion keeps what is trained
    else:
        computed += lost
    if subject.options.training:
        problems += [*different, *computed]
    else:
        summary += not_alike(norms, different, computed)
    if lost and problems:
        summary = f"{count(len(lost), 'weight')} that torch computes from others are trained differently"
    if failed:
        summary = f"{len(failed)} of {len(comparisons)} differ"
    return Section(
        name="gradients",
        status="failed" if problems else "passed",
        claim=CLAIM,
        summary=summary,
        facts={
            **_facts(norms, comparisons, strict=subject.options.training),
            **statistics_facts(statistics, [*different, *computed]),
            **untried_facts(subject, frozen),
            **untrained_facts(subject),
        },
        tables=(_table(comparisons, failed),),
        problems=tuple(problems),
    )


def _is_conversion(subject: Subject) -> bool:
    """Return whether the Keras model was generated from the torch module."""
    return any(evidence.kind == "construction" for pair in subject.plan.pairs for evidence in pair.evidence)


def _skipped(reason: str) -> Section:
    return Section(name="gradients", status="skipped", claim=CLAIM, summary="not run", reason=reason)


def _facts(norms: tuple[BatchNorm, ...], comparisons: list[Comparison], *, strict: bool) -> dict[str, str]:
    facts = {}
    if norms:
        facts["in training mode"] = count(len(norms), "batch normalisation")
    if any(norm.is_unbiased for norm in norms):
        facts["known difference"] = "torch stores the unbiased variance of a batch, N/(N-1) times that of Keras"
    paths: dict[float, list[str]] = {}
    for norm in (norm for norm in norms if not norm.same_momentum):
        paths.setdefault(1 - norm.momentum, []).append(norm.pair.keras)
    if paths and not strict:
        fixes = "; ".join(f"momentum={momentum:g}  # Keras: {', '.join(those)}" for momentum, those in paths.items())
        facts["moving statistics not compared"] = f"the momentum differs. Fix: {fixes}"
    if not comparisons:
        facts["nothing to compare"] = "no tensor of the plan has a gradient"
    return facts


def _problem(comparison: Comparison) -> Problem:
    by = f"by {comparison.error:.2g} of the largest value" if np.isfinite(comparison.error) else f"in {NOT_FINITE}"
    fact = f"the {comparison.quantity} differs {by}"
    explanation = None if comparison.step is None else explain_step(comparison.step)
    return explained_problem(comparison.torch, comparison.keras, fact, explanation)


def _table(comparisons: list[Comparison], failed: list[int]) -> Table:
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (comparison.torch, comparison.keras, comparison.quantity, comparison.error) for comparison in comparisons
    )
    columns = ("torch", "keras", "quantity", "relative error")
    return Table(title="gradients", columns=columns, rows=rows, failed=tuple(failed))
