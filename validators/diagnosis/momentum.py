"""Explain why the moving statistics of a batch normalisation differ after one training step."""

from collections.abc import Iterator

from keras3conv.numerics.difference import FLOAT64_LIMIT, compare
from keras3conv.transforms import Array
from keras3conv.validators.diagnosis.causes import Explanation
from keras3conv.validators.running.batch_norms import StatisticsStep

_KERAS_DEFAULT = 0.99
"""Default momentum of `keras.layers.BatchNormalization`."""


def explain_step(step: StatisticsStep) -> Explanation | None:
    """Return the explanation that predicts Keras' moving statistic up to rounding; None if there is none."""
    momentum = step.norm.momentum
    batch = (step.torch - (1.0 - momentum) * step.old) / momentum
    for explanation, predicted in _hypotheses(step.old, batch, momentum, step.norm.number):
        diff = compare(step.keras, predicted)
        if diff.max_rel <= FLOAT64_LIMIT and diff.nonfinite == 0:
            return explanation
    return None


def _hypotheses(old: Array, batch: Array, momentum: float, number: int) -> Iterator[tuple[Explanation, Array]]:
    """Yield explanations of a wrong moving statistic, each with the value that it predicts for Keras.

    Args:
        old: The statistic before the step.
        batch: The statistic of the batch; a variance is the biased one.
        momentum: Torch's momentum.
        number: Number of values per channel in the batch.
    """
    fix = f"momentum={1.0 - momentum:g}  # of the BatchNormalization"
    for kept in dict.fromkeys((momentum, _KERAS_DEFAULT, 0.9, 0.1)):
        cause = f"torch takes {momentum:g} of the new statistics, Keras keeps {kept:g} of the old ones"
        if kept == momentum:
            cause += ": the momentum was copied, but Keras' momentum is 1 minus torch's"
        yield Explanation(cause=cause, keras=fix), kept * old + (1.0 - kept) * batch
    unbiased = (1.0 - momentum) * old + momentum * batch * number / (number - 1)
    cause = "Keras takes the unbiased variance of the batch, N/(N-1) times the biased one"
    yield Explanation(cause=cause, keras="ops.moments(x, axes)  # the biased variance"), unbiased
