"""The batch normalisations of a plan, which are all that differs between training and inference without chance."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isclose, prod

from keras3conv.alignment.pair import Pair
from keras3conv.transforms import Array
from keras3conv.validators.running.subject import Subject

_TORCH = frozenset({*(f"torch.nn.BatchNorm{rank}d" for rank in (1, 2, 3)), "torch.nn.SyncBatchNorm"})
_KERAS = "keras.layers.BatchNormalization"

_FEWEST = 3
"""Values of a channel from which on a batch has statistics worth the name: two are always plus and minus one."""


@dataclass(frozen=True, kw_only=True)
class BatchNorm:
    """A pair of batch normalisations that can be put into training mode.

    Attributes:
        pair: The pair.
        number: How many values of each channel the batch has: torch's N.
        momentum: How much of the new statistics torch takes.
        same_momentum: Whether Keras takes as much.
    """

    pair: Pair
    number: int
    momentum: float
    same_momentum: bool


def batch_norms(subject: Subject) -> Iterator[BatchNorm]:
    """The pairs that both sides train on the statistics of the batch, and that are called once."""
    for pair in subject.pairs_in_order:
        torch, keras = subject.torch_layers[pair.torch], subject.keras_layers[pair.keras]
        ours, theirs = torch.config or {}, keras.config or {}
        calls = subject.torch_probe.of(pair.torch)
        if not (_TORCH.intersection(torch.kinds) and _KERAS in keras.kinds and len(calls) == 1):
            continue
        momentum, shape = ours.get("momentum"), calls[0].shapes[0]
        number = prod(shape) // shape[1]
        trained = theirs.get("trainable", True) and ours.get("track_running_stats", True)
        if momentum is None or not trained or number < _FEWEST:
            continue
        same = isclose(1.0 - momentum, theirs.get("momentum", 0.99), rel_tol=1e-9)
        yield BatchNorm(pair=pair, number=number, momentum=momentum, same_momentum=same)


def unbiased_step(new: Array, old: Array, norm: BatchNorm) -> Array:
    """The running variance after a step, had torch taken the biased variance of the batch, as Keras does."""
    kept = (1.0 - norm.momentum) * old
    biased: Array = kept + (new - kept) * (norm.number - 1) / norm.number
    return biased
