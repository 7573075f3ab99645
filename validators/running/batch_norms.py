"""Find the batch normalisations of a plan: the only layers that act differently in training without being random."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isclose, prod

from keras3conv.alignment.pair import Pair
from keras3conv.transforms import Array
from keras3conv.validators.running.subject import Subject

_TORCH = frozenset({*(f"torch.nn.BatchNorm{rank}d" for rank in (1, 2, 3)), "torch.nn.SyncBatchNorm"})
_KERAS = "keras.layers.BatchNormalization"

_FEWEST = 3
"""Smallest number of values per channel for meaningful statistics; two normalised values are always +1 and -1."""


@dataclass(frozen=True, kw_only=True)
class BatchNorm:
    """A pair of batch normalisations that can be put into training mode.

    Attributes:
        pair: The two layers.
        number: Number of values per channel in the batch (torch's N).
        momentum: Torch's momentum: the weight of the batch statistics in the update.
        same_momentum: Whether Keras uses the same weight.
    """

    pair: Pair
    number: int
    momentum: float
    same_momentum: bool


def batch_norms(subject: Subject) -> Iterator[BatchNorm]:
    """Yield the pairs that use batch statistics in training on both sides and are called once."""
    for pair in subject.pairs_in_call_order:
        torch_layer, keras_layer = subject.torch_layers[pair.torch], subject.keras_layers[pair.keras]
        torch_config, keras_config = torch_layer.config or {}, keras_layer.config or {}
        calls = subject.torch_probe.of(pair.torch)
        if not _TORCH.intersection(torch_layer.kinds) or _KERAS not in keras_layer.kinds or len(calls) != 1:
            continue
        momentum, shape = torch_config.get("momentum"), calls[0].shapes[0]
        number = prod(shape) // shape[1]
        is_trained = keras_config.get("trainable", True) and torch_config.get("track_running_stats", True)
        if momentum is None or not is_trained or number < _FEWEST:
            continue
        same = isclose(1.0 - momentum, keras_config.get("momentum", 0.99), rel_tol=1e-9)
        yield BatchNorm(pair=pair, number=number, momentum=momentum, same_momentum=same)


def unbiased_step(new: Array, old: Array, norm: BatchNorm) -> Array:
    """Return the running variance that torch would have if it used the biased variance of the batch, as Keras does.

    Args:
        new: Torch's running variance after the step.
        old: The running variance before the step.
        norm: The layer.
    """
    kept = (1.0 - norm.momentum) * old
    biased: Array = kept + (new - kept) * (norm.number - 1) / norm.number
    return biased
