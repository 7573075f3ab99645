"""As the models are deployed: every layer's output, against the noise floor that the source makes itself.

Twice: *cumulative*, each Keras layer fed with what Keras computed before it, as it will run; and *local*, fed with what
torch recorded, so that a layer is only blamed for its own doing.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from keras3conv.errors import Problem
from keras3conv.numerics.difference import Judgement, judge
from keras3conv.report.values import Cell, Plot, Section, Series, Table
from keras3conv.transforms import Array
from keras3conv.validators.diagnosis.search import first_to_blame
from keras3conv.validators.running.local import local_run
from keras3conv.validators.running.meetings import Meeting, in_keras_layout, meetings
from keras3conv.validators.running.neighbours import NOTE, made_up_for
from keras3conv.validators.running.subject import Subject

CLAIM = (
    "With their own weights and in their own dtype, every layer of both models gives the same values, up to the noise "
    "that the torch module itself makes against its own float64 run: in the whole model, and each alone, fed with what "
    "torch recorded."
)


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """One call of a pair of layers, judged.

    Attributes:
        meeting: The call in the whole model.
        cumulative: The judgement of it; None where there is nothing to compare.
        local: The judgement of the layer alone; None likewise.
        is_completed: Whether a layer beside it makes up for a difference.
    """

    meeting: Meeting
    cumulative: Judgement | None
    local: Judgement | None
    is_completed: bool = False

    @property
    def key(self) -> tuple[str, str]:
        return self.meeting.pair.torch, self.meeting.pair.keras

    @property
    def passed(self) -> bool:
        return self.cumulative is not None and self.cumulative.passed and (self.local is None or self.local.passed)

    @property
    def note(self) -> str:
        if self.is_completed:
            return NOTE
        if self.meeting.odd:
            return self.meeting.odd
        identical = [
            name
            for name, judged in (("whole", self.cumulative), ("alone", self.local))
            if judged and judged.differing == 0
        ]
        return "bit-identical" if len(identical) == 2 else f"bit-identical ({identical[0]})" if identical else ""


def check(subject: Subject) -> Section:
    """Compares every layer's output, in the whole model and alone."""
    if subject.not_run:
        return Section(name="activations", status="skipped", claim=CLAIM, summary="not run", reason=subject.not_run)
    layers = list(_layers(subject))
    differing = [place for place, layer in enumerate(layers) if not layer.passed]
    completed = made_up_for(subject) if differing else frozenset()
    bad = [place for place in differing if layers[place].key not in completed]
    layers = [replace(layer, is_completed=layer.key in completed) for layer in layers]
    identical = sum(layer.note == "bit-identical" for layer in layers)
    judged = [layer for layer in layers if not layer.is_completed]
    worst = max((layer.cumulative.ratio or 0.0 for layer in judged if layer.cumulative), default=0.0)
    alone = max((layer.local.ratio or 0.0 for layer in judged if layer.local), default=0.0)
    summary = (
        f"{len(layers)} layer calls, {identical} bit-identical, at most {worst:.2g} x the noise floor, "
        f"each alone at most {alone:.2g} x"
    )
    tolerance = subject.options.tolerance
    return Section(
        name="activations",
        status="failed" if bad else "passed",
        claim=CLAIM,
        summary=f"{len(bad)} of {len(layers)} layer calls differ by more than noise" if bad else summary,
        facts={"tolerance": f"the caller's: {tolerance}"} if tolerance else {},
        tables=(_table(layers, bad),),
        plots=tuple(_plots(layers, bad)) if layers else (),
        problems=(_problem(subject, layers, bad),) if bad else (),
    )


def _layers(subject: Subject) -> Iterator[_Layer]:
    alone = list(meetings(subject, subject.torch_run, local_run(subject)))
    whole = list(meetings(subject, subject.torch_run, subject.keras_run))
    for meeting, local, truth in zip(whole, alone, _truths(subject, whole), strict=True):
        yield _Layer(meeting=meeting, cumulative=_judge(subject, meeting, truth), local=_judge(subject, local, truth))


def _truths(subject: Subject, met: list[Meeting]) -> list[Array | None]:
    """The float64 outputs of the torch module for the same calls, in Keras' layout."""
    used: dict[str, int] = {}
    truths: list[Array | None] = []
    for meeting in met:
        place = used.get(meeting.pair.torch, 0)
        used[meeting.pair.torch] = place + 1
        calls = subject.torch_truth.of(meeting.pair.torch)
        known = meeting.keras is not None and place < len(calls)
        shape = () if meeting.keras is None else meeting.keras.shape
        truths.append(in_keras_layout(subject, meeting.pair, calls[place], shape) if known else None)
    return truths


def _judge(subject: Subject, meeting: Meeting, truth: Array | None) -> Judgement | None:
    if meeting.odd or truth is None or meeting.torch is None or meeting.keras is None:
        return None
    return judge(meeting.keras, meeting.torch, truth, subject.options.tolerance)


def _problem(subject: Subject, layers: list[_Layer], bad: list[int]) -> Problem:
    place, found = first_to_blame(subject, [layer.meeting for layer in layers], bad, None)
    first = layers[place]
    fact = f"the first layer that differs: {first.meeting.odd or first.cumulative}"
    if first.cumulative and first.local and not first.cumulative.passed:
        alone = "alone, it agrees" if first.local.passed else f"alone, it differs by {first.local}"
        fact += f"\n      {alone}"
    elif first.cumulative and first.local and not first.local.passed:
        fact = f"in the whole model it agrees, alone it differs by {first.local}"
    return Problem(
        torch=first.meeting.pair.torch,
        keras=first.meeting.pair.keras,
        fact=f"{fact}\n      {found.cause}" if found else fact,
        fixes=found.fixes if found else (),
    )


def _table(layers: list[_Layer], bad: list[int]) -> Table:
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            layer.meeting.pair.torch,
            layer.meeting.pair.keras,
            layer.cumulative.deviation if layer.cumulative else None,
            layer.local.deviation if layer.local else None,
            layer.cumulative.floor if layer.cumulative else None,
            layer.cumulative.ratio if layer.cumulative else None,
            layer.note,
        )
        for layer in layers
    )
    columns = ("torch", "keras", "largest difference", "alone", "noise floor", "ratio", "note")
    return Table(title="layers", columns=columns, rows=rows, failed=tuple(bad))


def _plots(layers: list[_Layer], bad: list[int]) -> Iterator[Plot]:
    labels = tuple(layer.meeting.pair.torch for layer in layers)
    floor = Series(
        name="noise floor", values=tuple(layer.cumulative.floor if layer.cumulative else None for layer in layers)
    )
    cumulative = tuple(layer.cumulative.deviation if layer.cumulative else None for layer in layers)
    local = tuple(layer.local.deviation if layer.local else None for layer in layers)
    yield Plot(
        title="largest difference along the depth",
        labels=labels,
        series=(Series(name="difference", values=cumulative), floor),
        unit="absolute difference",
        failed=tuple(bad),
    )
    yield Plot(
        title="in the whole model against alone",
        labels=labels,
        series=(
            Series(name="whole (cumulative)", values=cumulative),
            Series(name="alone (local)", values=local),
            floor,
        ),
        unit="absolute difference",
        failed=tuple(bad),
    )
