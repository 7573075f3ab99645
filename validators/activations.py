"""Compare every layer output of both models, run with their own weights and dtype as they are used in practice.

The limit is the noise floor: how far the torch module's float32 outputs are from its own float64 outputs.

Every Keras layer is compared twice: in the whole model, on the inputs that Keras computed, and in isolation, on the
inputs that torch recorded. In isolation, differences of earlier layers have no effect.
"""

from dataclasses import dataclass, replace

from keras3conv.collapsing import collapse
from keras3conv.errors import Problem, first_of
from keras3conv.frameworks.shared.recording import Recording
from keras3conv.messages import count, how_many_differ
from keras3conv.numerics.difference import noise_floor
from keras3conv.numerics.judgement import OF_THE_FLOOR, Judgement, judge_by_floor, worst_difference
from keras3conv.report.values import Cell, Plot, Section, Table
from keras3conv.transforms import Array
from keras3conv.validators.diagnosis.blame import blame_layer
from keras3conv.validators.diagnosis.causes import explained_problem
from keras3conv.validators.running.call_pairs import CallPair, call_pairs, judged_by_outputs
from keras3conv.validators.running.isolated import isolated_run
from keras3conv.validators.running.layouts import in_keras_layout
from keras3conv.validators.running.neighbours import NOTE, compensated_pairs
from keras3conv.validators.running.noise_runs import (
    NoiseRuns,
    may_be_chance,
    rounded_as_keras,
    rounded_floor,
    with_larger_floor,
)
from keras3conv.validators.running.plots import plots_by_depth
from keras3conv.validators.running.subject import Subject

_SHOWN = 8
"""The largest number of layers without a call that the report names in one line."""

_NO_CALL = (
    "one framework calls them as one layer, the other does not, so no call of theirs can be compared; a mistake in "
    "them makes the outputs differ"
)

CLAIM = (
    "With their own weights and dtype, every layer of both models returns the same values up to the noise that the "
    "torch module makes against its own float64 run: in the whole model, and in isolation on torch's recorded inputs."
)


@dataclass(frozen=True, kw_only=True)
class _JudgedCall:
    """A layer call with the judgements of its output: in the whole model and in isolation.

    Attributes:
        call: The call in the whole models.
        whole: Judgement of the call in the whole models; None if there is nothing to compare.
        isolated: Judgement of the layer in isolation; None if there is nothing to compare.
        is_compensated: Whether a neighbouring layer compensates the difference.
    """

    call: CallPair
    whole: Judgement | None
    isolated: Judgement | None
    is_compensated: bool = False

    @property
    def agrees(self) -> bool:
        return self.whole is not None and self.whole.passed and (self.isolated is None or self.isolated.passed)

    @property
    def failed(self) -> bool:
        return not self.agrees and not self.is_compensated

    @property
    def may_be_chance(self) -> bool:
        """True if the call exceeds its noise floor by so little that the floor may be too small by chance."""
        failed = [one for one in (self.whole, self.isolated) if one is not None and not one.passed]
        return self.whole is not None and all(map(may_be_chance, failed))

    def with_larger_floor(self, rounded: Array | None, exact: Array | None) -> "_JudgedCall":
        """Return the call with both judgements by the larger of two noise floors; see `with_larger_floor`."""
        judgements = [one and with_larger_floor(one, rounded, exact) for one in (self.whole, self.isolated)]
        return replace(self, whole=judgements[0], isolated=judgements[1])

    @property
    def note(self) -> str:
        if self.is_compensated:
            return NOTE
        if self.call.mismatch:
            return self.call.mismatch
        judgements = {"whole model": self.whole, "in isolation": self.isolated}
        identical = [place for place, one in judgements.items() if one is not None and one.differing == 0]
        if len(identical) == len(judgements):
            return "bit-identical"
        return f"bit-identical ({identical[0]})" if identical else ""


