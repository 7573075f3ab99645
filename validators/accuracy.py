"""Compare the predictions of both models on labelled data: accuracy, and agreement of every prediction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras3conv.errors import InputError, Problem
from keras3conv.frameworks.shared.inputs import flatten
from keras3conv.messages import count
from keras3conv.numerics.judgement import judge
from keras3conv.report.pictures import Answer, Picture
from keras3conv.report.values import Cell, Section, Table
from keras3conv.transforms import Array
from keras3conv.validators.running.output_pairs import OutputPair, output_pairs, shown_name, torch_outputs
from keras3conv.validators.running.png import png_of
from keras3conv.validators.running.subject import Subject

CLAIM = (
    "On labelled data both models predict the same class for every sample, except where the torch module's scores of "
    "the two predicted classes are closer than its own noise."
)

_BEST = 5
_PICTURES = 12
"""The number of samples shown in the report; those that the two models classify differently are shown first."""


@dataclass(frozen=True, kw_only=True)
class _Scores:
    """The class scores of both models.

    Attributes:
        name: Name of the output.
        torch: Torch's scores, shape (samples, classes).
        keras: Keras' scores, shape (samples, classes).
        limit: Largest difference of two scores that is within torch's noise.
    """

    name: str
    torch: Array
    keras: Array
    limit: float


def check(subject: Subject) -> Section:
    """Compare top-1 and top-5 accuracy, and return the section of the report.

    The proof fails if the models predict different top-1 classes for a sample, and rounding cannot explain it: in
    torch, the scores of the two classes differ by more than the noise.

    Raises:
        InputError: The labels do not match the inputs or the outputs in number or range.
    """
    if subject.skip_reason:
        return Section(name="accuracy", status="skipped", claim=CLAIM, summary="not run", reason=subject.skip_reason)
    labels = subject.options.labels
    assert labels is not None, "this proof runs only if there are labels"
    pair = _scored(subject, labels)
    if pair.mismatch:
        reason = f"the outputs cannot be compared: {pair.mismatch}"
        return Section(name="accuracy", status="skipped", claim=CLAIM, summary="not judged", reason=reason)
    name = shown_name(pair, subject.keras, subject.keras_run)
    scores = _Scores(name=name, torch=pair.torch_output, keras=pair.keras_output, limit=_limit(subject, pair))
    torch, keras = _best_classes(scores.torch), _best_classes(scores.keras)
    different = np.flatnonzero(torch[:, 0] != keras[:, 0])
    rows = np.arange(len(labels))
    margin = np.abs(scores.torch[rows, torch[:, 0]] - scores.torch[rows, keras[:, 0]])
    failed = [int(sample) for sample in different if not margin[sample] <= scores.limit]
    agreement = 1.0 - len(different) / len(labels)
    accuracy = {
        "torch": (_accuracy(torch, labels, 1), _accuracy(torch, labels, _BEST)),
        "keras": (_accuracy(keras, labels, 1), _accuracy(keras, labels, _BEST)),
    }
    summary = (
        f"top-1 {accuracy['torch'][0]:.2%} in torch and {accuracy['keras'][0]:.2%} in Keras, "
        f"same prediction for {agreement:.2%} of {count(len(labels), 'sample')}"
    )
    facts = {"output": scores.name}
    if len(different) > len(failed):
        ties = count(len(different) - len(failed), "sample")
        facts["different predictions within noise"] = f"{ties}, whose two best classes have the same score up to noise"
    return Section(
        name="accuracy",
        status="failed" if failed else "passed",
        claim=CLAIM,
        summary=summary,
        facts=facts,
        tables=(
            _accuracy_table(accuracy, agreement, scores.torch.shape[1]),
            *_difference_tables(subject, labels, torch, keras, failed),
        ),
        problems=(_problem(labels, failed),) if failed else (),
        pictures=_pictures(subject, scores, labels, (torch, keras), failed),
    )


def require_fitting(subject: Subject) -> None:
    """Raise `InputError` if no model output has the shape (labels, classes), before the slow proofs run."""
    if subject.options.labels is not None and not subject.skip_reason:
        _scored(subject, subject.options.labels)


def _scored(subject: Subject, labels: Array) -> OutputPair:
    """Return the first model output of shape (labels, classes), as both models compute it.

    Raises:
        InputError: No output has this shape, or a label is not the index of a class.
    """
    pairs = list(output_pairs(subject.torch_run, subject.keras_run))
    for pair in pairs:
        output = pair.torch_output
        if output.ndim == 2 and output.dtype.kind == "f" and len(output) == len(labels):
            _refuse_labels(labels, output.shape[1], subject.options.class_names)
            return pair
    if paired := [pair for pair in pairs if pair.torch_output.size]:
        shapes = ", ".join(f"{pair.torch_name} of shape {pair.torch_output.shape}" for pair in paired)
        number = count(len(labels), "label")
        raise InputError(
            f"labels has {number}, but no output has the shape ({len(labels)}, classes): torch returns {shapes}; "
            "give one label for each sample; labels of pixels or of steps (segmentation) are not compared"
        )
    return pairs[0]  # the models return different numbers of arrays; this pair has the mismatch message


def _refuse_labels(labels: Array, classes: int, names: Sequence[str]) -> None:
    outside = labels[(labels < 0) | (labels >= classes)]
    if outside.size:
        known = f"{classes} classes, 0 to {classes - 1}"
        raise InputError(f"labels contains {outside[0]}, which is not a class index: the models have {known}")
    if names and len(names) != classes:
        raise InputError(f"class_names has {count(len(names), 'name')}, but the models have {classes} classes")


def _limit(subject: Subject, pair: OutputPair) -> float:
    truths = torch_outputs(subject.torch_truth, subject.keras_run)
    return 2 * judge(pair.keras_output, pair.torch_output, truths[pair.name], subject.options.tolerance).limit


def _best_classes(scores: Array) -> NDArray[np.int64]:
    """Return, for each sample, the `_BEST` classes with the highest scores, the best class first.

    Of classes with equal scores, the one with the lower index comes first.
    """
    order: NDArray[np.int64] = np.argsort(-scores.astype(np.float64), axis=1, kind="stable")[:, :_BEST]
    return order


def _accuracy(ranks: NDArray[np.int64], labels: Array, best: int) -> float:
    return float((ranks[:, :best] == labels[:, None]).any(axis=1).mean())


def _accuracy_table(accuracy: dict[str, tuple[float, float]], agreement: float, classes: int) -> Table:
    """Return the table of both models' accuracies; top-5 only if there are more than five classes."""
    is_shown = classes > _BEST  # else every class is among the best
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (side, f"{top_1:.2%}", *([f"{top_best:.2%}"] if is_shown else []))
        for side, (top_1, top_best) in accuracy.items()
    )
    title = f"accuracy; {agreement:.2%} of the predictions are equal"
    return Table(title=title, columns=("side", "top-1", *([f"top-{_BEST}"] if is_shown else [])), rows=rows)


