"""Compare the outputs of both models, run with their own weights and dtype as they are used in practice.

The limit is the noise floor: how far the torch module's outputs in its own dtype are from those in float64.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from keras3conv.errors import Problem
from keras3conv.messages import how_many_differ
from keras3conv.numerics.judgement import Judgement, judge
from keras3conv.report.values import Section, Table
from keras3conv.transforms import Array
from keras3conv.validators.diagnosis.causes import explained_problem
from keras3conv.validators.diagnosis.search import explain_output
from keras3conv.validators.running.determinism import draws, noise_is_suspicious, nondeterminism, state_facts
from keras3conv.validators.running.neighbours import outputs_agree
from keras3conv.validators.running.noise_runs import (
    NoiseRuns,
    may_be_chance,
    narrow_dtype,
    rounded_as_keras,
    rounded_floor,
    with_larger_floor,
)
from keras3conv.validators.running.output_pairs import OutputPair, output_pairs, shown_name, torch_outputs
from keras3conv.validators.running.sample import sample_of
from keras3conv.validators.running.subject import Subject

CLAIM = (
    "With their own weights and dtype, both models return the same values up to the noise that the torch module makes "
    "against its own float64 run."
)

_LARGE = 100.0
"""The size of values from which the summary states it beside their absolute difference."""


def check(subject: Subject) -> Section:
    """Compare the outputs of the whole models, and check that each model returns the same when it is called again.

    Returns:
        The section of the report.
    """
    if subject.skip_reason:
        return Section(name="outputs", status="skipped", claim=CLAIM, summary="not run", reason=subject.skip_reason)
    rows: list[tuple[str, str, float | None, float | None, float | None, str]] = []
    problems, described = [], []
    for pair in output_pairs(subject.torch_run, subject.keras_run):
        name = shown_name(pair, subject.keras, subject.keras_run)
        if pair.mismatch:
            problems.append(Problem(torch=pair.torch_name, keras=f"output {name}", fact=pair.mismatch))
            rows.append((name, pair.layout, None, None, None, "failed"))
            continue
        judgement = _judge(subject, pair)
        status = "passed" if judgement.passed else "failed"
        rows.append((name, pair.layout, judgement.deviation, judgement.floor, judgement.ratio, status))
        described.append((name, f"{judgement}{_size_of(pair.torch_output)}"))
        if not judgement.passed:
            problems.append(_problem(subject, pair, f"output {name}", judgement))
    differing = len(problems)
    problems = [*_randomness(subject, is_different=bool(problems)), *problems]
    summary = "; ".join(f"{name}: {text}" if len(rows) > 1 else text for name, text in described)
    if differing:
        summary = f"{how_many_differ(differing, len(rows), 'output')} by more than noise"
    elif problems:
        summary = "the outputs are random"
    columns = ("output", "layout", "largest difference", "noise floor", "ratio", "status")
    return Section(
        name="outputs",
        status="failed" if problems else "passed",
        claim=CLAIM,
        summary=summary,
        facts=_facts(subject),
        tables=(Table(title="outputs", columns=columns, rows=tuple(rows)),),
        problems=tuple(problems),
    )


def _size_of(output: Array) -> str:
    """Return ", at values up to 3e+04" for an output with large values, beside which a difference is small; else ""."""
    largest = float(np.abs(output.astype(np.float64)).max()) if output.size and output.dtype.kind in "fiu" else 0.0
    return f", at values up to {largest:.2g}" if _LARGE <= largest < float("inf") else ""


def _problem(subject: Subject, pair: OutputPair, keras_name: str, judgement: Judgement) -> Problem:
    explanation = explain_output(subject, pair, None)
    return explained_problem(pair.torch_name, keras_name, f"differs by {judgement}", explanation)


def _judge(subject: Subject, pair: OutputPair) -> Judgement:
    """Judge the difference of an output by the noise floor of a few samples; if it fails, by that of all samples."""
    tolerance = subject.options.tolerance
    sample = subject.once(sample_of)
    if sample is not None and pair.keys[0] in sample.floors:
        judgement = replace(judge(pair.keras_output, pair.torch_output, None), floor=sample.floors[pair.keys[0]])
        if judgement.passed:
            return judgement
    truths = {}
    if tolerance is None or subject.records_layers:  # reported only if it needs no extra run
        truths = torch_outputs(subject.torch_truth, subject.keras_run)
    judgement = judge(pair.keras_output, pair.torch_output, truths.get(pair.name), tolerance)
    if judgement.passed or tolerance is not None:
        return judgement
    judgement = _judge_by_rounding_of_keras(subject, pair, truths[pair.name])
    if may_be_chance(judgement):
        judgement = _judge_by_repeated_noise(subject, pair, judgement)
    return judgement


def _judge_by_rounding_of_keras(subject: Subject, pair: OutputPair, truth: Array) -> Judgement:
    """Judge the difference of an output by a noise floor that also allows the rounding of Keras' algorithm.

    Args:
        subject: The two models.
        pair: The output as both sides compute it.
        truth: The output of torch in float64.
    """
    rounded = torch_outputs(subject.once(rounded_as_keras), subject.keras_run)
    least = rounded_floor(subject, rounded[pair.name], truth)
    return judge(pair.keras_output, pair.torch_output, truth, least=least)


def _judge_by_repeated_noise(subject: Subject, pair: OutputPair, judgement: Judgement) -> Judgement:
    """Measure the noise floor of an output several times, until its difference is below the largest floor so far.

    Args:
        subject: The two models.
        pair: The output as both sides compute it.
        judgement: The judgement by one noise floor, which the difference exceeds by little.
    """
    for run, truth in subject.once(NoiseRuns):
        rounded, exact = (torch_outputs(recording, subject.keras_run).get(pair.name) for recording in (run, truth))
        judgement = with_larger_floor(judgement, rounded, exact)
        if judgement.passed:
            break
    return judgement


def _randomness(subject: Subject, *, is_different: bool) -> Iterator[Problem]:
    """Yield a problem for every model that returns different outputs when it is called again with the same inputs.

    A model is called again if an output differs, if the noise floor is suspiciously high, or if layer outputs are
    compared. If all outputs agree in float64, the second call is not needed: instead, yield a problem for every Keras
    layer that used its random generator.

    Args:
        subject: The models.
        is_different: Whether an output differs by more than noise.
    """
    if is_different or _noise_is_suspicious(subject):
        yield from nondeterminism(subject)
    elif subject.records_layers:
        is_proven = subject.options.wants("float64") and outputs_agree(subject)
        yield from draws(subject) if is_proven else nondeterminism(subject)


def _noise_is_suspicious(subject: Subject) -> bool:
    if subject.options.tolerance is not None:
        return False
    sample = subject.once(sample_of)
    if sample is not None:
        return noise_is_suspicious(sample.truth, sample.run)
    return noise_is_suspicious(subject.torch_truth, subject.torch_run)


def _facts(subject: Subject) -> dict[str, str]:
    facts = state_facts(subject)
    if tolerance := subject.options.tolerance:
        facts["tolerance"] = f"the caller's: {tolerance}"
    if narrow := subject.once(narrow_dtype):
        facts["compute dtype"] = f"layers of Keras compute in {narrow}, whose noise torch makes there too"
    sample = subject.once(sample_of)
    if sample is not None and sample.floors:
        facts["noise floor"] = (
            f"measured on {sample.description}; on the whole batch for outputs that exceed it or mix samples"
        )
    torch_names, keras_names = list(subject.torch_run.outputs), list(subject.keras_run.outputs)
    paired_names = [pair.keys[0] for pair in output_pairs(subject.torch_run, subject.keras_run)]
    if len(torch_names) == len(keras_names) > 1 and paired_names != keras_names:
        how = f"by shape, {', '.join(paired_names)} in Keras' order"
        if paired_names == torch_names:
            how = "in this order"
        facts["structure"] = f"torch returns {', '.join(torch_names)}, Keras {', '.join(keras_names)}: paired {how}"
    return facts
