"""Find the batch normalisations of a plan: apart from random layers, only they act differently in training."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from math import isclose, prod

from keras3conv.alignment.pair import Pair
from keras3conv.rules.rule import Config
from keras3conv.transforms import Array
from keras3conv.validators.running.smaller import on_smaller_images
from keras3conv.validators.running.subject import Subject

_TORCH = frozenset({*(f"torch.nn.BatchNorm{rank}d" for rank in (1, 2, 3)), "torch.nn.SyncBatchNorm"})
_OWN = "keras3conv.frameworks.torch.layers.MaskedBatchNorm"
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
        is_unbiased: Whether torch stores the unbiased variance of the batch, N/(N-1) times that of Keras.
    """

    pair: Pair
    number: int
    momentum: float
    same_momentum: bool
    is_unbiased: bool


@dataclass(frozen=True, kw_only=True)
class StatisticsStep:
    """A moving statistic of a batch normalisation before and after one training step.

    Attributes:
        norm: The batch normalisation.
        old: The statistic before the step.
        torch: Torch's statistic after the step; a variance is computed with the biased variance of the batch.
        keras: Keras' statistic after the step.
    """

    norm: BatchNorm
    old: Array
    torch: Array
    keras: Array


def statistics_in_training(subject: Subject) -> dict[str, tuple[Pair, bool, bool]]:
    """Return for each pair of batch normalisations if torch and Keras use the batch's statistics in training mode.

    The result is {torch path: (pair, True if torch uses them, True if Keras does)}. If torch has no layer, but calls
    the function `F.batch_norm` with tensors that are paired with the variables of a Keras layer, the torch path is that
    of one of the tensors.

    Torch runs once in training mode, because its layer may be frozen there, or called by a function. Pairs that do not
    run then are left out.
    """
    from keras3conv.frameworks.torch.batch_statistics import batch_statistics

    pairs = [pair for pair in subject.plan.pairs if _is_batch_norm(subject, pair)]
    pairs += _of_functions(subject)
    taken = batch_statistics(subject.torch, subject.required_inputs.torch) if pairs else {}
    found = {}
    for pair in pairs:
        calls = [taken[path] for mapping in pair.weights for path in mapping.torch if path in taken]
        if calls:
            found[pair.torch] = pair, any(calls), _is_trained(subject, pair)
    return found


def _of_functions(subject: Subject) -> Iterator[Pair]:
    """Yield one pair for each Keras batch normalisation whose variables are paired with single tensors of torch."""
    found: dict[str, Pair] = {}
    for pair in subject.plan.pairs:
        layer = pair.keras.rpartition("/")[0]
        if pair.keras not in subject.keras_layers and _is_keras_batch_norm(subject, layer):
            found.setdefault(layer, replace(pair, keras=layer))
    yield from found.values()


def renormalised(subject: Subject) -> list[Pair]:
    """Return the pairs in which Keras corrects the statistics of the batch in training (renorm), and torch does not."""
    return [pair for pair in _pairs(subject) if _configs(subject, pair)[1].get("renorm")]


def masked(subject: Subject) -> list[Pair]:
    """Return the pairs in which Keras leaves masked steps out of the statistics of the batch in training.

    torch's own classes take no mask. A subclass may, so it is not listed.
    """
    return [pair for pair in _pairs(subject) if _is_masked(subject, pair)]


def _is_masked(subject: Subject, pair: Pair) -> bool:
    is_torchs_own = subject.torch_layers[pair.torch].kind in _TORCH
    # The last question makes Keras run once more, in training mode.
    return is_torchs_own and pair.keras in subject.keras_probe.masks and _is_trained(subject, pair)


