"""Compare the outputs of both models with golden outputs, which other software computed for the same inputs."""

from collections.abc import Mapping
from dataclasses import replace

from keras3conv.errors import InputError, Problem
from keras3conv.messages import count
from keras3conv.numerics.difference import compare, noise_floor, resolution
from keras3conv.numerics.judgement import Judgement, judge
from keras3conv.report.values import Section, Table
from keras3conv.transforms import Array
from keras3conv.validators.running.output_pairs import OutputPair, output_pairs, shown_name, torch_outputs
from keras3conv.validators.running.subject import Subject

NAME = "expected"

CLAIM = (
    "For these inputs both models return the golden outputs, up to the noise that the two models make against the "
    "float64 run of the torch module, and at least two units in the last place of the largest value."
)

_UNITS = 2.0
"""The rounding noise allowed for the software that computed the golden outputs, in units in the last place."""


def check(subject: Subject) -> Section:
    """Compare the outputs of both models with golden outputs; return the section of the report."""
    if subject.skip_reason:
        return Section(name=NAME, status="skipped", claim=CLAIM, summary="not run", reason=subject.skip_reason)
    pairs = list(output_pairs(subject.torch_run, subject.keras_run))
    given = subject.options.expected
    shown = {pair.name: shown_name(pair, subject.keras, subject.keras_run) for pair in pairs}
    expected = _expected_by_output(given, pairs, shown)
    rows: list[tuple[str, str, float | None, float | None, float | None, str]] = []
    problems = []
    for pair in pairs:
        golden = expected.get(pair.name)
        sides = (
            ("torch", pair.torch_output, pair.torch_name),
            ("keras", pair.keras_output, f"output {shown[pair.name]}"),
        )
        for side, output, where in sides:
            judgement = None if golden is None else _judgement(subject, pair, output, golden)
            passed = judgement is not None and judgement.passed
            numbers = (judgement.deviation, judgement.floor, judgement.ratio) if judgement else (None, None, None)
            rows.append((shown[pair.name], side, *numbers, "passed" if passed else "failed"))
            if not passed:
                problems.append(Problem.on(side, where, _fact(judgement, output, golden, len(given), len(pairs))))
    columns = ("output", "side", "largest difference", "noise floor", "ratio", "status")
    return Section(
        name=NAME,
        status="failed" if problems else "passed",
        claim=CLAIM,
        summary=_summary(len(problems), len(pairs)),
        facts={"meaning": f"that of {_writer(subject)}"},
        tables=(Table(title="golden outputs", columns=columns, rows=tuple(rows)),),
        problems=tuple(problems),
    )


def require_fitting(subject: Subject) -> None:
    """Raise `InputError` if the models do not return as many outputs as there are golden outputs.

    The check is made before the slow proofs.
    """
    given = subject.options.expected
    if subject.skip_reason or not given:
        return
    pairs = list(output_pairs(subject.torch_run, subject.keras_run))
    if len(given) != len(pairs) and not any(pair.mismatch and not pair.keys[1] for pair in pairs):
        named = ((shown_name(pair, subject.keras, subject.keras_run), pair.keras_output.shape) for pair in pairs)
        names = ", ".join(f"{name} {shape}" for name, shape in named)
        raise InputError(
            f"{count(len(given), 'golden output')} given, but the models return {len(pairs)}, in Keras {names}"
        )


def _writer(subject: Subject) -> str:
    """Return the Keras version that defines the layers of the Keras model, such as "Keras 2.4.0, which saved old.h5".

    For a Keras model that was not loaded from a file, return the installed version, such as "Keras 3.8.0".
    """
    import keras

    from keras3conv.frameworks.keras.adapter import origin_of

    origin = origin_of(subject.keras)
    return f"{origin.writer}, which saved {origin.file}" if origin else f"Keras {keras.__version__}"


def _expected_by_output(
    expected: Mapping[str, Array], pairs: list[OutputPair], shown: Mapping[str, str]
) -> dict[str, Array]:
    """Return the golden outputs by the names of the models' outputs.

    Golden outputs and model outputs are matched by name, or by order if the names differ. The result is empty if the
    numbers of golden outputs and model outputs differ.

    Args:
        expected: The golden outputs, by the names that the user gave.
        pairs: The outputs of both models, in the order in which the models return them.
        shown: The names that reports have for the outputs, by the name of the pair.
    """
    if set(shown.values()) == set(expected):
        return {pair.name: expected[shown[pair.name]] for pair in pairs}
    if {pair.keys[1] for pair in pairs} == set(expected):
        return {pair.name: expected[pair.keys[1]] for pair in pairs}
    if len(expected) != len(pairs):
        return {}
    return {pair.name: array for pair, array in zip(pairs, expected.values(), strict=True)}


def _judgement(subject: Subject, pair: OutputPair, output: Array, golden: Array) -> Judgement | None:
    """Judge the difference between a model output and a golden (expected) output; None if their shapes differ.

    The limit is the larger of torch's and Keras' noise floor.

    Args:
        subject: The two models.
        pair: The output as both sides compute it.
        output: The output of the side that is judged.
        golden: The golden output.
    """
    if output.shape != golden.shape or pair.mismatch:
        return None
    found = judge(output, golden, None, subject.options.tolerance)
    truths = torch_outputs(subject.torch_truth, subject.keras_run)
    if pair.name not in truths:
        return found
    noises = [noise_floor(one, truths[pair.name]) for one in (pair.torch_output, pair.keras_output)]
    return replace(found, floor=max(*noises, _UNITS * resolution(output) * compare(output, golden).scale))


def _fact(judgement: Judgement | None, output: Array, golden: Array | None, number: int, returned: int) -> str:
    if golden is None:
        return f"{count(number, 'golden output')} given, but the models return {returned}"
    if judgement is None:
        return f"this output has the shape {output.shape}, but the golden output has {golden.shape}"
    return f"this output differs from the golden output by {judgement}"


def _summary(wrong: int, outputs: int) -> str:
    if not wrong:
        return f"{count(outputs, 'output')} as expected, on both sides"
    return f"{wrong} of {2 * outputs} outputs of the two sides are not as expected"
