"""Why moving statistics part after one step of training: the usual suspects are tried, in numpy, on the statistics."""

from collections.abc import Iterator

from keras3conv.numerics.difference import FLOAT64_LIMIT, compare
from keras3conv.transforms import Array
from keras3conv.validators.diagnosis.causes import Explanation

_DEFAULT = 0.99
"""The momentum of Keras' BatchNormalization where none is given."""


def explain_step(old: Array, torch: Array, keras: Array, momentum: float, number: int) -> Explanation | None:
    """Says why a moving statistic differs after one step; None if no suspect explains it, to rounding.

    Args:
        old: The statistic before the step.
        torch: What torch has after it, of a variance with the biased one of the batch, as Keras takes it.
        keras: What Keras has after it.
        momentum: Torch's momentum: how much of the new statistic it takes.
        number: How many values of each channel the batch has.
    """
    batch = (torch - (1.0 - momentum) * old) / momentum
    for explanation, predicted in _suspicions(old, batch, momentum, number):
        diff = compare(keras, predicted)
        if diff.max_rel <= FLOAT64_LIMIT and diff.nonfinite == 0:
            return explanation
    return None


def _suspicions(old: Array, batch: Array, momentum: float, number: int) -> Iterator[tuple[Explanation, Array]]:
    fix = f"momentum={1.0 - momentum:g}  # of the BatchNormalization"
    kept = dict.fromkeys((momentum, _DEFAULT, 0.9, 0.1))
    for share in kept:
        cause = f"torch takes {momentum:g} of the new statistics, Keras keeps {share:g} of the old ones"
        if share == momentum:
            cause += ": momentum is the complement, and was copied"
        yield Explanation(cause=cause, fix=fix), share * old + (1.0 - share) * batch
    unbiased = (1.0 - momentum) * old + momentum * batch * number / (number - 1)
    cause = "Keras takes the unbiased variance of the batch, N/(N-1) times the biased one"
    yield Explanation(cause=cause, fix="ops.moments(x, axes)  # the biased variance"), unbiased
