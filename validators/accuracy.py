"""Labelled data: how often each model is right, and whether they answer alike."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras3conv.errors import InputError, Problem
from keras3conv.frameworks.shared.recording import flatten
from keras3conv.messages import count
from keras3conv.numerics.difference import judge
from keras3conv.report.pictures import Answer, Picture
from keras3conv.report.values import Cell, Section, Table
from keras3conv.transforms import Array
from keras3conv.validators.running.ends import OutputPair, output_pairs
from keras3conv.validators.running.png import png_of
from keras3conv.validators.running.subject import Subject

CLAIM = (
    "On labelled data both models give the same answer to every sample; where they do not, the two best classes of the "
    "torch module are nearer to each other than its own noise."
)

_BEST = 5
_PICTURES = 12
"""How many samples are shown: those that are answered differently first."""


@dataclass(frozen=True, kw_only=True)
class _Scores:
    """The scores of all classes for every sample, shape (samples, classes), on both sides, and torch's noise."""

    torch: Array
    keras: Array
    limit: float
    name: str


def check(subject: Subject) -> Section:
    """Compares top-1, top-5 and every single answer.

    Raises:
        InputError: The labels do not fit the inputs, or the outputs.
    """
    if subject.not_run:
        return Section(name="accuracy", status="skipped", claim=CLAIM, summary="not run", reason=subject.not_run)
    labels = subject.options.labels
    assert labels is not None, "this judge is asked only where there are labels"
    pair = _scored(subject, labels)
    if pair.odd:
        reason = f"the outputs cannot be compared: {pair.odd}"
        return Section(name="accuracy", status="skipped", claim=CLAIM, summary="not judged", reason=reason)
    scores = _Scores(torch=pair.torch, keras=pair.keras, limit=_limit(subject, pair), name=pair.name)
    torch, keras = _ranked(scores.torch), _ranked(scores.keras)
    other = np.flatnonzero(torch[:, 0] != keras[:, 0])
    rows = np.arange(len(labels))
    margin = np.abs(scores.torch[rows, torch[:, 0]] - scores.torch[rows, keras[:, 0]])
    bad = [int(place) for place in other if not margin[place] <= scores.limit]
    agreement = 1.0 - len(other) / len(labels)
    right = {
        side: (_share(ranks, labels, 1), _share(ranks, labels, _BEST))
        for side, ranks in (("torch", torch), ("keras", keras))
    }
    summary = (
        f"top-1 {right['torch'][0]:.2%} in torch and {right['keras'][0]:.2%} in Keras, "
        f"{agreement:.2%} of {count(len(labels), 'sample')} answered alike"
    )
    facts = {"output": scores.name}
    if len(other) > len(bad):
        facts["too close to call"] = f"{count(len(other) - len(bad), 'sample')}, whose two best classes differ by noise"
    return Section(
        name="accuracy",
        status="failed" if bad else "passed",
        claim=CLAIM,
        summary=summary,
        facts=facts,
        tables=(_table(right, agreement), *_differing(subject, labels, torch, keras, bad)),
        problems=(_problem(labels, bad),) if bad else (),
        pictures=_pictures(subject, scores, labels, (torch, keras), bad),
    )


def require_fitting(subject: Subject) -> None:
    """Raises `InputError` where the labels fit no output, before anything that takes long is proven."""
    if subject.options.labels is not None and not subject.not_run:
        _scored(subject, subject.options.labels)


def _scored(subject: Subject, labels: Array) -> OutputPair:
    """The output that has a score for every class; the first that fits the labels."""
    pairs = list(output_pairs(subject.torch_run, subject.keras_run))
    for pair in pairs:
        if pair.torch.ndim == 2 and pair.torch.dtype.kind == "f" and len(pair.torch) == len(labels):
            _refuse_labels(labels, pair.torch.shape[1], subject.options.class_names)
            return pair
    if paired := [pair for pair in pairs if pair.torch.size]:
        shapes = ", ".join(f"{pair.torch_name} of shape {pair.torch.shape}" for pair in paired)
        number = count(len(labels), "label")
        raise InputError(f"labels: {number}, and no output of shape ({len(labels)}, classes): torch returns {shapes}")
    return pairs[0]  # that the two sides return so many arrays is what is wrong, and it says so