def check(subject: Subject) -> Section:
    """Compare all layer outputs, in the whole model and in isolation; return the section of the report."""
    if subject.skip_reason:
        return Section(name="activations", status="skipped", claim=CLAIM, summary="not run", reason=subject.skip_reason)
    calls = _judged_calls(subject)
    failed = [index for index, judged in enumerate(calls) if judged.failed]
    differing = f"{how_many_differ(len(failed), len(calls), 'layer call')} by more than noise"
    tolerance = subject.options.tolerance
    return Section(
        name="activations",
        status="failed" if failed else "passed",
        claim=CLAIM,
        summary=differing if failed else _summary(calls),
        facts={**({"tolerance": f"the caller's: {tolerance}"} if tolerance else {}), **_by_outputs(subject, calls)},
        tables=(_table(calls, failed),),
        plots=_plots(calls, failed),
        problems=(_problem(subject, calls, failed),) if failed else (),
    )


def _by_outputs(subject: Subject, calls: list[_JudgedCall]) -> dict[str, str]:
    """Return a line for the report that names the layers without a call to compare; empty if there are none."""
    paths = [(path,) for path in judged_by_outputs(subject, {judged.call.key for judged in calls})]
    lines = [line.paths[0] for line in collapse(paths)]
    return {"judged by the outputs alone": f"{first_of(lines, _SHOWN)}: {_NO_CALL}"} if lines else {}


def _judged_calls(subject: Subject) -> list[_JudgedCall]:
    isolated_calls = list(call_pairs(subject, subject.torch_run, isolated_run(subject)))
    whole_calls = list(call_pairs(subject, subject.torch_run, subject.keras_run))
    truths = _outputs_of(subject, subject.torch_truth, whole_calls)
    calls = [_judged_call(subject, *call) for call in zip(whole_calls, isolated_calls, truths, strict=True)]
    if all(judged.agrees for judged in calls):
        return calls
    if subject.options.tolerance is None:
        rounded = _outputs_of(subject, subject.once(rounded_as_keras), whole_calls)
        calls = [
            judged if judged.agrees else _judged_by_rounding_of_keras(subject, judged, isolated, truth, other)
            for judged, isolated, truth, other in zip(calls, isolated_calls, truths, rounded, strict=True)
        ]
        calls = _judged_by_repeated_noise(subject, calls)
    compensated = compensated_pairs(subject)
    return [replace(judged, is_compensated=judged.call.key in compensated) for judged in calls]


def _judged_call(
    subject: Subject, whole: CallPair, isolated: CallPair, truth: Array | None, least: float = 0.0
) -> _JudgedCall:
    """Judge a layer call in the whole models and in isolation, both times by its noise floor in the whole models.

    Args:
        subject: The two models.
        whole: The call in the whole models.
        isolated: The same call in isolation; if the outputs match only here, the noise floor is measured here.
        truth: The output of torch in float64.
        least: A lower limit for the noise floor.
    """
    floor = _floor(whole, truth)
    judgements: list[Judgement | None] = []
    for call in (whole, isolated):
        noise = _floor(call, truth) if floor is None else floor
        noise = None if noise is None else max(noise, least)
        diff = None if truth is None else call.diff
        judgements.append(None if diff is None else judge_by_floor(diff, noise, subject.options.tolerance))
    return _JudgedCall(call=whole, whole=judgements[0], isolated=judgements[1])


def _judged_by_rounding_of_keras(
    subject: Subject, judged: _JudgedCall, isolated: CallPair, truth: Array | None, rounded: Array | None
) -> _JudgedCall:
    """Judge a failed layer call a second time, by a noise floor that includes the rounding of Keras' algorithm.

    Args:
        subject: The two models.
        judged: The call with its judgements so far.
        isolated: The same call in isolation.
        truth: The output of torch in float64.
        rounded: The output of torch in a run that rounds where Keras does.

    Returns:
        The call with new judgements; the unchanged call if `truth` or `rounded` is missing.
    """
    if truth is None or rounded is None or truth.shape != rounded.shape:
        return judged
    return _judged_call(subject, judged.call, isolated, truth, rounded_floor(subject, rounded, truth))


