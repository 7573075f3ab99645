"""Compare the gradients of both models for one loss, and the moving statistics after a step in training mode."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from keras3conv.alignment.pair import Pair
from keras3conv.errors import ModelError, message_of
from keras3conv.frameworks.shared.recording import Backward
from keras3conv.numerics.difference import FLOAT64_LIMIT, compare
from keras3conv.rules.rule import WeightMapping
from keras3conv.transforms import Array
from keras3conv.validators.running.batch_norms import (
    BatchNorm,
    StatisticsStep,
    batch_norms,
    statistics_in_training,
    unbiased_step,
)
from keras3conv.validators.running.mapped_gradients import (
    LossWeights,
    keras_backward,
    mapped_gradients,
    tied_gradients,
    torch_backward,
    weights_of_the_loss,
)
from keras3conv.validators.running.nearby import NearbyRun, repeats
from keras3conv.validators.running.rounded_constants import may_be_rounded, sines_rounded
from keras3conv.validators.running.smaller import on_smaller_images
from keras3conv.validators.running.subject import Subject
from keras3conv.validators.running.untrained_rows import untrained_rows, without_row

_SMALLEST = 1e-14
"""The largest rounding error of a gradient that is zero because terms cancel, relative to the model's largest gradient.

Examples are the key bias of an attention, and a bias before a batch normalisation.
"""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The difference of one gradient, or of one moving statistic after the step.

    Attributes:
        torch: Path of the torch layer.
        keras: Path of the Keras layer.
        quantity: The compared quantity and its tensor, in words.
        error: Relative difference.
        passed: Whether the difference is rounding.
        step: The moving statistic before and after the step, if it differs; None for a gradient.
        difference: Keras' value minus torch's, divided by the largest gradient of the model; None if it is too large to
            be rounding, or if nobody needs it because the comparison passed.
    """

    torch: str
    keras: str
    quantity: str
    error: float
    passed: bool
    step: StatisticsStep | None = None
    difference: Array | None = None


@dataclass(frozen=True, kw_only=True)
class Comparisons:
    """The comparisons of two models on the same inputs.

    Attributes:
        inference: The comparisons of the gradients in inference mode.
        training: Those of the gradients and the moving statistics in training mode.
        norms: The batch normalisations that ran in training mode.
        statistics: For each pair of batch normalisations, whether torch and Keras use the statistics of the batch in
            training.
        frozen: The torch paths of the batch normalisations that are frozen on a side.
    """

    inference: list[Comparison]
    training: list[Comparison]
    norms: tuple[BatchNorm, ...]
    statistics: Mapping[str, tuple[Pair, bool, bool]]
    frozen: list[str]

    @property
    def passed(self) -> bool:
        """True if no comparison failed."""
        return all(comparison.passed for comparison in (*self.inference, *self.training))


def compared_gradients(subject: Subject) -> Comparisons | str:
    """Compare the gradients of all tensors in the plan, also in training mode; return the reason if that is impossible.

    They are compared on smaller images if the models agree there.
    """
    loss_weights = weights_of_the_loss(subject)
    if isinstance(loss_weights, str):
        return loss_weights
    if not any(_is_trained(subject, mapping) for mapping in subject.plan.mappings):
        return "neither model has a trainable weight, so there is no gradient to compare"
    try:
        return _compared_on_smaller_images(subject) or _compared_on_inputs(subject, loss_weights)
    except ModelError as error:
        return message_of(error)


def _compared_on_smaller_images(subject: Subject) -> Comparisons | None:
    """Compare the gradients on smaller images; return None if the given images must decide.

    They must if there are no smaller images, if a difference is found, if a model raises, or if a batch normalisation
    has too few values.
    """
    small, _ = on_smaller_images(subject)
    if small is subject or len(list(batch_norms(small))) != len(list(batch_norms(subject))):
        return None
    loss_weights = weights_of_the_loss(small)
    try:
        found = None if isinstance(loss_weights, str) else _compared_on_inputs(small, loss_weights)
    except ModelError:
        return None
    return found if found is not None and found.passed else None


