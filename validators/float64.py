"""Prove that both models compute the same function: run them in float64 with random weights in place of their own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite

from keras3conv.errors import Problem
from keras3conv.messages import count
from keras3conv.numerics.difference import FLOAT64_LIMIT, Diff, compare
from keras3conv.numerics.judgement import NOT_FINITE, agreement
from keras3conv.report.values import Plot, Section, Series, Table
from keras3conv.validators.diagnosis.causes import explained_problem
from keras3conv.validators.diagnosis.search import blame_layer, explain_output
from keras3conv.validators.running.call_pairs import CallPair, call_pairs, probe_calls
from keras3conv.validators.running.nearby import LARGEST, NearbyRun
from keras3conv.validators.running.nearby import NOTE as ROUNDING
from keras3conv.validators.running.neighbours import NOTE, agrees, compensated_pairs
from keras3conv.validators.running.output_pairs import output_pairs, shown_name
from keras3conv.validators.running.rounded_constants import CONSTANTS, SINES, may_be_rounded, sines_rounded
from keras3conv.validators.running.subject import Subject
from keras3conv.validators.running.variants import Variant, exercised, unreached_in_words, variants

CLAIM = (
    "Both models compute the same function: in float64, under probe weights, every layer and every output agree "
    f"to {FLOAT64_LIMIT:g} of the largest value."
)

OTHER_CLAIM = (
    " They also agree at other magnitudes of their values: next to small values an epsilon is large, and large values "
    "pass the bounds of activations and clips."
)


ORDER = ": the same rows in another order"
"""The remark for a layer that returns torch's values in a different order."""


@dataclass(frozen=True, kw_only=True)
class _JudgedCall:
    """A layer call with the difference between torch and Keras.

    Attributes:
        call: The call on both sides.
        diff: The difference of the outputs; None if they cannot be compared.
        note: The reason why the difference does not count as a failure; empty if it is judged.
    """

    call: CallPair
    diff: Diff | None
    note: str = ""

    @property
    def failed(self) -> bool:
        return not self.note and not _agrees(self.diff)


def check(subject: Subject) -> Section:
    """Compare all layers and outputs of both models in float64, also at other magnitudes of their values.

    The proof finds a relative change of 1e-6 in a number that a layer computes with, and in an epsilon of 1e-10 or more
    that is added to a variance. In an epsilon of 1e-12 it finds a relative change of 1e-3. It does not find a change in
    a number that has no effect in the runs (the lower limit of a norm, if every vector is longer), or in an epsilon
    that is added to a variance, if the variance is never small.

    Returns:
        The section of the report.
    """
    if subject.skip_reason:
        return Section(name="float64", status="skipped", claim=CLAIM, summary="not run", reason=subject.skip_reason)
    section = _judge(subject, Variant(name="", subject=subject), subject)
    seen: list[Variant] = []
    differing: list[Variant] = []
    for variant in variants(subject) if section.status == "passed" else ():
        if variant.is_optional and _differs(variant, subject):
            differing.append(replace(variant, subject=None))
            continue
        section = _judge_variant(section, variant, subject)
        seen.append(replace(variant, subject=None))  # the recorded values of all runs together are large
        if section.status == "failed":
            return section
    if not seen:
        return section
    limits = [*(f"they differ {variant.name}" for variant in differing), unreached_in_words(seen)]
    summary = "; ".join([section.summary, *filter(None, limits)])
    return replace(section, summary=summary, facts=exercised(subject, seen, differing))


def _differs(variant: Variant, original: Subject) -> bool:
    """Return True if the models differ with the inputs or weights of `variant`; do not search for the cause.

    Args:
        variant: The models with other inputs or weights, such as weights with which layer outputs are about 32.
        original: The models with their original inputs.
    """
    if variant.subject is None:
        return False
    return _judged(variant.subject, variant, original, NearbyRun(variant.subject), constants=True).status == "failed"


