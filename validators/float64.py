"""Prove that both models compute the same function: run them in float64 with random weights in place of their own."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from keras3conv.errors import Problem, first_of
from keras3conv.messages import count
from keras3conv.numerics.difference import FLOAT64_LIMIT, Diff
from keras3conv.numerics.judgement import agreement
from keras3conv.report.values import LIMIT, Plot, Section, Series, Table
from keras3conv.validators.diagnosis.blame import layer_problem
from keras3conv.validators.diagnosis.causes import explained_problem
from keras3conv.validators.diagnosis.search import explain_output
from keras3conv.validators.running.call_pairs import CallPair, probe_calls
from keras3conv.validators.running.exercised import exercised, unreached_in_words
from keras3conv.validators.running.float64_run import Float64Run
from keras3conv.validators.running.nearby import NOTE as ROUNDING
from keras3conv.validators.running.nearby import NearbyRun
from keras3conv.validators.running.neighbours import NOTE, agrees, compensated_pairs
from keras3conv.validators.running.output_pairs import output_pairs, shown_name
from keras3conv.validators.running.rounded_constants import CONSTANTS, SINES, sines_rounded
from keras3conv.validators.running.subject import Subject
from keras3conv.validators.running.variants import Variant, variants

CLAIM = (
    "Both models compute the same function: in float64, under probe weights, every layer and every output agree "
    f"to {FLOAT64_LIMIT:g} of the largest value."
)

OTHER_CLAIM = (
    " They also agree at other magnitudes of their values: next to small values an epsilon is large, and large values "
    "pass the bounds of activations and clips."
)


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
        return not self.note and not agrees(self.diff)


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
        is_excused = variant.is_optional and _differs(variant, subject)
        section = section if is_excused else _judge_variant(section, variant, subject)
        (differing if is_excused else seen).append(replace(variant, subject=None))
        if section.status == "failed":
            return section
        del variant  # its recorded values are large: they are freed before the next run
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
    subject = variant.subject
    if subject is None:
        return False
    run = Float64Run(subject=subject, variant=variant, original=original, nearby=NearbyRun(subject))
    return _judged(run).status == "failed"


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
    run = Float64Run(subject=subject, variant=variant, original=original, nearby=NearbyRun(subject))
    section = _judged(run)
    if section.status == "passed":
        return section
    with sines_rounded(subject) as rounded:
        if rounded is not None:
            again = _judged(replace(run, subject=rounded, nearby=NearbyRun(rounded)))
            if again.status == "passed":
                return replace(again, summary=f"{again.summary}, {SINES}")
    # If there is also a larger difference, rounded constants no longer excuse the small ones.
    return _judged(replace(run, constants=False)) if search else section


def _judged(run: Float64Run) -> Section:
    """Judge one run of both models, and return its section."""
    calls = _judged_calls(run)
    failed = [index for index, judged in enumerate(calls) if judged.failed]
    clear = [index for index in failed if not run.may_be_a_constant(calls[index].diff)]
    # If only layers that cannot be compared differ, the cause of a different output is after the last layer.
    search = not run.constants and all(calls[index].call.mismatch for index in clear)
    outputs, worst_output, problems = _judge_outputs(run, search=search)
    summary = _summary(calls, worst_output, run.variant.name)
    if failed or problems:
        layers = f"{len(failed)} of {count(len(calls), 'layer call')}"
        summary = f"{layers} and {count(len(problems), 'output')} differ{run.remark}"
    if failed and run.constants:  # the caller judges again
        problems = [Problem(fact="a layer differs"), *problems]
    elif failed:
        layer = layer_problem(run.subject, [judged.call for judged in calls], failed, clear, run.in_words)
        # Where only rounded constants make layers differ, a cause of the output's difference comes first.
        explained = not clear and any(problem.fixes for problem in problems)
        problems = [*problems, layer] if explained else [layer, *problems]
    return Section(
        name="float64",
        status="failed" if problems else "passed",
        claim=CLAIM,
        summary=summary,
        tables=(outputs, _table(calls, failed, run.remark)),
        plots=(_plot(calls, failed, run.remark),) if calls else (),
        problems=tuple(problems),
    )


def _judged_calls(run: Float64Run) -> list[_JudgedCall]:
    calls = probe_calls(run.subject)
    diffs = [run.diff(call) for call in calls]
    compensated: frozenset[tuple[str, str]] = frozenset()
    if not all(map(agrees, diffs)):
        compensated = compensated_pairs(run.original)
        # At small magnitudes an activation is almost the identity, so a mistake may look compensated by a neighbour.
        compensated |= frozenset() if run.variant.is_small else compensated_pairs(run.subject)
    judged = []
    for index, (call, diff) in enumerate(zip(calls, diffs, strict=True)):
        note = NOTE if call.key in compensated else run.excuse(index, call)
        judged.append(_JudgedCall(call=call, diff=diff, note=note))
    return judged


def _summary(calls: Sequence[_JudgedCall], worst_output: float, variation: str) -> str:
    """Return the largest errors of the layers and of the model outputs in a run, as text; one for a further run.

    Args:
        calls: The layer calls of the run.
        worst_output: The largest error of an output.
        variation: The name of a further run, such as "at values of 32", whose summary is shorter; empty for the first
            run.
    """
    notes = Counter(call.note for call in calls)
    worst_layer = max((call.diff.max_rel for call in calls if call.diff and not call.note), default=0.0)
    if variation:
        parts = [f"all {agreement(max(worst_output, worst_layer))} {variation}"]
    else:
        agree = f"{count(notes[''], 'layer call')} {agreement(worst_layer)}"
        parts = [f"outputs agree {agreement(worst_output)}", agree]
        if compensated := [f"{call.call.pair.torch} / {call.call.pair.keras}" for call in calls if call.note == NOTE]:
            differ = "differs" if len(compensated) == 1 else "differ"
            named = f"{count(len(compensated), 'layer call')} {differ} ({first_of(compensated, 3)})"
            parts.append(f"{named}, compensated by the next layers, which agree again")
    if constants := notes[CONSTANTS]:
        parts.append(f"{count(constants, 'layer call')} with constants that one side stores as float32")
    if rounding := notes[ROUNDING]:
        parts.append(f"{count(rounding, 'layer call')} with rounding differences only")
    return ", ".join(parts)


def _judge_outputs(run: Float64Run, *, search: bool) -> tuple[Table, float, list[Problem]]:
    """Return a table of the model outputs, the worst relative error, and the problems.

    Args:
        run: The run.
        search: Whether to search for the cause of a difference.
    """
    rows: list[tuple[str, str, float | None, str]] = []
    problems = []
    worst = 0.0
    subject = run.subject
    for index, pair in enumerate(output_pairs(subject.torch_probe, subject.keras_probe)):
        diff = run.diff(pair)
        excuse = run.excuse(index, pair)
        if excuse != ROUNDING:
            worst = max(worst, diff.max_rel if diff else float("inf"))
        name = shown_name(pair, subject.keras, subject.keras_probe)
        passed = bool(excuse) or agrees(diff)
        rows.append((name, pair.layout, diff.max_rel if diff else None, "passed" if passed else "failed"))
        if passed:
            continue
        fact = f"differs {run.in_words(pair)}" if diff else pair.mismatch
        explanation = explain_output(subject, pair, subject.probe_weights) if search and diff else None
        problems.append(explained_problem(pair.torch_name, f"output {name}", fact, explanation))
    columns = ("output", "layout", "relative error", "status")
    return Table(title=f"outputs{run.remark}", columns=columns, rows=tuple(rows)), worst, problems


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
        series=(
            Series(name="relative error", values=errors),
            Series(name=f"{LIMIT}: {FLOAT64_LIMIT:g}", values=(FLOAT64_LIMIT,) * len(errors)),
        ),
        unit="relative error",
        failed=tuple(failed),
    )