def _compared_on_inputs(subject: Subject, loss_weights: LossWeights) -> Comparisons:
    """Compare the gradients on the inputs of the subject.

    Args:
        subject: The two models.
        loss_weights: The weight of every output element in the loss, for torch and for Keras.
    """
    inference = _compared(subject, loss_weights, ())
    statistics = statistics_in_training(subject)
    frozen = [path for path, (_, *taken) in statistics.items() if not all(taken)]
    norms = tuple(batch_norms(subject, frozen))
    training = _compared(subject, loss_weights, norms) if norms else []
    return Comparisons(inference=inference, training=training, norms=norms, statistics=statistics, frozen=frozen)


def _compared(subject: Subject, loss_weights: LossWeights, norms: tuple[BatchNorm, ...]) -> list[Comparison]:
    """Compare the gradients, and mark differences that come only from constants rounded to float32 as passed.

    The arguments are those of `_compare_gradients`.
    """
    compare = partial(_compare_gradients, subject, loss_weights, norms)
    found = [_without_rounded_constants(subject, comparison) for comparison in compare()]
    if any(not comparison.passed and comparison.difference is not None for comparison in found):
        nearby = _compare_gradients(NearbyRun(subject).nearby, loss_weights, norms, keep_differences=True)
        found = _without_cancellation(found, nearby)
    if all(comparison.passed for comparison in found):
        return found
    with sines_rounded(subject) as rounded:
        again = found if rounded is None else list(compare())
    return again if all(comparison.passed for comparison in again) else found


def _without_rounded_constants(subject: Subject, comparison: Comparison) -> Comparison:
    """Mark a comparison as passed if its error is as small as the rounding of a constant to float32; return it."""
    is_rounded = not comparison.passed and may_be_rounded(subject, comparison.error)
    return replace(comparison, passed=True) if is_rounded else comparison


def _without_cancellation(comparisons: list[Comparison], nearby: Iterable[Comparison]) -> list[Comparison]:
    """Mark small differences as passed that change entirely if inputs and weights change by a millionth; return all.

    The terms of such a gradient cancel: its value is rounding, which grows with the number of terms. A mistake gives
    almost the same difference again. The error of a marked difference is relative to the largest gradient of the model.
    """
    return [
        replace(one, passed=True, error=float(np.max(np.abs(one.difference))))
        if not one.passed and one.difference is not None and not repeats(one.difference, other.difference)
        else one
        for one, other in zip(comparisons, nearby, strict=True)
    ]


def _compare_gradients(
    subject: Subject,
    loss_weights: LossWeights,
    norms: tuple[BatchNorm, ...],
    *,
    keep_differences: bool = False,
) -> Iterator[Comparison]:
    """Run a backward pass on both sides, and yield the comparisons of the gradients.

    Args:
        subject: The two models.
        loss_weights: The weight of every output element in the loss, for torch and for Keras.
        norms: The batch normalisations that run in training mode; their moving statistics are compared, too.
        keep_differences: Whether comparisons that passed keep the difference of their arrays, too.
    """
    quantity = "gradient in training mode" if norms else "gradient"
    mappings = [(pair, mapping) for pair in subject.plan.pairs for mapping in pair.weights]
    trained = [entry for entry in mappings if _is_trained(subject, entry[1])]
    torch = torch_backward(subject, loss_weights[0], trained, norms)
    keras = keras_backward(subject, loss_weights[1], trained, norms)
    largest = max((float(np.max(np.abs(array), initial=0.0)) for array in torch.gradients.values()), default=0.0)
    tied = tied_gradients(subject, [mapping for _, mapping in trained], torch.gradients, keras.gradients)
    untrained = {} if subject.options.training else untrained_rows(subject)
    for pair, mapping in trained:
        for path, torch_gradient, keras_gradient in mapped_gradients(mapping, torch.gradients, keras.gradients):
            arrays = tied.get(path, keras_gradient), torch_gradient
            if path in untrained and arrays[0].ndim == arrays[1].ndim == 2:  # a directional derivative has no rows
                arrays = without_row(arrays, untrained[path])
            found = _compare(pair, f"{quantity} of {path}", arrays, largest)
            if found.passed and not keep_differences:
                yield found
            else:
                yield replace(found, difference=_difference(*arrays, largest))
    for norm in norms:
        if norm.same_momentum or subject.options.training:
            yield from _compare_statistics(subject, norm, torch, keras)