def _judge_variant(section: Section, variant: Variant, original: Subject) -> Section:
    """Judge a run of the models with other inputs or weights, and return the section of the report.

    If the models agree in this run, its result is added to the summary of `section`. If they differ, the failed section
    of this run is returned instead.

    Args:
        section: The passed section with the results of the earlier runs.
        variant: The models with other inputs or weights.
        original: The models with their original inputs.
    """
    if variant.subject is None:
        return replace(section, summary=f"{section.summary}; not run {variant.name}: {variant.reason}")
    other = _judge(variant.subject, variant, original, search=not variant.is_scaled_in_run)
    if other.status == "failed" and variant.is_scaled_in_run:
        # That torch was scaled while it ran may be the reason: a module may use a weight before its layer is called.
        other = _judge(replace(variant.subject), variant, original)
    if other.status == "failed":
        return other
    return replace(section, claim=CLAIM + OTHER_CLAIM, summary=f"{section.summary}; {other.summary}")


def _judge(subject: Subject, variant: Variant, original: Subject, *, search: bool = True) -> Section:
    """Judge one run of both models, and return its section of the report.

    Differences that come only from constants that one side rounds to float32 do not fail the proof.

    Args:
        subject: The models with the inputs and weights of this run.
        variant: The name of this run, and how its inputs and weights differ from the original ones.
        original: The models with their original inputs.
        search: Whether to search for the cause of a difference, which takes many times as long as to see it.
    """
    nearby = NearbyRun(subject)
    section = _judged(subject, variant, original, nearby, constants=True)
    if section.status == "passed":
        return section
    with sines_rounded(subject) as rounded:
        if rounded is not None:
            again = _judged(rounded, variant, original, NearbyRun(rounded), constants=True)
            if again.status == "passed":
                return replace(again, summary=f"{again.summary}, {SINES}")
    if not search:
        return section
    # If there is also a larger difference, rounded constants no longer excuse the small ones.
    return _judged(subject, variant, original, nearby, constants=False)


def _judged(subject: Subject, variant: Variant, original: Subject, nearby: NearbyRun, *, constants: bool) -> Section:
    """Judge one run of both models with or without tolerance for rounded constants, and return its section.

    Args:
        subject: The models with the inputs and weights of this run.
        variant: The name of this run, and how its inputs and weights differ from the original ones.
        original: The models with their original inputs.
        nearby: A run of the same models with slightly changed values, which shows if a difference is mere rounding.
        constants: Whether to accept differences as small as the rounding of constants to float32.
    """
    variation = f", {variant.name}" if variant.name else ""
    calls = _judged_calls(subject, variant, original, nearby, constants=constants)
    failed = [index for index, judged in enumerate(calls) if judged.failed]
    clear = [index for index in failed if not _may_be_a_constant(subject, calls[index].diff)]
    # If only layers that cannot be compared differ, the cause of a different output is after the last layer.
    search_outputs = all(calls[index].call.mismatch for index in clear)
    outputs, worst_output, problems = _judge_outputs(
        subject, variant, nearby, search=search_outputs and not constants, constants=constants
    )
    if failed or problems:
        summary = f"{_failed_summary(calls, failed, len(problems))}{variation}"
    else:
        summary = _summary(calls, worst_output, variant.name)
    if failed and constants:  # the caller judges again
        problems = [Problem(fact="a layer differs"), *problems]
    elif failed:
        layer = _layer_problem(subject, calls, failed, clear, variation)
        # Where only rounded constants make layers differ, a cause of the output's difference comes first.
        explained = not clear and any(problem.fixes for problem in problems)
        problems = [*problems, layer] if explained else [layer, *problems]
    return Section(
        name="float64",
        status="failed" if problems else "passed",
        claim=CLAIM,
        summary=summary,
        tables=(outputs, _table(calls, failed, variation)),
        plots=(_plot(calls, failed, variation),) if calls else (),
        problems=tuple(problems),
    )


def _judged_calls(
    subject: Subject, variant: Variant, original: Subject, nearby: NearbyRun, *, constants: bool
) -> list[_JudgedCall]:
    calls = probe_calls(subject)
    diffs = [call.diff and _judged_diff(call.diff, variant) for call in calls]
    compensated: frozenset[tuple[str, str]] = frozenset()
    if not all(map(_agrees, diffs)):
        # At small magnitudes an activation is almost the identity, so a mistake may look compensated by a neighbour.
        compensated = compensated_pairs(original) | (frozenset() if variant.is_small else compensated_pairs(subject))
    judged = []
    for index, (call, diff) in enumerate(zip(calls, diffs, strict=True)):
        note = ""
        if call.key in compensated:
            note = NOTE
        elif not _agrees(diff) and _may_be_rounding(diff) and not nearby.call_repeats(index, call):
            note = ROUNDING
        elif constants and not _agrees(diff):
            change = partial(nearby.call_change, index, call) if variant.is_large else None
            note = CONSTANTS if _may_be_a_constant(subject, diff, change) else ""
        judged.append(_JudgedCall(call=call, diff=diff, note=note))
    return judged


