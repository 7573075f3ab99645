"""List the suspects: known kinds of mistakes that make two models differ.

A suspect only proposes hypotheses. The module `causes` tests a hypothesis: it reruns torch with the change that the
hypothesis proposes, and accepts the hypothesis if torch then computes Keras' values.
"""

from keras3conv.validators.diagnosis.suspects import (
    activation,
    attention,
    axes,
    convolution,
    embedding,
    linear,
    masks,
    measured,
    normalization,
    pooling,
    recurrent,
    recurrent_activation,
    rotation,
    scores,
    shape,
    wiring,
)
from keras3conv.validators.diagnosis.suspects.base import Case, Hypothesis, Suspect

SUSPECTS: tuple[Suspect, ...] = (
    *normalization.SUSPECTS,
    *convolution.SUSPECTS,
    *linear.SUSPECTS,
    *embedding.SUSPECTS,
    *masks.SUSPECTS,
    *recurrent.SUSPECTS,
    *recurrent_activation.SUSPECTS,
    *wiring.FACTORS,
    *attention.SUSPECTS,
    *scores.SUSPECTS,
    *rotation.SUSPECTS,
    *pooling.SUSPECTS,
    *shape.SUSPECTS,
    *measured.PIXELS,
    *axes.SUSPECTS,
    *wiring.SUSPECTS,
    *activation.SUSPECTS,
    *measured.BRANCHES,
    *wiring.LAST,
)
"""All suspects, the most specific first: the first one that explains a difference is reported."""

__all__ = ["SUSPECTS", "Case", "Hypothesis", "Suspect"]