def _refuse_labels(labels: Array, classes: int, names: tuple[str, ...]) -> None:
    outside = labels[(labels < 0) | (labels >= classes)]
    if outside.size:
        raise InputError(f"{outside[0]} is among the labels, and the models have {classes} classes, from 0 on")
    if names and len(names) != classes:
        raise InputError(f"class_names: {count(len(names), 'name')}, and the models have {classes} classes")


def _limit(subject: Subject, pair: OutputPair) -> float:
    truth = {other.name: other.torch for other in output_pairs(subject.torch_truth, subject.keras_run)}
    return 2 * judge(pair.keras, pair.torch, truth[pair.name], subject.options.tolerance).limit


def _ranked(scores: Array) -> NDArray[np.int64]:
    """The best classes of every sample, the best first; of equal ones the first first."""
    order: NDArray[np.int64] = np.argsort(-scores.astype(np.float64), axis=1, kind="stable")[:, :_BEST]
    return order


def _share(ranks: NDArray[np.int64], labels: Array, best: int) -> float:
    return float((ranks[:, :best] == labels[:, None]).any(axis=1).mean())


def _table(right: dict[str, tuple[float, float]], agreement: float) -> Table:
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (side, f"{top:.2%}", f"{five:.2%}") for side, (top, five) in right.items()
    )
    title = f"how often the label is the answer; {agreement:.2%} of the answers are alike"
    return Table(title=title, columns=("side", "top-1", f"top-{_BEST}"), rows=rows)


def _differing(
    subject: Subject, labels: Array, torch: NDArray[np.int64], keras: NDArray[np.int64], bad: list[int]
) -> tuple[Table, ...]:
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (place, *(_named(subject, int(number)) for number in (labels[place], torch[place, 0], keras[place, 0])))
        for place in bad
    )
    columns = ("sample", "label", "torch", "keras")
    return (
        (Table(title="answered differently", columns=columns, rows=rows, failed=tuple(range(len(rows)))),)
        if rows
        else ()
    )


def _problem(labels: Array, bad: list[int]) -> Problem:
    listed = ", ".join(map(str, bad[:10])) + (", ..." if len(bad) > 10 else "")
    return Problem(fact=f"{len(bad)} of {count(len(labels), 'sample')} get another answer: {listed}")


def _pictures(
    subject: Subject,
    scores: _Scores,
    labels: Array,
    ranks: tuple[NDArray[np.int64], NDArray[np.int64]],
    bad: list[int],
) -> tuple[Picture, ...]:
    """The samples as images, where they are images, with the best answers of both sides."""
    images = _images(subject, len(labels))
    if images is None:
        return ()
    chosen = (bad + [place for place in range(len(labels)) if place not in set(bad)])[:_PICTURES]
    return tuple(
        Picture(
            png=png_of(images[place]),
            caption=f"sample {place}: {_named(subject, int(labels[place]))}",
            answers=tuple(
                Answer(
                    first=_named(subject, int(one)), first_score=float(scores.torch[place, one]),
                    second=_named(subject, int(two)), second_score=float(scores.keras[place, two]),
                )
                for one, two in zip(ranks[0][place], ranks[1][place], strict=True)
            ),
        )
        for place in chosen
    )  # fmt: skip


def _images(subject: Subject, samples: int) -> Array | None:
    """The input that is images, channels last; None where there is none."""
    leaves: list[tuple[str, Any]] = list(flatten(subject.given.keras, lambda value: hasattr(value, "shape")))
    for _, value in leaves:
        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
        if array.ndim == 4 and len(array) == samples:
            if array.shape[-1] in (1, 3):
                return array
            if array.shape[1] in (1, 3):
                return np.moveaxis(array, 1, -1)
    return None


def _named(subject: Subject, number: int) -> str:
    names = subject.options.class_names
    return names[number] if names else f"class {number}"