def _judged_diff(diff: Diff, variant: Variant) -> Diff:
    """Return a difference; in a run with overflow, without the elements that overflow in both models."""
    return replace(diff, nonfinite=0) if variant.may_overflow and isfinite(diff.max_abs) else diff


def _agrees(diff: Diff | None) -> bool:
    return diff is not None and agrees(diff)


def _may_be_rounding(diff: Diff | None) -> bool:
    return diff is not None and diff.max_rel <= LARGEST and diff.nonfinite == 0


def _summary(calls: Sequence[_JudgedCall], worst_output: float, variation: str) -> str:
    """Return the largest errors of the layers and of the model outputs in a run, as text; one for a further run.

    Args:
        calls: The layer calls of the run.
        worst_output: The largest error of an output.
        variation: The name of a further run, such as "at values of 32", whose summary is shorter; empty for the first
            run.
    """
    judged = [call for call in calls if not call.note]
    worst_layer = max((call.diff.max_rel for call in judged if call.diff), default=0.0)
    parts = [f"outputs agree {agreement(worst_output)}", f"{count(len(judged), 'layer call')} {agreement(worst_layer)}"]
    if variation:
        parts = [f"all {agreement(max(worst_output, worst_layer))} {variation}"]
    compensated = sum(call.note == NOTE for call in calls)
    rounding = sum(call.note == ROUNDING for call in calls)
    if compensated and not variation:
        differ = "differs" if compensated == 1 else "differ"
        parts.append(f"{count(compensated, 'layer call')} {differ}, compensated by the next layers, which agree again")
    if constants := sum(call.note == CONSTANTS for call in calls):
        parts.append(f"{count(constants, 'layer call')} with constants that one side stores as float32")
    if rounding:
        parts.append(f"{count(rounding, 'layer call')} with rounding differences only")
    return ", ".join(parts)


def _failed_summary(calls: Sequence[_JudgedCall], failed: Sequence[int], failed_outputs: int) -> str:
    return f"{len(failed)} of {count(len(calls), 'layer call')} and {count(failed_outputs, 'output')} differ"


def _may_be_a_constant(subject: Subject, diff: Diff | None, change: Callable[[], float] | None = None) -> bool:
    """Return whether a difference may come from a constant that one side rounds to float32; see `may_be_rounded`."""
    return diff is not None and diff.nonfinite == 0 and may_be_rounded(subject, diff.max_rel, change)


def _layer_problem(
    subject: Subject, calls: Sequence[_JudgedCall], failed: Sequence[int], clear: Sequence[int], variation: str
) -> Problem:
    """Return the problem of the layer to blame for the differences of a run, with its cause.

    Args:
        subject: The models with the inputs and weights of this run.
        calls: The calls of all layer pairs.
        failed: Indices of the calls that differ.
        clear: Indices of those that differ by more than a constant that one side rounds to float32 explains. A cause
            of theirs comes first, because the deployed models agree up to such constants.
        variation: The name of a further run, after a comma; empty for the first run.
    """
    order = ""
    plain = [judged.call for judged in calls]
    if clear and clear[0] != failed[0]:
        index, explanation = blame_layer(subject, plain, clear, subject.probe_weights)
        if explanation is not None and explanation.is_found:
            call = plain[index]
            difference = _difference(call, call.diff, variation)
            fact = f"the first layer that differs by more than rounded constants: {difference}"
            return explained_problem(*call.key, fact, explanation)
    if not subject.outputs_are_near:
        in_order = list(call_pairs(subject, subject.torch_probe, subject.keras_probe, any_order=True))
        others = [place for place in failed if not _agrees(in_order[place].diff)]
        if others and any(in_order[place].order is not None for place in failed):
            # An order of rows that ends before the outputs is no mistake: a layer with other rows is blamed first. That
            # its inputs have another order may be its mistake, or that of a layer before it.
            for candidates in (plain, in_order):
                index, explanation = blame_layer(subject, candidates, others, subject.probe_weights)
                if explanation is not None and explanation.is_found:
                    call = candidates[index]
                    fact = f"the first layer that differs: {_difference(call, call.diff, variation)}"
                    return explained_problem(*call.key, fact, explanation)
        if failed[0] not in others:
            order = ORDER + "".join(
                f"; the first with other rows is {calls[place].call.pair.torch}" for place in others[:1]
            )
    index, explanation = blame_layer(subject, plain, failed, subject.probe_weights)
    judged = calls[index]
    uncompensated = "" if index == failed[0] else " and is not compensated by a neighbouring layer"
    order = order if index == failed[0] and not (explanation and explanation.is_found) else ""
    fact = f"the first layer that differs{uncompensated}: {_difference(judged.call, judged.diff, variation)}{order}"
    return explained_problem(*judged.call.key, fact, explanation)