def _is_trained(subject: Subject, mapping: WeightMapping) -> bool:
    """Return whether the torch tensors of a mapping are parameters (not buffers) and have Keras variables."""
    is_trained = all(path in subject.probe_weights and path in subject.parameters for path in mapping.torch)
    return is_trained and bool(mapping.keras)


def _compare_statistics(subject: Subject, norm: BatchNorm, torch: Backward, keras: Backward) -> Iterator[Comparison]:
    """Yield the comparisons of the moving statistics of a batch normalisation after a training step on both sides.

    The factor N/(N-1) in torch's running variance is removed before the comparison.
    """
    for mapping in norm.pair.weights:
        if any(path in subject.parameters or path not in torch.states for path in mapping.torch):
            continue
        after = tuple(torch.states[path] for path in mapping.torch)
        before = tuple(subject.probe_weights[path] for path in mapping.torch)
        if norm.is_unbiased and mapping.torch and mapping.torch[0].endswith("running_var"):
            after = tuple(unbiased_step(new, old, norm) for new, old in zip(after, before, strict=True))
        transform = mapping.transform
        for path, expected, old in zip(mapping.keras, transform(after), transform(before), strict=True):
            actual = keras.states[path]
            quantity = f"moving statistics after one step of {path}"
            comparison = _compare(norm.pair, quantity, (actual, expected), 0.0)
            if not comparison.passed and actual.shape == expected.shape:
                comparison = replace(comparison, step=StatisticsStep(norm=norm, old=old, torch=expected, keras=actual))
            yield comparison


def _compare(pair: Pair, quantity: str, arrays: tuple[Array, Array], largest: float) -> Comparison:
    """Compare two float64 arrays of a layer pair: the gradients of a tensor, or the values of a moving statistic.

    Args:
        pair: The pair of layers.
        quantity: The name of the compared arrays in the report, such as "gradient of kernel".
        arrays: The array of Keras and that of torch, in the layout of Keras.
        largest: The largest gradient of the whole model. A difference that is far smaller counts as rounding.
    """
    actual, expected = arrays
    comparison = Comparison(torch=pair.torch, keras=pair.keras, quantity=quantity, error=np.inf, passed=False)
    if actual.shape != expected.shape:
        return comparison
    if not actual.size:
        return replace(comparison, error=0.0, passed=True)
    diff = compare(actual, expected)
    if diff.nonfinite:
        return comparison
    if diff.max_abs == 0:
        return replace(comparison, error=0.0, passed=True)
    passed = diff.max_abs <= FLOAT64_LIMIT * diff.scale + _SMALLEST * largest
    error = diff.max_abs / (diff.scale + _SMALLEST / FLOAT64_LIMIT * largest)
    return replace(comparison, error=error, passed=passed)


def _difference(actual: Array, expected: Array, largest: float) -> Array | None:
    """Return the difference of two gradients, flattened and divided by `largest`; None if it is too large for rounding.

    Args:
        actual: The gradient of Keras.
        expected: The gradient of torch, in the layout of Keras.
        largest: The largest gradient of the whole model.
    """
    if actual.shape != expected.shape:
        return None
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        difference: Array = np.subtract(actual, expected).ravel()
    is_rounding = np.max(np.abs(difference), initial=0.0) <= FLOAT64_LIMIT * largest  # False if one is NaN
    return difference / (largest or 1.0) if is_rounding else None