def _difference_tables(
    subject: Subject, labels: Array, torch: NDArray[np.int64], keras: NDArray[np.int64], failed: list[int]
) -> tuple[Table, ...]:
    if not failed:
        return ()
    rows: list[tuple[Cell, ...]] = []
    for sample in failed:
        classes = labels[sample], torch[sample, 0], keras[sample, 0]
        rows.append((sample, *(_class_name(subject, int(number)) for number in classes)))
    columns = ("sample", "label", "torch", "keras")
    table = Table(title="different predictions", columns=columns, rows=tuple(rows), failed=tuple(range(len(rows))))
    return (table,)


def _problem(labels: Array, failed: list[int]) -> Problem:
    listed = ", ".join(map(str, failed[:10])) + (", ..." if len(failed) > 10 else "")
    return Problem(fact=f"{len(failed)} of {count(len(labels), 'sample')} get different predictions: {listed}")


def _pictures(
    subject: Subject,
    scores: _Scores,
    labels: Array,
    ranks: tuple[NDArray[np.int64], NDArray[np.int64]],
    failed: list[int],
) -> tuple[Picture, ...]:
    """Return thumbnails of samples, with the best classes of both models; empty if the inputs are not images.

    Args:
        subject: The models and their inputs.
        scores: The class scores of both models.
        labels: The labels of the samples.
        ranks: The best classes of every sample, first those of torch, then those of Keras; see `_best_classes`.
        failed: The samples with different predictions, which are shown first.
    """
    images = _images(subject, len(labels))
    if images is None:
        return ()
    others = [sample for sample in range(len(labels)) if sample not in set(failed)]
    pictures = []
    for sample in [*failed, *others][:_PICTURES]:
        answers = tuple(
            Answer(
                first=_class_name(subject, int(torch_class)),
                first_score=float(scores.torch[sample, torch_class]),
                second=_class_name(subject, int(keras_class)),
                second_score=float(scores.keras[sample, keras_class]),
            )
            for torch_class, keras_class in zip(ranks[0][sample], ranks[1][sample], strict=True)
        )
        caption = f"sample {sample}, labelled {_class_name(subject, int(labels[sample]))}"
        pictures.append(Picture(png=png_of(images[sample]), caption=caption, answers=answers))
    return tuple(pictures)


def _images(subject: Subject, samples: int) -> Array | None:
    """Return the first input that is a batch of `samples` images, its channels moved last; None if there is none."""
    leaves: list[tuple[str, Any]] = list(flatten(subject.required_inputs.keras, lambda value: hasattr(value, "shape")))
    for _, value in leaves:
        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
        if array.ndim == 4 and len(array) == samples:
            if array.shape[-1] in (1, 3):
                return array
            if array.shape[1] in (1, 3):
                return np.moveaxis(array, 1, -1)
    return None


def _class_name(subject: Subject, number: int) -> str:
    names = subject.options.class_names
    return names[number] if names else f"class {number}"