def _difference(call: CallPair, diff: Diff | None, variation: str) -> str:
    return call.mismatch if diff is None else f"{_in_words(diff)}{variation}"


def _judge_outputs(
    subject: Subject, variant: Variant, nearby: NearbyRun, *, search: bool, constants: bool
) -> tuple[Table, float, list[Problem]]:
    """Return a table of the model outputs, the worst relative error, and the problems.

    Args:
        subject: The models with the inputs and weights of this run.
        variant: The name of this run, and how its inputs and weights differ from the original ones.
        nearby: A run of the same models with slightly changed values, which shows if a difference is mere rounding.
        search: Whether to search for the cause of a difference.
        constants: Whether differences as small as the rounding of constants to float32 are accepted.
    """
    rows: list[tuple[str, str, float | None, str]] = []
    problems = []
    worst = 0.0
    variation = f", {variant.name}" if variant.name else ""
    for index, pair in enumerate(output_pairs(subject.torch_probe, subject.keras_probe)):
        diff = None if pair.mismatch else _judged_diff(compare(pair.keras_output, pair.torch_output), variant)
        is_rounding = not _agrees(diff) and _may_be_rounding(diff) and not nearby.output_repeats(index, pair)
        change = partial(nearby.output_change, index, pair) if variant.is_large else None
        is_constant = constants and _may_be_a_constant(subject, diff, change)
        passed = is_rounding or _agrees(diff) or is_constant
        if not is_rounding:
            worst = max(worst, diff.max_rel if diff else float("inf"))
        name = shown_name(pair, subject.keras, subject.keras_probe)
        rows.append((name, pair.layout, diff.max_rel if diff else None, "passed" if passed else "failed"))
        if passed:
            continue
        fact = f"differs {_in_words(diff)}{variation}" if diff else pair.mismatch
        explanation = explain_output(subject, pair, subject.probe_weights) if search and diff else None
        problems.append(explained_problem(pair.torch_name, f"output {name}", fact, explanation))
    columns = ("output", "layout", "relative error", "status")
    return Table(title=f"outputs{variation}", columns=columns, rows=tuple(rows)), worst, problems


def _in_words(diff: Diff) -> str:
    return f"in {NOT_FINITE}" if diff.nonfinite else f"by {diff.max_rel:.2g} of the largest value"


def _table(calls: Sequence[_JudgedCall], failed: Sequence[int], variation: str) -> Table:
    rows = tuple(
        (
            judged.call.pair.torch,
            judged.call.pair.keras,
            judged.diff.max_rel if judged.diff else None,
            judged.note or judged.call.mismatch,
        )
        for judged in calls
    )
    columns = ("torch", "keras", "relative error", "note")
    return Table(title=f"layers{variation}", columns=columns, rows=rows, failed=tuple(failed))


def _plot(calls: Sequence[_JudgedCall], failed: Sequence[int], variation: str) -> Plot:
    errors = tuple(judged.diff.max_rel if judged.diff else None for judged in calls)
    return Plot(
        title=f"relative error along the depth, float64, probe weights{variation}",
        labels=tuple(judged.call.pair.torch for judged in calls),
        series=(Series(name="relative error", values=errors),),
        unit="relative error",
        failed=tuple(failed),
    )
