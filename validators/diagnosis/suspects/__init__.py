"""The usual suspects: each is one entry, and says what torch would compute if the Keras side's mistake were its own.

A suspect only proposes. Whether it is the cause is tried in `diagnosis`: torch is run again with the change, and has to
give what Keras gave.
"""

from keras3conv.validators.diagnosis.suspects import (
    activation,
    attention,
    axes,
    convolution,
    embedding,
    linear,
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
from keras3conv.validators.diagnosis.suspects.base import Case, Suspect, Suspicion

SUSPECTS: tuple[Suspect, ...] = (
    *normalization.SUSPECTS,
    *convolution.SUSPECTS,
    *linear.SUSPECTS,
    *embedding.SUSPECTS,
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
"""Every suspect, the most particular first: the first one that explains a difference is named."""

__all__ = ["SUSPECTS", "Case", "Suspect", "Suspicion"]
