"""Pair layers of which only one has a bias: the two compute the same if that bias is zero.

Torch convolutions before a normalisation have no bias, those of some Keras models have one. The layers are paired
without it; the plan then writes zeros where it is missing, and refuses a bias that is not zero.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from keras3conv.alignment.pair import Pair
from keras3conv.model.views import LayerView, ModelView, TensorRef
from keras3conv.planner.evidence.structure import Group, Unmatched, fitting
from keras3conv.rules.rule import WeightMapping
from keras3conv.transforms import Drop, Fill

ROLE = "bias"


def fitting_without_bias(unmatched: Unmatched) -> Iterator[Group]:
    """Yield the groups of layers that fit when the bias that only one side has is left out."""
    torch = _split_by_bias(unmatched.torch_layers)
    keras = _split_by_bias(unmatched.keras_layers)
    yield from fitting(Unmatched(torch_layers=torch[0], keras_layers=tuple(map(_without_bias, keras[1]))))
    yield from fitting(Unmatched(torch_layers=tuple(map(_without_bias, torch[1])), keras_layers=keras[0]))


def with_zeros(pairs: Iterable[Pair], torch: ModelView, keras: ModelView) -> Iterator[Pair]:
    """Yield the pairs, with a mapping to zeros for a bias that only one layer of a pair has.

    A pair may consist of the kernels alone; then the layers that own these count.
    """
    owner = {tensor.path: layer for view in (torch, keras) for layer in view.layers for tensor in layer.tensors}
    for pair in pairs:
        torch_owners = {path.rpartition(".")[0]: owner[path] for mapping in pair.weights for path in mapping.torch}
        keras_owners = {path.rpartition("/")[0]: owner[path] for mapping in pair.weights for path in mapping.keras}
        single = len(torch_owners) == len(keras_owners) == 1
        extra = tuple(_zeros(pair, *torch_owners.values(), *keras_owners.values())) if single else ()
        yield replace(pair, weights=(*pair.weights, *extra)) if extra else pair


def _zeros(pair: Pair, torch: LayerView, keras: LayerView) -> Iterator[WeightMapping]:
    placed = {path for mapping in pair.weights for path in (*mapping.torch, *mapping.keras)}
    torch_bias, keras_bias = _bias(torch), _bias(keras)
    if keras_bias and not torch_bias and keras_bias.path not in placed:
        yield WeightMapping(torch=(), keras=(keras_bias.path,), transform=Fill(0, keras_bias.shape))
    if torch_bias and not keras_bias and torch_bias.path not in placed:
        yield WeightMapping(torch=(torch_bias.path,), keras=(), transform=Drop(0, torch_bias.shape))


def _split_by_bias(layers: Iterable[LayerView]) -> tuple[tuple[LayerView, ...], tuple[LayerView, ...]]:
    """Return the layers without a bias, and those with one among other tensors."""
    known = tuple(layers)
    without = tuple(layer for layer in known if _bias(layer) is None)
    return without, tuple(layer for layer in known if _bias(layer) is not None and len(layer.tensors) > 1)


def _without_bias(layer: LayerView) -> LayerView:
    """Return a layer as it would be without its bias."""
    config = layer.config
    if config is not None:
        config = {**config, **{name: False for name in (ROLE, f"use_{ROLE}") if name in config}}
    return replace(layer, tensors=tuple(tensor for tensor in layer.tensors if tensor.role != ROLE), config=config)


def _bias(layer: LayerView) -> TensorRef | None:
    return next((tensor for tensor in layer.tensors if tensor.role == ROLE), None)
