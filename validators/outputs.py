"""As the models are deployed: what they return, against the noise floor that the source makes itself."""

from dataclasses import replace

from keras3conv.errors import Problem
from keras3conv.numerics.difference import Judgement, judge
from keras3conv.report.values import Section, Table
from keras3conv.validators.diagnosis.search import explain_end
from keras3conv.validators.running.ends import OutputPair, output_pairs
from keras3conv.validators.running.sample import Sample
from keras3conv.validators.running.steadiness import is_suspicious, states, unsteady
from keras3conv.validators.running.subject import Subject

CLAIM = (
    "With their own weights and in their own dtype, both models return the same values, up to the noise that the "
    "torch module itself makes against its own float64 run."
)


def check(subject: Subject) -> Section:
    """Compares the outputs of the whole models."""
    if subject.not_run:
        return Section(name="outputs", status="skipped", claim=CLAIM, summary="not run", reason=subject.not_run)
    rows: list[tuple[str, str, float | None, float | None, float | None, str]] = []
    problems, said = [], []
    for pair in output_pairs(subject.torch_run, subject.keras_run):
        if pair.odd:
            problems.append(Problem(torch=pair.torch_name, keras=pair.keras_name, fact=pair.odd))
            rows.append((pair.name, pair.layout, None, None, None, "failed"))
            continue
        judgement = _judged(subject, pair)
        status = "passed" if judgement.passed else "failed"
        rows.append((pair.name, pair.layout, judgement.deviation, judgement.floor, judgement.ratio, status))
        said.append(str(judgement))
        if not judgement.passed:
            found = explain_end(subject, pair, None)
            fact = f"differs by {judgement}" + (f"\n      {found.cause}" if found else "")
            fixes = found.fixes if found else ()
            problems.append(Problem(torch=pair.torch_name, keras=pair.keras_name, fact=fact, fixes=fixes))
    wrong = len(problems)
    if subject.watches_layers or problems or _is_suspicious(subject):
        problems = [*unsteady(subject), *problems]
    columns = ("output", "layout", "largest difference", "noise floor", "ratio", "status")
    return Section(
        name="outputs",
        status="failed" if problems else "passed",
        claim=CLAIM,
        summary=_summary(wrong, len(rows)) if problems else "; ".join(said),
        facts=_facts(subject),
        tables=(Table(title="outputs", columns=columns, rows=tuple(rows)),),
        problems=tuple(problems),
    )


_WHOLE = "or is not made of each sample alone"


def _sample(subject: Subject) -> Sample | None:
    """What the noise is measured on where nothing else needs the float64 run of the whole batch."""
    if subject.watches_layers or subject.options.tolerance is not None:
        return None
    return subject.torch_sample


def _judged(subject: Subject, pair: OutputPair) -> Judgement:
    """Judges an output; where a few samples make less noise than it differs by, the whole batch decides."""
    tolerance = subject.options.tolerance
    sample = _sample(subject)
    if sample is not None and pair.keys[0] in sample.floors:
        found = replace(judge(pair.keras, pair.torch, None), floor=sample.floors[pair.keys[0]])
        if found.passed:
            return found
    # With a tolerance given the noise is only measured where another proof needs it anyway.
    measured = tolerance is None or subject.watches_layers
    run = output_pairs(subject.torch_truth, subject.keras_run) if measured else ()
    truth = {other.name: other.torch for other in run}
    return judge(pair.keras, pair.torch, truth.get(pair.name), tolerance)


def _is_suspicious(subject: Subject) -> bool:
    if subject.options.tolerance is not None:
        return False
    sample = _sample(subject)
    if sample is not None:
        return is_suspicious(sample.truth, sample.run)
    return is_suspicious(subject.torch_truth, subject.torch_run)


def _summary(wrong: int, number: int) -> str:
    if not wrong:
        return "the outputs are a matter of chance"
    return f"{wrong} of {number} outputs differ by more than noise"


def _facts(subject: Subject) -> dict[str, str]:
    facts = states(subject)
    if tolerance := subject.options.tolerance:
        facts["tolerance"] = f"the caller's: {tolerance}"
    if (sample := _sample(subject)) is not None and sample.floors:
        facts["noise floor"] = f"measured on {sample.told}; on all of them where an output differs by more, {_WHOLE}"
    ours, theirs = list(subject.torch_run.outputs), list(subject.keras_run.outputs)
    paired = [pair.keys[0] for pair in output_pairs(subject.torch_run, subject.keras_run)]
    if len(ours) == len(theirs) > 1 and paired != theirs:
        told = "in this order" if paired == ours else f"by shape, {', '.join(paired)} in Keras' order"
        facts["structure"] = f"torch returns {', '.join(ours)}, Keras {', '.join(theirs)}: paired {told}"
    return facts