def _judged_by_repeated_noise(subject: Subject, calls: list[_JudgedCall]) -> list[_JudgedCall]:
    """Measure the noise floor again while layer calls exceed it by little, and judge them by the largest floor so far.

    It stops as soon as all calls pass. If a call exceeds its noise floor by much, all calls are returned unchanged.

    Args:
        subject: The two models.
        calls: All layer calls with their judgements by one noise floor.
    """
    failed = [judged for judged in calls if judged.failed]
    if not failed or not all(judged.may_be_chance for judged in failed):
        return calls
    whole_calls = [judged.call for judged in calls]
    for run, truth in subject.once(NoiseRuns):
        outputs = zip(*(_outputs_of(subject, recording, whole_calls) for recording in (run, truth)), strict=True)
        calls = [
            judged if judged.agrees else judged.with_larger_floor(rounded, exact)
            for judged, (rounded, exact) in zip(calls, outputs, strict=True)
        ]
        if all(judged.agrees for judged in calls):
            break
    return calls


def _outputs_of(subject: Subject, run: Recording, calls: list[CallPair]) -> list[Array | None]:
    """Return, for every layer call, the output of the torch layer in another run, in the layout of Keras.

    The result has an array for each call; None for a call that the other run or Keras did not make.

    Args:
        subject: The two models.
        run: The other run of torch, such as that in float64.
        calls: The layer calls of the whole models.
    """
    used: dict[str, int] = {}
    truths: list[Array | None] = []
    for call in calls:
        number = used.get(call.pair.torch, 0)
        used[call.pair.torch] = number + 1
        other_calls = run.of(call.pair.torch)
        if call.keras_output is None or number >= len(other_calls):
            truths.append(None)
        else:
            truths.append(in_keras_layout(subject, call.pair, other_calls[number], call.keras_output.shape))
    return truths


def _floor(call: CallPair, truth: Array | None) -> float | None:
    """Return the noise floor of a torch layer's output: its largest difference from the float64 output `truth`.

    The result is None if one of the two outputs is missing.
    """
    if call.mismatch or truth is None or call.torch_output is None:
        return None
    return noise_floor(call.torch_output, call.in_same_layout(truth))


def _summary(calls: list[_JudgedCall]) -> str:
    identical = sum(judged.note == "bit-identical" for judged in calls)
    number = count(len(calls), "layer call")
    counted = [judged for judged in calls if not judged.is_compensated]
    together = worst_difference(judged.whole for judged in counted)
    alone = worst_difference(judged.isolated for judged in counted)
    if together == alone == "bit-identical":
        return f"{number}, {identical} bit-identical"
    alone = alone.removesuffix(OF_THE_FLOOR) if together.endswith(OF_THE_FLOOR) else alone
    return f"{number}, {identical} bit-identical, {together}, in isolation {alone}"


def _problem(subject: Subject, calls: list[_JudgedCall], failed: list[int]) -> Problem:
    index, explanation = blame_layer(subject, [judged.call for judged in calls], failed, None)
    first = calls[index]
    whole, isolated = first.whole, first.isolated
    fact = f"the first layer that differs: {first.call.mismatch or whole}"
    if whole and isolated and whole.passed:
        fact = f"in the whole model it agrees, in isolation it differs by {isolated}"
    elif whole and isolated:
        fact += (
            "\n      in isolation it agrees" if isolated.passed else f"\n      in isolation it differs by {isolated}"
        )
    return explained_problem(*first.call.key, fact, explanation)


def _table(calls: list[_JudgedCall], failed: list[int]) -> Table:
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            judged.call.pair.torch,
            judged.call.pair.keras,
            judged.whole.deviation if judged.whole else None,
            judged.isolated.deviation if judged.isolated else None,
            judged.whole.floor if judged.whole else None,
            judged.whole.ratio if judged.whole else None,
            judged.note,
        )
        for judged in calls
    )
    columns = ("torch", "keras", "largest difference", "in isolation", "noise floor", "ratio", "note")
    return Table(title="layers", columns=columns, rows=rows, failed=tuple(failed))


def _plots(calls: list[_JudgedCall], failed: list[int]) -> tuple[Plot, ...]:
    labels = tuple(judged.call.pair.torch for judged in calls)
    whole, isolated = [judged.whole for judged in calls], [judged.isolated for judged in calls]
    return tuple(plots_by_depth(labels, whole, isolated, failed)) if calls else ()
