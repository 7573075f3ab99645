"""As the models are deployed: every layer's output, against the noise floor that the source makes itself."""

from keras3conv.compare import Judgement, judge
from keras3conv.errors import Problem
from keras3conv.report import Plot, Section, Series, Table
from keras3conv.transforms import Array
from keras3conv.validators.diagnosis import explain
from keras3conv.validators.layers import Meeting, in_keras_layout, meetings
from keras3conv.validators.subject import Subject

CLAIM = (
    "With their own weights and in their own dtype, every layer of both models gives the same values, up to the noise "
    "that the torch module itself makes against its own float64 run."
)


def check(subject: Subject) -> Section:
    """Compares every layer's output, cumulative: the Keras layer is fed what Keras computed before."""
    if subject.not_run:
        return Section(name="activations", status="skipped", claim=CLAIM, summary="not run", reason=subject.not_run)
    met = list(meetings(subject, subject.torch_run, subject.keras_run))
    truths = _truths(subject, met)
    judged = [None if meeting.odd else _judge(meeting, truths[place]) for place, meeting in enumerate(met)]
    bad = [place for place, judgement in enumerate(judged) if judgement is None or not judgement.passed]
    identical = sum(judgement is not None and judgement.differing == 0 for judgement in judged)
    worst = max((judgement.ratio for judgement in judged if judgement), default=0.0)
    summary = f"{len(met)} layer calls, {identical} bit-identical, at most {worst:.2g} x the noise floor"
    return Section(
        name="activations",
        status="failed" if bad else "passed",
        claim=CLAIM,
        summary=f"{len(bad)} of {len(met)} layer calls differ by more than noise" if bad else summary,
        tables=(_table(met, judged, bad),),
        plots=(_plot(met, judged, bad),) if met else (),
        problems=(_problem(subject, met[bad[0]], judged[bad[0]]),) if bad else (),
    )


def _truths(subject: Subject, met: list[Meeting]) -> list[Array]:
    """The float64 outputs of the torch module for the same calls, in Keras' layout."""
    used: dict[str, int] = {}
    truths = []
    for meeting in met:
        place = used.get(meeting.pair.torch, 0)
        used[meeting.pair.torch] = place + 1
        calls = subject.torch_truth.of(meeting.pair.torch)
        shape = meeting.keras.shape if meeting.keras is not None else ()
        truths.append(in_keras_layout(subject, meeting.pair, calls[place], shape))
    return truths


def _judge(meeting: Meeting, truth: Array) -> Judgement:
    assert meeting.torch is not None
    assert meeting.keras is not None
    return judge(meeting.keras, meeting.torch, truth)


def _problem(subject: Subject, meeting: Meeting, judgement: Judgement | None) -> Problem:
    fact = f"the first layer that differs: {meeting.odd or judgement}"
    found = explain(subject, meeting, None)
    return Problem(
        torch=meeting.pair.torch,
        keras=meeting.pair.keras,
        fact=f"{fact}\n      {found.cause}" if found else fact,
        fixes=(found.fix,) if found else (),
    )


def _table(met: list[Meeting], judged: list[Judgement | None], bad: list[int]) -> Table:
    rows = tuple(
        (
            meeting.pair.torch,
            meeting.pair.keras,
            judgement.deviation if judgement else None,
            judgement.floor if judgement else None,
            judgement.ratio if judgement else None,
            meeting.odd or ("bit-identical" if judgement and judgement.differing == 0 else ""),
        )
        for meeting, judgement in zip(met, judged, strict=True)
    )
    columns = ("torch", "keras", "largest difference", "noise floor", "ratio", "note")
    return Table(title="layers", columns=columns, rows=rows, failed=tuple(bad))


def _plot(met: list[Meeting], judged: list[Judgement | None], bad: list[int]) -> Plot:
    return Plot(
        title="largest difference along the depth",
        labels=tuple(meeting.pair.torch for meeting in met),
        series=(
            Series(name="difference", values=tuple(j.deviation if j else None for j in judged)),
            Series(name="noise floor", values=tuple(j.floor if j else None for j in judged)),
        ),
        unit="absolute difference",
        failed=tuple(bad),
    )