def batch_norms(subject: Subject, frozen: Collection[str] = ()) -> Iterator[BatchNorm]:
    """Yield the pairs that use batch statistics in training on both sides and are called once.

    Args:
        subject: The models.
        frozen: The torch paths of the layers that one side freezes, so that they do not use batch statistics.
    """
    for pair in _pairs(subject):
        if pair.torch in frozen or _untried(subject, pair):
            continue
        torch_config, keras_config = _configs(subject, pair)
        momentum, shape = torch_config["momentum"], subject.torch_probe.of(pair.torch)[0].shapes[0]
        same = isclose(1.0 - momentum, keras_config.get("momentum", 0.99), rel_tol=1e-9)
        unbiased = _OWN not in subject.torch_layers[pair.torch].kinds
        number = prod(shape) // shape[1]
        yield BatchNorm(pair=pair, number=number, momentum=momentum, same_momentum=same, is_unbiased=unbiased)


def untried(subject: Subject, frozen: Collection[str] = ()) -> dict[str, list[str]]:
    """Return the torch paths of the batch normalisations that are not compared in training mode, by reason.

    Args:
        subject: The models.
        frozen: The torch paths of the layers that use their moving statistics in training on one side; not listed.
    """
    found: dict[str, list[str]] = {}
    for pair in _pairs(subject):
        if pair.torch not in frozen and (reason := _untried(subject, pair)):
            found.setdefault(reason, []).append(pair.torch)
    return found


def _pairs(subject: Subject) -> Iterator[Pair]:
    yield from (pair for pair in subject.pairs_in_call_order if _is_batch_norm(subject, pair))


def _is_batch_norm(subject: Subject, pair: Pair) -> bool:
    torch_layer = subject.torch_layers.get(pair.torch)
    is_torch_batch_norm = torch_layer is not None and not {*_TORCH, _OWN}.isdisjoint(torch_layer.kinds)
    return is_torch_batch_norm and _is_keras_batch_norm(subject, pair.keras)


def _is_keras_batch_norm(subject: Subject, path: str) -> bool:
    layer = subject.keras_layers.get(path)
    return layer is not None and _KERAS in layer.kinds


def _is_trained(subject: Subject, pair: Pair) -> bool:
    """Return whether the Keras layer uses the statistics of the batch in training mode."""
    is_trainable = bool((subject.keras_layers[pair.keras].config or {}).get("trainable", True))
    return is_trainable and subject.once(_statistics_in_keras).get(pair.keras, True)


def _statistics_in_keras(subject: Subject) -> Mapping[str, bool]:
    """Return for each batch normalisation of Keras if it uses the batch's statistics in training mode, by layer path.

    Keras runs once more for it, on smaller images if it calls the same layers there.
    """
    from keras3conv.frameworks.keras.batch_statistics import batch_statistics

    small, _ = on_smaller_images(subject)
    found = {} if small is subject else small.once(_statistics_in_keras)
    return found or batch_statistics(subject.keras, subject.required_inputs.keras)


def _configs(subject: Subject, pair: Pair) -> tuple[Config, Config]:
    return subject.torch_layers[pair.torch].config or {}, subject.keras_layers[pair.keras].config or {}


def _untried(subject: Subject, pair: Pair) -> str:
    """Return the reason why a batch normalisation pair cannot be compared in training mode; "" if it can be."""
    torch_config, keras_config = _configs(subject, pair)
    calls = subject.torch_probe.of(pair.torch)
    if len(calls) != 1:
        return "torch does not call the module" if not calls else "torch calls the module several times"
    if not _is_trained(subject, pair):
        return "it keeps its moving statistics in Keras (frozen, or called with training=False)"
    if keras_config.get("renorm"):
        return "Keras corrects the statistics of the batch there (renorm=True)"
    if _is_masked(subject, pair):
        return "Keras leaves masked steps out of the statistics of the batch there"
    if torch_config.get("momentum") is None or not torch_config.get("track_running_stats", True):
        return "torch keeps no moving average for it"
    shape = calls[0].shapes[0]
    return "the inputs have too few values for each channel" if prod(shape) // shape[1] < _FEWEST else ""


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
