"""Hold both models to golden outputs: what some software returned for the same inputs, kept in a file."""

from collections.abc import Mapping
from dataclasses import replace

from keras3conv.errors import Problem
from keras3conv.messages import count
from keras3conv.numerics.difference import Judgement, judge
from keras3conv.report.values import Section, Table
from keras3conv.transforms import Array
from keras3conv.validators.running.ends import OutputPair, output_pairs
from keras3conv.validators.running.subject import Subject

NAME = "expected"

CLAIM = (
    "For these inputs both models return the golden outputs that were given, up to the noise that the torch module "
    "itself makes against its own float64 run."
)


def check(subject: Subject) -> Section:
    """Compare the outputs of both models with the golden outputs."""
    if subject.not_run:
        return Section(name=NAME, status="skipped", claim=CLAIM, summary="not run", reason=subject.not_run)
    pairs = list(output_pairs(subject.torch_run, subject.keras_run))
    expected = _expected_by_output(subject.options.expected, pairs)
    rows: list[tuple[str, str, float | None, float | None, float | None, str]] = []
    problems = []
    for pair in pairs:
        golden = expected.get(pair.name)
        for side, found, where in (("torch", pair.torch, pair.torch_name), ("keras", pair.keras, pair.keras_name)):
            judgement = None if golden is None else _judged(subject, pair, found, golden)
            passed = judgement is not None and judgement.passed
            row = (judgement.deviation, judgement.floor, judgement.ratio) if judgement else (None, None, None)
            rows.append((pair.name, side, *row, "passed" if passed else "failed"))
            if not passed:
                problems.append(Problem.on(side, where, _fact(judgement, found, golden, len(expected), len(pairs))))
    columns = ("output", "side", "largest difference", "noise floor", "ratio", "status")
    return Section(
        name=NAME,
        status="failed" if problems else "passed",
        claim=CLAIM,
        summary=_summary(len(problems), len(pairs)),
        facts={"meaning": f"that of {writer(subject)}"},
        tables=(Table(title="golden outputs", columns=columns, rows=tuple(rows)),),
        problems=tuple(problems),
    )


def writer(subject: Subject) -> str:
    """Return the software, with its version, whose meaning of the model the Keras side has."""
    import keras

    from keras3conv.frameworks.keras.origin import origin_of

    origin = origin_of(subject.keras)
    return f"{origin.writer}, which saved {origin.file}" if origin else f"Keras {keras.__version__}"


def _expected_by_output(expected: Mapping[str, Array], pairs: list[OutputPair]) -> dict[str, Array]:
    """The golden outputs by the names of the models' outputs; in their order where the names are others."""
    names = [pair.keys[1] for pair in pairs]
    if set(names) == set(expected):
        return {pair.name: expected[pair.keys[1]] for pair in pairs}
    if len(expected) != len(pairs):
        return {}
    return {pair.name: array for pair, array in zip(pairs, expected.values(), strict=True)}


def _judged(subject: Subject, pair: OutputPair, found: Array, golden: Array) -> Judgement | None:
    """The difference of one side beside the noise of the torch module; None where the shapes differ."""
    if found.shape != golden.shape or pair.odd:
        return None
    truth = {other.name: other.torch for other in output_pairs(subject.torch_truth, subject.keras_run)}
    floor = judge(pair.torch, pair.torch, truth.get(pair.name)).floor
    return replace(judge(found, golden, None, subject.options.tolerance), floor=floor)


def _fact(judgement: Judgement | None, found: Array, golden: Array | None, given: int, returned: int) -> str:
    if golden is None:
        return f"{count(given, 'golden output')} given, and the models return {returned}"
    if judgement is None:
        return f"is of shape {found.shape}, and the golden output of shape {golden.shape}"
    return f"differs from the golden output by {judgement}"


def _summary(wrong: int, outputs: int) -> str:
    if not wrong:
        return f"{count(outputs, 'output')} as expected, on both sides"
    return f"{wrong} of {2 * outputs} outputs of the two sides are not as expected"


__all__ = ["CLAIM", "NAME", "check", "writer"]
